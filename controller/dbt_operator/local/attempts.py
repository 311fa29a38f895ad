"""The attempts of a run on this machine: a folder each, and what a look at it shows.

job.json      the Job that a cluster would have got; without it there is no attempt
claim         the lock of the process that the attempt has, or once had (supervisor.py)
status.json   what its supervisor has written down
log.jsonl     what the runner has printed, as in the log of a pod
stop          there once the attempt is to stop
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from dbt_operator.api.names import GATE
from dbt_operator.local.pod import Recipe
from dbt_operator.local.supervisor import CLAIM, LOG, STATUS, claim, clear, write
from dbt_operator.plan.facts import JobFacts, PodFacts, pod_facts

_JOB, _STOP = "job.json", "stop"
_NODE = "this machine"
_KILL_AFTER = 5.0  # seconds after the grace period, where the supervisor is gone that would have done it
_VANISHED = "the process was killed together with the one that watched it, so how it ended is not known"


@dataclass(slots=True)
class LocalAttempt:
    """One attempt. `spawned`: a supervisor of ours that may not have claimed it yet."""

    folder: Path
    spawned: "subprocess.Popen[bytes] | None" = None
    _job: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its Job, and of its pod."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """The file that the runner prints to."""
        return self.folder / LOG

    def open_log(self) -> BinaryIO | None:
        """The log from its beginning; None as long as there is none."""
        try:
            return self.log.open("rb")
        except FileNotFoundError:
            return None

    @property
    def job(self) -> dict[str, Any]:
        """The Job that a cluster would have got; empty where the attempt was not created."""
        if not self._job:
            self._job = _json(self.folder / _JOB)
        return self._job

    def create(self, job: Mapping[str, Any], *, uid: str, now: datetime) -> None:
        """Create it, once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.folder / _JOB).exists():
            metadata = {**job["metadata"], "uid": uid, "creationTimestamp": now.isoformat()}
            write(self.folder / _JOB, {**job, "metadata": metadata})

    def start(self, recipe: Recipe) -> None:
        """Start its process; nothing where it has, or has had, one."""
        if self.spawned is not None and self.spawned.poll() is None:
            return
        recipe.write_files(self.folder)
        order = json.dumps(recipe.order(self.folder)).encode()
        argv = [sys.executable, "-m", "dbt_operator.local.supervisor"]
        with (self.folder / "supervisor.log").open("ab") as complaints:
            self.spawned = subprocess.Popen(  # noqa: S603 - our own program
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        assert self.spawned.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
        with suppress(BrokenPipeError):
            self.spawned.stdin.write(order)
            self.spawned.stdin.close()

    def stop(self) -> None:
        """Tell it to end. One that has not begun never will."""
        (self.folder / _STOP).touch()
        descriptor = claim(self.folder / CLAIM, never=True)
        if descriptor is not None:
            os.close(descriptor)
            return
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all of its processes at once."""
        pid = self._pid
        if pid is not None and self.alive:
            # The group is there as long as one of its processes is, so the number is nobody else's.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def enforce(self, *, grace_seconds: float) -> None:
        """Kill what was told to end and does not, where its supervisor is gone."""
        stop = self.folder / _STOP
        if stop.exists() and time.time() - stop.stat().st_mtime > grace_seconds + _KILL_AFTER:
            self.kill()

    def clear(self) -> None:
        """Remove what goes with its process, if that was killed before it could."""
        if not self.alive:
            clear(self.folder)

    def _signal(self, number: signal.Signals) -> None:
        if not self.alive or self._pid is None:
            return
        supervisor = _json(self.folder / STATUS).get("supervisor")
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)
            return
        child = _json(self.folder / STATUS).get("child")
        if supervisor is not None and child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    @property
    def _pid(self) -> int | None:
        pid: int | None = _json(self.folder / CLAIM).get("pid")
        return pid

    @property
    def alive(self) -> bool:
        """Whether a process of it lives: then the kernel keeps the claim locked."""
        try:
            descriptor = os.open(self.folder / CLAIM, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    @property
    def _claimed(self) -> bool:
        with suppress(OSError):
            return (self.folder / CLAIM).stat().st_size > 0
        return False

    def fingerprint(self) -> object:
        """It differs when a look may show something else."""
        times = []
        for name in (STATUS, CLAIM, _STOP, _JOB):
            with suppress(OSError):
                times.append((name, (self.folder / name).stat().st_mtime_ns))
        return (*times, self.alive)

    # what a look shows

    def job_facts(self) -> JobFacts | None:
        """Its Job; None where there is none, or none any more."""
        if not self.job or (self.folder / _STOP).exists():
            return None
        alive, status = self.alive, _json(self.folder / STATUS)
        over, metadata = self._claimed and not alive, self.job["metadata"]
        complete = over and status.get("exit_code") == 0
        return JobFacts(
            name=self.name,
            uid=metadata["uid"],
            created=datetime.fromisoformat(metadata["creationTimestamp"]),
            suspended=False,
            deleting=False,
            failed="its process has ended" if over and not complete else None,
            complete=complete,
            refusal=None,
        )

    def pod_facts(self) -> PodFacts | None:
        """Its pod, as a cluster would show this process."""
        # In this order: what lives now may have written its end a moment later, and nothing after it is dead.
        alive = self.alive
        if not self.job or (self._claimed and self._pid is None):
            return None
        pod = {
            "metadata": self._pod_metadata(alive=alive),
            "spec": self._pod_spec(),
            "status": self._pod_status(alive=alive),
        }
        return pod_facts(pod)

    def _pod_metadata(self, *, alive: bool) -> dict[str, Any]:
        metadata = self.job["metadata"]
        deleting = {"deletionTimestamp": metadata["creationTimestamp"]}
        return {
            "name": self.name,
            "uid": f"{metadata['uid']}-pod",
            "creationTimestamp": metadata["creationTimestamp"],
            **(deleting if alive and (self.folder / _STOP).exists() else {}),
        }

    def _pod_spec(self) -> dict[str, Any]:
        template: dict[str, Any] = self.job["spec"]["template"]["spec"]
        begun = self._claimed or (self.spawned is not None and self.spawned.poll() is None)
        return {
            "containers": template["containers"],
            "schedulingGates": [] if begun else [{"name": GATE}],
            **({"nodeName": _NODE} if begun else {}),
        }

    def _pod_status(self, *, alive: bool) -> dict[str, Any]:
        status = _json(self.folder / STATUS)
        if not self._claimed:
            return {"phase": "Pending"}
        inits = list(_init_statuses(status, alive=alive))
        if alive:
            dbt = {"running": {"startedAt": status["started"]}} if "started" in status else {}
        elif "started" not in status and any(one["state"]["terminated"]["exitCode"] for one in inits):
            dbt = {}  # dbt was not begun, as a step before it has failed
        else:
            dbt = {"terminated": _terminated(status)}
        own = {"containerStatuses": [{"name": "dbt", "state": dbt}]} if dbt else {}
        if alive:
            phase = "Running" if dbt else "Pending"
        else:
            phase = "Succeeded" if status.get("exit_code") == 0 else "Failed"
        return {"phase": phase, "initContainerStatuses": inits, **own}


def _init_statuses(status: Mapping[str, Any], *, alive: bool) -> Iterator[dict[str, Any]]:
    for step in status.get("steps") or ():
        reason = _reason(step["exit_code"], oom=bool(status.get("oom")))
        ended = {"exitCode": step["exit_code"], "reason": reason, "message": step["message"]}
        yield {"name": step["name"], "state": {"terminated": ended}}
    if status.get("step") and all(step["name"] != status["step"] for step in status.get("steps") or ()):
        killed = {"terminated": {"exitCode": 137, "reason": "Error", "message": _VANISHED}}
        yield {"name": status["step"], "state": {"running": {}} if alive else killed}


def _terminated(status: Mapping[str, Any]) -> dict[str, Any]:
    code = status.get("exit_code")
    if code is None:
        # What a kubelet says that finds a container gone.
        ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": _VANISHED}
    elif status.get("start_error"):
        ended = {"exitCode": code, "reason": "StartError", "message": status["start_error"]}
    else:
        ended = {"exitCode": code, "reason": _reason(code, oom=bool(status.get("oom")))}
    return ended | {"startedAt": status.get("started"), "finishedAt": status.get("ended")}


def _reason(code: int, *, oom: bool) -> str:
    if code and oom:
        return "OOMKilled"
    return "Error" if code else "Completed"


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
