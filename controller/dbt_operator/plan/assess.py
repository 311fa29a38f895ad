"""Where one attempt stands in its life: one function for each part of that.

    Absent ──► Queued ──► Starting ──► Running ──► Draining ──► Ended
      │          ▲ │          │           │                       ▲
      │          └─┘          │           └── pod gone ───────────┤
      └── refused ────────────┴── never started ──────────────────┘

- Queued: somebody else decides when it may start (a quota, a queueing system, a webhook that fails). No deadline runs.
- Starting: the cluster is busy with it (scheduling, pulling, mounting). The start deadline runs.
- Draining: its process has ended, the rest of its log is still being read. Statuses wait for that, as the log's last
  lines are what proves a success.
- Ended: its outcome is known. Once it is stored it wins over whatever the cluster shows: anybody may delete Jobs and
  pods at any time.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from dbt_operator.api.names import RESERVED_PREFIX
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.view import node_counts, node_views
from dbt_operator.plan.attempt import Assessment, Attempt, Life, Refusal
from dbt_operator.plan.facts import InitFailure, JobFacts, PodFacts, Restarting
from dbt_operator.plan.outcome import KILLED, Outcome, PodEnd, conclude, ending_of


def assess(attempt: Attempt, *, now: datetime, start_deadline: timedelta, asked: Outcome | None = None) -> Assessment:
    """Where the attempt stands at `now`. `asked`: it is to be stopped, and this is then how it ends."""
    if attempt.sealed is not None:
        return _ended(attempt, outcome=attempt.sealed.outcome, state=attempt.sealed.state)
    job, pod = attempt.shown.job, attempt.shown.pod
    if pod is not None and pod.ended:
        return _pod_ended(attempt, pod, asked=asked)
    if pod is not None and pod.running:
        return _running(attempt, pod, asked=asked)  # also when its Job is gone: the process still lives
    if asked is not None and not attempt.log.state.events:
        return _ended(attempt, outcome=asked, state=close(state=attempt.log.state, ending=Ending.CANCELLED))
    if pod is None and job is None:
        return _without_job(attempt, now=now, start_deadline=start_deadline, asked=asked)
    if job is None:
        return _orphaned(attempt)
    if pod is None:
        return _without_pod(attempt, job, now=now, start_deadline=start_deadline, asked=asked)
    return _waiting(attempt, pod, now=now, start_deadline=start_deadline)


def _ended(attempt: Attempt, *, outcome: Outcome, state: AttemptState | None = None) -> Assessment:
    closed = state if state is not None else close(state=attempt.log.state, ending=Ending.LOST)
    return Assessment(attempt, Life.ENDED, outcome.reason, outcome.message, outcome, closed)


def _failed(attempt: Attempt, *, reason: RunReason, message: str) -> Assessment:
    return _ended(attempt, outcome=Outcome(phase=RunPhase.FAILED, reason=reason, message=message))


def _without_job(attempt: Attempt, *, now: datetime, start_deadline: timedelta, asked: Outcome | None) -> Assessment:
    refusal = attempt.shown.refusal
    if attempt.log.state.events and not attempt.log.read:
        return _draining(attempt)
    if attempt.existed:  # what was refused before is history
        return _lost(attempt, message="its Job was deleted", asked=asked)
    if refusal is not None and refusal.reason is RunReason.CONNECTION_NOT_FOUND:
        return _without_connection(attempt, refusal, now=now, start_deadline=start_deadline)
    if refusal is not None:
        return _refused(attempt, refusal)
    return Assessment(attempt, Life.ABSENT, RunReason.ACCEPTED, "The run was accepted.")


def _without_connection(attempt: Attempt, refusal: Refusal, *, now: datetime, start_deadline: timedelta) -> Assessment:
    """What its pod needs may be created a moment after the run: it is waited for as a Secret would be."""
    deadline = (attempt.decided_at or now) + start_deadline
    if now < deadline:
        return Assessment(attempt, Life.STARTING, refusal.reason, refusal.message, deadline=deadline)
    waited = f"; there was none for {start_deadline.total_seconds():.0f} s."
    return _failed(attempt, reason=refusal.reason, message=refusal.message.rstrip(".") + waited)


# They pass without a change of the run: a quota gets room, an administrator grants the right, a webhook answers again.
_PASSING = frozenset({RunReason.QUOTA_EXCEEDED, RunReason.FORBIDDEN, RunReason.API_SERVER_ERROR})


def _refused(attempt: Attempt, refusal: Refusal) -> Assessment:
    if refusal.reason in _PASSING:
        return Assessment(attempt, Life.QUEUED, refusal.reason, refusal.message)
    return _failed(attempt, reason=refusal.reason, message=refusal.message)


def _orphaned(attempt: Attempt) -> Assessment:
    """The Job is gone and its pod will be. It may still start, so nothing else may execute its nodes until then."""
    return Assessment(attempt, Life.STARTING, RunReason.SCHEDULING, "Its Job was deleted; the pod is about to go.")


def _without_pod(
    attempt: Attempt, job: JobFacts, *, now: datetime, start_deadline: timedelta, asked: Outcome | None
) -> Assessment:
    if job.suspended and not attempt.released:
        return Assessment(
            attempt,
            Life.QUEUED,
            RunReason.JOB_SUSPENDED,
            f"Job {job.name} is suspended: its queue has not admitted it.",
        )
    # A queue that suspends a Job at work would later let it begin from the start. Another attempt takes up what is
    # left instead, and this Job must not come back.
    gone = job.failed is not None or job.complete or job.deleting or job.suspended or attempt.release is not None
    if gone and (attempt.log.read or not attempt.log.state.events):
        return _lost(attempt, message=_how_lost(job), asked=asked)
    if gone or attempt.log.state.events:
        # There was a pod and it is gone. The rest of its log, and the condition of the Job, may still come.
        return _draining(attempt)
    if job.refusal is not None:
        return _pod_refused(attempt, job, refusal=job.refusal, now=now, start_deadline=start_deadline)
    return Assessment(
        attempt,
        Life.STARTING,
        RunReason.SCHEDULING,
        f"Job {job.name} has no pod yet.",
        deadline=job.created + start_deadline,
    )


def _how_lost(job: JobFacts) -> str:
    if job.deleting:
        return "its Job was deleted"
    return "its Job was suspended" if job.suspended else "its pod was deleted"


def _pod_refused(
    attempt: Attempt, job: JobFacts, *, refusal: str, now: datetime, start_deadline: timedelta
) -> Assessment:
    """The Job controller keeps trying. Only what can pass by itself is waited for."""
    if "exceeded quota" in refusal:
        return Assessment(attempt, Life.QUEUED, RunReason.QUOTA_EXCEEDED, f"The pod waits for quota: {refusal}")
    deadline = job.created + start_deadline
    message = f"The pod of Job {job.name} is refused: {refusal}"
    hopeless = _HOPELESS_REFUSAL.search(refusal) is not None
    if hopeless or now >= deadline:
        check = "; check spec.podTemplate" if hopeless else ""
        return _failed(attempt, reason=RunReason.ADMISSION_DENIED, message=message.rstrip(".") + check + ".")
    return Assessment(attempt, Life.STARTING, RunReason.SCHEDULING, message, deadline=deadline)


# Pod security, a LimitRange, a quota that wants every container to have requests or limits.
_HOPELESS_REFUSAL = re.compile(r"violates PodSecurity| per (?:Container|Pod) is |failed quota: .*must specify ")


def _pod_ended(attempt: Attempt, pod: PodFacts, *, asked: Outcome | None) -> Assessment:
    if pod.init_failure is not None and pod.terminated is None:
        return _init_failed(attempt, pod, pod.init_failure, asked=asked)
    if pod.terminated is not None and pod.terminated.reason in ("StartError", "ContainerCannotRun"):
        return _failed(
            attempt,
            reason=RunReason.CONTAINER_START_FAILED,
            message=f"The container of pod {pod.name} could not be started: {pod.terminated.message}",
        )
    if not attempt.log.read:
        return _draining(attempt)
    if (attempt.log.incomplete or pod.deleting) and attempt.log.state.finished is None:
        # The process ended by itself, but the end of its log was lost with the pod. The log of a pod that is being
        # deleted may have been cut while it was read, and look complete.
        return _lost(attempt, message="it was deleted before its log was read", asked=asked)
    return _concluded(attempt, pod_end=_pod_end(pod), asked=asked)


def _init_failed(attempt: Attempt, pod: PodFacts, failure: InitFailure, *, asked: Outcome | None) -> Assessment:
    """The end of a pod in which dbt was not started. The project's own errors are told from those of the cluster."""
    ended, own = failure.ended, failure.name.startswith(RESERVED_PREFIX)
    if failure.step is not None:
        return _failed(attempt, reason=failure.step.reason, message=failure.step.message)
    if own and ended.reason == RunReason.OOM_KILLED:
        end = PodEnd(kind=RunReason.OOM_KILLED, exit_code=ended.exit_code, memory_limit=pod.memory_limit)
        return _concluded(attempt, pod_end=end, asked=asked)
    if pod.deleting or _pod_end(pod).kind == RunReason.EVICTED or (own and ended.exit_code in KILLED):
        return _concluded(attempt, pod_end=_pod_end(pod), asked=asked)
    return _failed(
        attempt,
        reason=RunReason.CONTAINER_START_FAILED,
        message=f"The init container {failure.name} of pod {pod.name} failed with exit code {ended.exit_code}:"
        f" {ended.message or ended.reason}",
    )


