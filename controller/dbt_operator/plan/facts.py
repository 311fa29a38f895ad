"""What the cluster shows of an attempt, as plain values.

`job_facts` and `pod_facts` read raw objects, tolerating every field that is absent: an object read a moment after its
creation has next to none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dbt_operator.api.names import GATE, RESERVED_PREFIX
from dbt_operator.api.reason_table import about
from dbt_operator.api.reasons import RunReason

CONTAINER = "dbt"
LABEL_JOB_NAME = "batch.kubernetes.io/job-name"
_LABEL_JOB_UID = "batch.kubernetes.io/controller-uid"


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A Job of a run."""

    name: str
    uid: str
    created: datetime
    suspended: bool
    deleting: bool
    failed: str | None  # message of the condition Failed
    complete: bool
    refusal: str | None  # why the Job controller cannot create the pod, from the Job's events


@dataclass(frozen=True, slots=True)
class Terminated:
    """How a container ended."""

    exit_code: int
    reason: str  # Completed, Error, OOMKilled, ContainerCannotRun, StartError, …
    message: str


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a step before dbt has failed: a reason of a run, and a sentence."""

    reason: RunReason
    message: str


@dataclass(frozen=True, slots=True)
class InitFailure:
    """An init container that failed. `step`: why, where it is one of the operator's steps."""

    name: str
    ended: Terminated
    step: StepFailure | None = None


@dataclass(frozen=True, slots=True)
class Restarting:
    """A sidecar (an init container with restartPolicy Always) that was started anew, and how it ended last."""

    name: str
    restarts: int
    last: Terminated


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod of an attempt."""

    name: str
    uid: str
    phase: str
    node: str | None
    created: datetime
    deleting: bool
    pod_reason: str | None  # status.reason: Evicted, NodeLost, …
    pod_message: str | None
    disruption: str | None  # message of the condition DisruptionTarget
    unschedulable: str | None  # the scheduler's message
    waiting: tuple[str, str] | None  # reason and message of the first container that waits
    running: bool  # the dbt container has started and not ended
    started: datetime | None
    terminated: Terminated | None
    ended_at: datetime | None
    init_failure: InitFailure | None  # of an init container that is no sidecar
    mount_failure: str | None  # the kubelet's message of a volume that cannot be mounted, from the pod's events
    sidecar: Restarting | None = None  # the first one that exits again and again
    memory_limit: str | None = None  # of the dbt container, as its spec has it
    gates: tuple[str, ...] = ()  # that keep it from being scheduled
    job: str | None = None  # the uid of its Job
    found: Mapping[str, str] = field(default_factory=dict)  # what the steps before dbt have found out, see `dbt.found`
    initializing: str | None = None  # the init container, no sidecar, that is at work
    others: tuple[str, ...] = ()  # containers beside dbt's, no init containers, that have not ended

    @property
    def ended(self) -> bool:
        """Whether no process of this pod can be alive any more."""
        return self.phase in ("Succeeded", "Failed") or self.terminated is not None

    @property
    def held(self) -> bool:
        """Whether it waits for the operator: until it is released it gets no node, and so no process."""
        return GATE in self.gates

    @property
    def other_gates(self) -> tuple[str, ...]:
        """What else keeps it from being scheduled, by somebody else's wish."""
        return tuple(gate for gate in self.gates if gate != GATE)

    @property
    def has_started(self) -> bool:
        """Whether the dbt container ran, so that there is a log to read."""
        return self.running or self.terminated is not None


def job_facts(job: Mapping[str, Any], *, events: Sequence[Mapping[str, Any]] = ()) -> JobFacts:
    """Facts of a Job. `events`: those about it, as `FailedCreate` is shown nowhere else."""
    metadata, status = job["metadata"], job.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or () if c.get("status") == "True"}
    refusals = [e.get("message") or "" for e in events if e.get("reason") == "FailedCreate"]
    return JobFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        created=parse_time(metadata["creationTimestamp"]),
        suspended=bool((job.get("spec") or {}).get("suspend")),
        deleting="deletionTimestamp" in metadata,
        failed=conditions["Failed"].get("message", "") if "Failed" in conditions else None,
        complete="Complete" in conditions,
        refusal=refusals[-1] if refusals else None,
    )


