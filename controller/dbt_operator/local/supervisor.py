"""The process that an attempt lives in: `python -m dbt_operator.local.supervisor`, with its order on standard input.

It plays the part of a kubelet for one pod: it runs the steps before dbt, one after the other, then the runner, and
writes down how they ended. It outlives the command that has started it, as a pod outlives the operator.

The order has the values of secrets, so it comes through a pipe and lies nowhere. The claim is a lock on a file of the
attempt, which the runner inherits: while any process of the attempt lives the kernel keeps it, whatever was killed, and
no attempt is ever started twice, as a claim that was made once stays written in the file.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

CLAIM, STATUS, LOG, STEPS_LOG = "claim", "status.json", "log.jsonl", "steps.log"
SCRATCH = ("mounts", "tmp")
"""Folders of an attempt that go with its process: what was mounted, with files of Secrets, and temporary files."""
_CLAIM_SECONDS = 5.0
_MEMORY_INTERVAL = 0.2
_SIGNALLED = 128
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Supervisor:
    """Runs one attempt. `order`: what `local.pod.Recipe` says, as JSON."""

    def __init__(self, order: Mapping[str, Any], *, folder: Path, claim: int) -> None:
        self._order, self._folder, self._claim = order, folder, claim
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = self._oom = False
        self._status: dict[str, Any] = {"supervisor": os.getpid()}

    def run(self) -> None:
        """Run everything, and write down how it ended."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self._order["memory_bytes"]:
            threading.Thread(target=self._watch_memory, daemon=True).start()
        if all(self._step(step) for step in self._order["steps"]):
            self._note(step=None, started=_now())
            code = self._execute(self._order["dbt"], log=LOG)
            self._note(exit_code=code, ended=_now(), oom=self._oom)
        else:
            self._note(step=None, ended=_now(), oom=self._oom)

    def _step(self, step: Mapping[str, Any]) -> bool:
        """Run a step before dbt; whether it succeeded."""
        self._note(step=step["name"])
        code = self._execute(step, log=STEPS_LOG)
        message = ""
        with suppress(OSError):
            message = Path(step["message_file"]).read_text(encoding="utf-8")
        steps = [*self._status.get("steps", ()), {"name": step["name"], "exit_code": code, "message": message}]
        self._note(steps=steps)
        return code == 0

    def _execute(self, process: Mapping[str, Any], *, log: str) -> int:
        if self._stopping:
            return _SIGNALLED + signal.SIGTERM
        with (self._folder / log).open("ab") as output:
            try:
                self._child = subprocess.Popen(  # noqa: S603 - the programs that a pod would have
                    process["argv"],
                    cwd=process["cwd"],
                    env=process["env"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self._claim],
                )
            except OSError as error:
                output.write(f"{error}\n".encode())
                self._note(start_error=str(error))
                return _SIGNALLED - 1
        self._note(child=self._child.pid)
        if self._stopping:  # the signal may have come before there was a child
            self._child.terminate()
        code = self._child.wait()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return code if code >= 0 else _SIGNALLED - code

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        """As a kubelet does: the process is told to end, and killed after its grace period."""
        if not self._stopping:
            self._stopping = True
            signal.setitimer(signal.ITIMER_REAL, self._order["grace_seconds"])
        if self._child is not None:
            self._child.terminate()

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        if self._child is not None:
            self._child.kill()

    def _watch_memory(self) -> None:
        """Kill what uses more memory than a pod would have. Only where the system says how much that is."""
        while True:
            time.sleep(_MEMORY_INTERVAL)
            child = self._child
            if child is not None and memory_of_group(os.getpid()) > self._order["memory_bytes"]:
                self._oom = True
                child.kill()

    def _note(self, **what: Any) -> None:
        self._status |= what
        write(self._folder / STATUS, self._status)


def memory_of_group(leader: int) -> int:
    """The memory of all processes of a group but its leader, in bytes; 0 where the system has no /proc."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == leader and int(stat.parent.name) != leader:
                total += int(fields[21]) * _PAGE
    return total


def claim(file: Path, *, never: bool = False) -> int | None:
    """Claim the attempt for this process, for ever; None where it was claimed before.

    never: claim it so that no process will ever have it.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _CLAIM_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if os.fstat(descriptor).st_size or time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(0.005)  # somebody only looks whether it is claimed
    if os.fstat(descriptor).st_size:
        os.close(descriptor)
        return None
    os.write(descriptor, json.dumps({"pid": None if never else os.getpid()}).encode())
    return descriptor


def write(file: Path, value: object) -> None:
    """Write a file as JSON: whoever reads it finds all of it, or what was there before."""
    half = file.with_suffix(".half")
    half.write_text(json.dumps(value), encoding="utf-8")
    half.replace(file)


def clear(folder: Path) -> None:
    """Remove what goes with the process of an attempt."""
    for name in SCRATCH:
        shutil.rmtree(folder / name, ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def main() -> None:
    """The program."""
    try:
        order = json.load(sys.stdin)
    except ValueError:
        return  # who has started this was killed before it had said what to do
    folder = Path(order["folder"])
    descriptor = claim(folder / CLAIM)
    if descriptor is None:
        return
    Supervisor(order, folder=folder, claim=descriptor).run()
    clear(folder)
    # With a pod all of its processes go, also those that dbt has left behind.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