def _concluded(attempt: Attempt, *, pod_end: PodEnd, asked: Outcome | None) -> Assessment:
    log = attempt.log
    finished = log.state.finished
    if asked is not None and (finished is None or finished.cancelled):
        # If dbt came to its own end before the wish reached it, what it did counts.
        state = close(state=log.state, ending=Ending.CANCELLED)
        return _ended(attempt, outcome=replace(asked, message=f"{asked.message} {_progress(state)}"), state=state)
    if log.unreadable is not None and finished is None:
        message = f"What dbt did is unknown, as the log of its pod could not be read: {log.unreadable}"
        return _failed(attempt, reason=RunReason.LOG_UNREADABLE, message=message)
    state = close(state=log.state, ending=ending_of(state=log.state, pod=pod_end))
    outcome = conclude(state=state, pod=pod_end)
    if outcome.phase is RunPhase.CANCELLED:
        # dbt was told to stop and did. Nobody asked the run to stop, so for the run its pod was lost.
        reason = RunReason.EVICTED if pod_end.kind == RunReason.EVICTED else RunReason.POD_LOST
        detail = f" ({pod_end.message})" if pod_end.message else ""
        message = f"The pod was stopped while dbt was at work{detail}. {_progress(state)}"
        outcome = Outcome(phase=RunPhase.FAILED, reason=reason, message=message)
    return _ended(attempt, outcome=_taken_back(attempt, outcome, state) or outcome, state=state)