def pod_facts(pod: Mapping[str, Any], *, events: Sequence[Mapping[str, Any]] = ()) -> PodFacts:
    """Facts of a pod. `events`: those about it, oldest first, as some obstacles are shown nowhere else."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled") or {}
    disruption = conditions.get("DisruptionTarget") or {}
    sidecars = {one["name"] for one in _spec(pod, "initContainers") if one.get("restartPolicy") == "Always"}
    inits = status.get("initContainerStatuses") or ()
    own: Mapping[str, Any] = next((c for c in status.get("containerStatuses") or () if c.get("name") == CONTAINER), {})
    state = own.get("state") or {}
    waiting = [c["state"]["waiting"] for c in (*inits, own) if (c.get("state") or {}).get("waiting")]
    ended = state.get("terminated")
    failed_inits = (_init_failure(c) for c in inits if c.get("name") not in sidecars)
    mounts = [e.get("message") or "" for e in events if e.get("reason") in ("FailedMount", "FailedAttachVolume")]
    return PodFacts(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase") or "Pending",
        node=(pod.get("spec") or {}).get("nodeName"),
        created=parse_time(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        pod_reason=status.get("reason"),
        pod_message=status.get("message"),
        disruption=disruption.get("message", "") if disruption.get("status") == "True" else None,
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else None,
        waiting=_with_its_cause(_first_known_reason(waiting), events),
        running="running" in state,
        started=optional_time((state.get("running") or ended or {}).get("startedAt")),
        terminated=_terminated(ended) if ended else None,
        ended_at=optional_time((ended or {}).get("finishedAt")),
        init_failure=next(filter(None, failed_inits), None),
        mount_failure=mounts[-1] if mounts else None,
        sidecar=next(filter(None, (_restarting(c) for c in inits if c.get("name") in sidecars)), None),
        memory_limit=_memory_limit(pod),
        job=(metadata.get("labels") or {}).get(_LABEL_JOB_UID),
        gates=tuple(gate["name"] for gate in _spec(pod, "schedulingGates")),
        initializing=next(
            (c["name"] for c in inits if "running" in (c.get("state") or {}) and c["name"] not in sidecars), None
        ),
        found=_found(inits),
        others=_others(status),
    )


def _found(inits: Sequence[Mapping[str, Any]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for container in inits:
        ended = (container.get("state") or {}).get("terminated") or {}
        if str(container.get("name")).startswith(RESERVED_PREFIX) and ended.get("exitCode") == 0:
            said = _words(ended).get("found")
            found |= {str(name): str(value) for name, value in said.items()} if isinstance(said, dict) else {}
    return found


def _words(ended: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a step has written into its termination message; nothing where it was killed, or could not start."""
    try:
        words = json.loads(ended.get("message") or "")
    except ValueError:
        return {}
    return words if isinstance(words, dict) else {}


def _init_failure(container: Mapping[str, Any]) -> InitFailure | None:
    ended, name = (container.get("state") or {}).get("terminated") or {}, container.get("name") or ""
    if not ended.get("exitCode"):
        return None
    # No container of the user's has a name like that: what stands in its message was written by our own program.
    step = _step_failure(_words(ended)) if name.startswith(RESERVED_PREFIX) else None
    return InitFailure(name, _terminated(ended), step)


def _step_failure(words: Mapping[str, Any]) -> StepFailure | None:
    reason = RunReason(str(words.get("reason")))
    return StepFailure(reason, str(words.get("message"))) if about(reason).step else None


def _others(status: Mapping[str, Any]) -> tuple[str, ...]:
    if status.get("phase") in ("Succeeded", "Failed"):
        return ()
    others = (one for one in status.get("containerStatuses") or () if one.get("name") != CONTAINER)
    return tuple(one["name"] for one in others if "terminated" not in (one.get("state") or {}))


def _spec(pod: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    return (pod.get("spec") or {}).get(field) or ()


def _restarting(container: Mapping[str, Any]) -> Restarting | None:
    ends = [(container.get(one) or {}).get("terminated") for one in ("state", "lastState")]
    ended = next(filter(None, ends), None)
    restarts = container.get("restartCount") or 0
    return Restarting(container["name"], restarts, _terminated(ended)) if restarts and ended else None


def _with_its_cause(waiting: tuple[str, str] | None, events: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Before 1.32 Kubernetes only shows that it backs off from pulling an image. An Event has the reason."""
    pulls = [e.get("message") or "" for e in events if e.get("reason") == "Failed"]
    pulls = [message for message in pulls if message.startswith("Failed to pull image")]
    return (waiting[0], pulls[-1]) if waiting is not None and waiting[0] == "ImagePullBackOff" and pulls else waiting


def _memory_limit(pod: Mapping[str, Any]) -> str | None:
    own: Mapping[str, Any] = next((one for one in _spec(pod, "containers") if one.get("name") == CONTAINER), {})
    limit: str | None = ((own.get("resources") or {}).get("limits") or {}).get("memory")
    return limit


def _first_known_reason(waiting: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The most useful waiting state: `PodInitializing` only means that another container is in the way."""
    reasons = [(w.get("reason") or "", w.get("message") or "") for w in waiting]
    return next(
        (w for w in reasons if w[0] not in ("", "PodInitializing", "ContainerCreating")),
        reasons[0] if reasons else None,
    )


def _terminated(state: Mapping[str, Any]) -> Terminated:
    return Terminated(
        exit_code=int(state.get("exitCode", -1)), reason=state.get("reason") or "", message=state.get("message") or ""
    )


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of the API as an aware datetime."""
    return datetime.fromisoformat(text)


def optional_time(text: str | None) -> datetime | None:
    """The same; None where there is none."""
    return parse_time(text) if text else None