def _taken_back(attempt: Attempt, outcome: Outcome, state: AttemptState) -> Outcome | None:
    """The end of an attempt whose Job was suspended while it was at work: a queue gives its place to another Job.

    The work goes on later, and uses up no restart.
    """
    job = attempt.shown.job
    if job is None or not job.suspended or outcome.reason not in (RunReason.POD_LOST, RunReason.EVICTED):
        return None
    message = f"Job {job.name} was suspended while dbt was at work. {_progress(state)}"
    return Outcome(phase=RunPhase.CANCELLED, reason=RunReason.JOB_SUSPENDED, message=message)


def _progress(state: AttemptState) -> str:
    counts = node_counts(views=node_views(state=state))
    if not counts.total:
        return "dbt had not executed any node."
    return f"{counts.good} of {counts.total} nodes had succeeded, {counts.cancelled} were cancelled."


def _lost(attempt: Attempt, *, message: str, asked: Outcome | None) -> Assessment:
    """The pod is gone. If no look at the cluster has seen why, the watch may have."""
    seen = attempt.shown.pod or attempt.shown.last_pod
    end = _pod_end(seen) if seen is not None else None
    if end is None or end.kind not in (RunReason.OOM_KILLED, RunReason.EVICTED):
        end = PodEnd(kind="Lost", message=message)
    return _concluded(attempt, pod_end=end, asked=asked)


def _draining(attempt: Attempt) -> Assessment:
    return Assessment(
        attempt,
        Life.DRAINING,
        RunReason.FINISHING,
        "dbt has ended; the last of its log is being read.",
        state=attempt.log.state,
    )


def _running(attempt: Attempt, pod: PodFacts, *, asked: Outcome | None) -> Assessment:
    state = attempt.log.state
    if asked is not None:
        message = "dbt was told to stop and is cancelling its queries."
        return Assessment(attempt, Life.RUNNING, RunReason.STOPPING, message, state=state)
    if attempt.log.stalled is not None:
        message = f"The log of pod {pod.name} cannot be read; dbt may be at work all the same: {attempt.log.stalled}"
        return Assessment(attempt, Life.RUNNING, RunReason.LOG_UNREADABLE, message, state=state)
    if state.without_nodes is not None:
        message = f"dbt {state.without_nodes.rules.words} is at work."
        return Assessment(attempt, Life.RUNNING, RunReason.EXECUTING, message, state=state)
    if state.executing:
        return Assessment(attempt, Life.RUNNING, RunReason.EXECUTING, "dbt is executing nodes.", state=state)
    return Assessment(attempt, Life.RUNNING, RunReason.PARSING, "dbt is loading the project.", state=state)


# By the reason with which a container waits: the reason of the run while it may pass, and at the deadline.
_IMAGE = (RunReason.PULLING_IMAGE, RunReason.IMAGE_PULL_FAILED)
_CONFIG = (RunReason.CREATING_CONTAINER, RunReason.CONTAINER_CONFIG_ERROR)
_WAITING: dict[str, tuple[RunReason, RunReason]] = {
    "ErrImagePull": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": _IMAGE,
    "InvalidImageName": _IMAGE,
    "ImageInspectError": _IMAGE,
    "RegistryUnavailable": _IMAGE,
    "CreateContainerConfigError": _CONFIG,
    "CreateContainerError": (RunReason.CREATING_CONTAINER, RunReason.CONTAINER_START_FAILED),
    "RunContainerError": (RunReason.CREATING_CONTAINER, RunReason.CONTAINER_START_FAILED),
    "CrashLoopBackOff": (RunReason.CREATING_CONTAINER, RunReason.CONTAINER_START_FAILED),
}


# No pod will ever get an image of such a name, so the deadline is not waited for.
_HOPELESS_WAITING = frozenset({"InvalidImageName", "ErrImageNeverPull"})
# The registry refuses. An image without the name of a registry is looked for on the node itself: nothing answers there.
_REFUSED_IMAGE = re.compile(
    r"not ?found|(?:manifest|name) unknown|does not exist|denied|unauthorized|forbidden|no such host|"
    r"dial tcp (?:127\.\d+\.\d+\.\d+|\[::1\]):\d+: connect: connection refused",
    re.IGNORECASE,
)
# The registry does not answer, or not now.
_NO_ANSWER = re.compile(
    r"timeout|timed out|deadline exceeded|connection (?:refused|reset)|unreachable|no route to host|\bEOF\b|"
    r"server misbehaving|temporary failure|try again|too ?many ?requests|rate limit|internal server error|"
    r"bad gateway|service unavailable|RegistryUnavailable",
    re.IGNORECASE,
)


# A volume refers to a Secret, a ConfigMap or a key that is not there: it would be missing for another pod, too.
_MISSING_OBJECT = re.compile(r'(?:secret|configmap) "[^"]+" not found|references non-existent (?:secret|config) key')


def _waiting(attempt: Attempt, pod: PodFacts, *, now: datetime, start_deadline: timedelta) -> Assessment:
    live, failure, message = _obstacle(pod)
    if pod.held and attempt.shown.refusal is not None:
        return _refused(attempt, attempt.shown.refusal)
    if pod.held:
        return Assessment(attempt, Life.STARTING, live, message)  # it waits for us, so no deadline runs
    if pod.waiting is not None and pod.waiting[0] in _HOPELESS_WAITING:
        return _failed(attempt, reason=failure, message=f"{message.rstrip('.')}.")
    released = attempt.release.at if attempt.release is not None else pod.created
    # After the release was recorded the API server may have refused it for long.
    deadline = max(pod.created, released, attempt.shown.let_go or pod.created) + start_deadline
    if now < deadline:
        return Assessment(attempt, Life.STARTING, live, message, deadline=deadline)
    return _failed(
        attempt,
        reason=failure,
        message=f"{message.rstrip('.')}; it did not start within {start_deadline.total_seconds():.0f} s.",
    )


def _obstacle(pod: PodFacts) -> tuple[RunReason, RunReason, str]:
    """What keeps the pod from starting: the reason while it may pass, the reason at the deadline, and a sentence."""
    if pod.unschedulable is not None:
        return RunReason.SCHEDULING, RunReason.UNSCHEDULABLE, f"Pod {pod.name} cannot be scheduled: {pod.unschedulable}"
    reason, detail = pod.waiting or ("", "")
    if pod.sidecar is not None and reason in ("", "PodInitializing", "CrashLoopBackOff"):
        return RunReason.CREATING_CONTAINER, RunReason.CONTAINER_START_FAILED, _restarts(pod.name, pod.sidecar)
    if reason in _WAITING:
        live, failure = _WAITING[reason]
        if failure is RunReason.IMAGE_PULL_FAILED and _may_be_pulled_yet(reason, detail):
            failure = RunReason.REGISTRY_UNAVAILABLE
        return live, failure, f"Pod {pod.name} is waiting ({reason}): {detail}"
    if pod.mount_failure is not None:
        missing = _MISSING_OBJECT.search(pod.mount_failure) is not None
        return (
            RunReason.CREATING_CONTAINER,
            RunReason.CONTAINER_CONFIG_ERROR if missing else RunReason.VOLUME_MOUNT_FAILED,
            f"A volume of pod {pod.name} cannot be mounted: {pod.mount_failure}",
        )
    if pod.node is None:
        gates = ", ".join(pod.other_gates)
        waits = f"until {gates} is removed from its scheduling gates" if gates else "for a node"
        return RunReason.SCHEDULING, RunReason.START_DEADLINE_EXCEEDED, f"Pod {pod.name} waits {waits}."
    return (
        RunReason.CREATING_CONTAINER,
        RunReason.START_DEADLINE_EXCEEDED,
        f"Pod {pod.name} is being started ({pod.initializing or reason or pod.phase}).",
    )


def _may_be_pulled_yet(reason: str, detail: str) -> bool:
    """Whether the registry does not answer. One that answers has refused each try of the kubelet."""
    return _REFUSED_IMAGE.search(detail) is None and _NO_ANSWER.search(f"{reason} {detail}") is not None


def _restarts(pod: str, sidecar: Restarting) -> str:
    times = f"was started {sidecar.restarts + 1} times and ended at last with exit code {sidecar.last.exit_code}"
    detail = f": {sidecar.last.message}" if sidecar.last.message else ""
    return f"The sidecar {sidecar.name} of pod {pod} {times}{detail}"


# Checked in this order: what the cluster did to the pod explains an exit code, not the other way round.
_END_KINDS: tuple[tuple[str, Callable[[PodFacts], bool]], ...] = (
    (RunReason.OOM_KILLED.value, lambda pod: pod.terminated is not None and pod.terminated.reason == "OOMKilled"),
    (RunReason.EVICTED.value, lambda pod: pod.pod_reason == "Evicted" or pod.disruption is not None),
    ("Lost", lambda pod: pod.terminated is None or pod.pod_reason in ("NodeLost", "NodeShutdown", "Terminated")),
)


def _pod_end(pod: PodFacts) -> PodEnd:
    ended = pod.terminated
    kind = next((kind for kind, holds in _END_KINDS if holds(pod)), ended.reason if ended else "Lost")
    message = pod.pod_message or pod.disruption or (ended.message if ended else "")
    exit_code = ended.exit_code if ended else None
    return PodEnd(kind=kind, exit_code=exit_code, message=message, memory_limit=pod.memory_limit)
