"""Where one attempt stands: one function per stage of its life.

    Absent ──► Queued ──► Starting ──► Running ──► Draining ──► Ended
      │          ▲ │          │           │                       ▲
      │          └─┘          │           └── pod gone ───────────┤
      └── refused ────────────┴── never started ──────────────────┘

- Queued: somebody else decides when it may start (a quota, a queueing system). No deadline runs.
- Starting: the cluster is busy with it (scheduling, pulling, mounting). The start deadline runs.
- Draining: its process has ended, the rest of its log is still being read. Statuses wait for that, as the log's last
  lines are what proves a success.
- Ended: its outcome is known. Jobs and pods may be deleted by anybody at any time, so what is stored in the run's
  status wins from then on over whatever the cluster shows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY, AttemptState, Ending
from dbt_operator.dbt.view import node_counts, node_views
from dbt_operator.plan.facts import JobFacts, PodFacts
from dbt_operator.plan.outcome import Outcome, PodEnd, conclude, ending_of


class Stage(StrEnum):
    """Stage of an attempt."""

    ABSENT = "Absent"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    DRAINING = "Draining"
    ENDED = "Ended"


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What has been read of an attempt's log."""

    state: AttemptState = EMPTY
    ended: bool = False  # everything there is to read has been read
    gone: bool = False  # … or its pod was gone before that: what was not read yet is lost
    unreadable: str | None = None  # why reading was given up
    position: datetime | None = None  # the kubelet's time of the last line that was read


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the apiserver did not take the attempt's Job."""

    reason: RunReason  # QuotaExceeded, Forbidden, AdmissionDenied, InvalidPodTemplate or NameConflict
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """A retry that a person asked for with the annotation. `unique_id`: of the node; None: all that is not done."""

    token: str
    unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """That there is to be an attempt. Once it is recorded it is never taken back, nor changed."""

    index: int  # among all attempts of the run, from 1: whoever records an index first has decided it
    kind: AttemptKind
    name: str  # of its Job
    nodes: frozenset[str] | None = None  # to execute; None: all that the run selects
    requests: tuple[Request, ...] = ()  # that it answers; with them a new episode of the run begins
    roots: tuple[str, ...] | None = None  # the episode is limited to these nodes and what is below them


@dataclass(frozen=True, slots=True)
class Sealed:
    """How an attempt ended, stored for good: from then on its Job, its pod and their log are not needed any more."""

    outcome: Outcome
    state: AttemptState
    ended_at: datetime
    gone: bool  # its process was known to be gone at that moment
    started: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """All that is known of one attempt."""

    name: str  # of its Job
    job: JobFacts | None = None
    pod: PodFacts | None = None  # the newest
    last_pod: PodFacts | None = None  # what was seen of the pod at last, when it is gone
    log: LogFacts = LogFacts()
    refusal: Refusal | None = None
    created: bool = False  # status.attempts says that its Job was created
    began: datetime | None = None  # when its container started, as status.attempts remembers it
    decision: Decision | None = None
    sealed: Sealed | None = None

    @property
    def kind(self) -> AttemptKind:
        """What it is for."""
        return self.decision.kind if self.decision is not None else AttemptKind.PRODUCER

    @property
    def started(self) -> datetime | None:
        """When its container started."""
        seen = self.pod.started if self.pod is not None else None
        return (self.sealed.started if self.sealed is not None else None) or seen or self.began

    @property
    def existed(self) -> bool:
        """Whether its Job is known to have been created, by whatever it has left."""
        seen = self.job is not None or self.pod is not None
        return self.created or seen or self.log.ended or bool(self.log.state.events)

    @property
    def whole(self) -> bool:
        """Whether it is to execute all that the run selects."""
        return self.decision is None or self.decision.nodes is None

    def covers(self, unique_id: str) -> bool:
        """Whether the node is one of those that it is to execute."""
        nodes = self.decision.nodes if self.decision is not None else None
        return nodes is None or unique_id in nodes


@dataclass(frozen=True, slots=True)
class Assessment:
    """Where an attempt stands, and what the run shows of it."""

    attempt: Attempt
    stage: Stage
    reason: RunReason
    message: str
    outcome: Outcome | None = None  # only when Ended
    state: AttemptState = EMPTY  # of its nodes; closed when Ended
    deadline: datetime | None = None  # when Starting becomes a failure

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.stage is not Stage.ENDED

    @property
    def ended_at(self) -> datetime | None:
        """When its end was stored."""
        return self.attempt.sealed.ended_at if self.attempt.sealed is not None else None

    @property
    def gone(self) -> bool:
        """Whether the process of an ended attempt is known to be gone.

        A pod object can be taken away by force while its process lives on, and the control plane calls a pod Failed
        whose node it has not heard of for long. That the process is gone is known where the kubelet was seen to say
        so, where dbt has said its last word, and where there never was, nor will be, a process.
        """
        attempt, last = self.attempt, self.attempt.last_pod
        if attempt.sealed is not None:
            # One that did not start in time may have started all the same, and have been taken away by force then.
            began = attempt.sealed.started is None and last is not None and last.running
            return attempt.sealed.gone and not began
        if attempt.pod is not None:
            # One that a kubelet has may start until it is deleted, and nobody may see it start.
            return not attempt.pod.running and (attempt.pod.over or attempt.pod.node is None)
        if last is not None and last.terminated is not None:
            return True
        awaited = last is None and self.left_over and attempt.started is None and not attempt.log.ended
        return awaited or not attempt.existed or attempt.log.state.finished is not None

    @property
    def left_over(self) -> bool:
        """Whether the cluster still shows something of an ended attempt that has, or may yet get, a process.

        An attempt can end for us before it is gone: when it did not start in time, or was to stop before it had begun.
        Its pod may start all the same until it is deleted.
        """
        job, pod = self.attempt.job, self.attempt.pod
        if pod is not None:
            return not pod.over
        return job is not None and not (job.complete or job.deleting or job.failed is not None)

    @property
    def must_stop(self) -> bool:
        """Whether its Job still lives although it has ended for us, or is to end."""
        job = self.attempt.job
        return (
            (self.stage is Stage.ENDED or self.reason is RunReason.STOPPING)
            and job is not None
            and not (job.complete or job.deleting or job.failed is not None)
            and not (self.attempt.pod is not None and self.attempt.pod.over)
        )


def history_of_run(assessments: Iterable[Assessment], *, pending: frozenset[str] = frozenset()) -> History:
    """What the attempts of a run have said. `pending`: nodes that are to be executed yet."""
    assessments = tuple(assessments)
    parts = frozenset(index for index, each in enumerate(assessments) if not each.attempt.whole)
    return History(attempts=tuple(each.state for each in assessments), pending=pending, parts=parts)


def assess(attempt: Attempt, *, now: datetime, start_deadline: timedelta, asked: Outcome | None = None) -> Assessment:
    """Where the attempt stands at `now`. `asked`: it is to be stopped, and this is then how it ends."""
    if attempt.sealed is not None:
        return _ended(attempt, outcome=attempt.sealed.outcome, state=attempt.sealed.state)
    if attempt.pod is not None and attempt.pod.over:
        return _pod_over(attempt, attempt.pod, asked=asked)
    if attempt.pod is not None and attempt.pod.running:
        return _running(attempt, asked=asked)  # also when its Job is gone: the process still lives
    if asked is not None and not attempt.log.state.events:
        return _ended(attempt, outcome=asked, state=close(state=attempt.log.state, ending=Ending.CANCELLED))
    if attempt.job is None and attempt.pod is None:
        return _without_job(attempt, asked=asked)
    if attempt.job is None:
        return _orphaned(attempt)
    if attempt.pod is None:
        return _without_pod(attempt, attempt.job, now=now, start_deadline=start_deadline, asked=asked)
    return _waiting(attempt, attempt.pod, now=now, start_deadline=start_deadline)


def _ended(attempt: Attempt, *, outcome: Outcome, state: AttemptState | None = None) -> Assessment:
    closed = state if state is not None else close(state=attempt.log.state, ending=Ending.LOST)
    return Assessment(attempt, Stage.ENDED, outcome.reason, outcome.message, outcome, closed)


def _failed(attempt: Attempt, *, reason: RunReason, message: str) -> Assessment:
    return _ended(attempt, outcome=Outcome(phase=RunPhase.FAILED, reason=reason, message=message))


def _without_job(attempt: Attempt, *, asked: Outcome | None) -> Assessment:
    refusal = attempt.refusal
    if attempt.log.state.events and not attempt.log.ended:
        return _draining(attempt)
    if attempt.existed:  # what was refused before is history
        return _lost(attempt, message="its Job was deleted", asked=asked)
    if refusal is not None and refusal.reason in (RunReason.QUOTA_EXCEEDED, RunReason.FORBIDDEN):
        # Both pass without a change of the run: a quota gets room, an administrator grants the right.
        return Assessment(attempt, Stage.QUEUED, refusal.reason, refusal.message)
    if refusal is not None:
        return _failed(attempt, reason=refusal.reason, message=refusal.message)
    return Assessment(attempt, Stage.ABSENT, RunReason.ACCEPTED, "The run was accepted.")


def _orphaned(attempt: Attempt) -> Assessment:
    """The Job is gone, its pod is about to be: it may still start, so nothing else may run its nodes meanwhile."""
    return Assessment(attempt, Stage.STARTING, RunReason.SCHEDULING, "Its Job was deleted; the pod is about to go.")


def _without_pod(
    attempt: Attempt, job: JobFacts, *, now: datetime, start_deadline: timedelta, asked: Outcome | None
) -> Assessment:
    began = bool(attempt.log.state.events) or attempt.began is not None
    if job.suspended and not began:
        return Assessment(
            attempt,
            Stage.QUEUED,
            RunReason.JOB_SUSPENDED,
            f"Job {job.name} is suspended: its queue has not admitted it.",
        )
    # A queue that takes its place back suspends the Job and would later let it begin from the start: what is left is
    # taken up by another attempt instead, and this Job must not come back.
    over = job.failed is not None or job.complete or job.deleting or job.suspended
    if over and (attempt.log.ended or not attempt.log.state.events):
        return _lost(attempt, message=_how_lost(job), asked=asked)
    if over or attempt.log.state.events:
        # There was a pod and it is gone: its last words may still be on their way to us, and the Job's own word too.
        return _draining(attempt)
    if job.refusal is not None:
        return _pod_refused(attempt, job, refusal=job.refusal, now=now, start_deadline=start_deadline)
    return Assessment(
        attempt,
        Stage.STARTING,
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
    """The Job controller keeps trying, so only what can pass by itself is waited for."""
    if "exceeded quota" in refusal:
        return Assessment(attempt, Stage.QUEUED, RunReason.QUOTA_EXCEEDED, f"The pod waits for quota: {refusal}")
    hopeless = "violates PodSecurity" in refusal or " per Container is " in refusal or " per Pod is " in refusal
    deadline = job.created + start_deadline
    message = f"The pod of Job {job.name} is refused: {refusal}"
    if hopeless or now >= deadline:
        return _failed(attempt, reason=RunReason.ADMISSION_DENIED, message=message)
    return Assessment(attempt, Stage.STARTING, RunReason.SCHEDULING, message, deadline=deadline)


def _pod_over(attempt: Attempt, pod: PodFacts, *, asked: Outcome | None) -> Assessment:
    if pod.init_failure is not None and pod.terminated is None:
        return _failed(
            attempt,
            reason=RunReason.CONTAINER_START_FAILED,
            message=f"An init container of pod {pod.name} failed with exit code {pod.init_failure.exit_code}:"
            f" {pod.init_failure.message or pod.init_failure.reason}",
        )
    if pod.terminated is not None and pod.terminated.reason in ("StartError", "ContainerCannotRun"):
        return _failed(
            attempt,
            reason=RunReason.CONTAINER_START_FAILED,
            message=f"The container of pod {pod.name} could not be started: {pod.terminated.message}",
        )
    if not attempt.log.ended:
        return _draining(attempt)
    if attempt.log.gone and attempt.log.state.finished is None:
        # That the process ended by itself is seen, and dbt's last words are among what was lost with the pod.
        return _lost(attempt, message="it was deleted before its log was read", asked=asked)
    return _concluded(attempt, pod_end=_pod_end(pod), asked=asked)


def _concluded(attempt: Attempt, *, pod_end: PodEnd, asked: Outcome | None) -> Assessment:
    log = attempt.log
    finished = log.state.finished
    if asked is not None and (finished is None or finished.cancelled):
        # What dbt has brought to its own end before the wish reached it is judged by what it did.
        state = close(state=log.state, ending=Ending.CANCELLED)
        return _ended(attempt, outcome=replace(asked, message=f"{asked.message} {_progress(state)}"), state=state)
    if log.unreadable is not None and finished is None:
        message = f"What dbt did is unknown, as the log of its pod could not be read: {log.unreadable}"
        return _failed(attempt, reason=RunReason.LOG_UNREADABLE, message=message)
    state = close(state=log.state, ending=ending_of(state=log.state, pod=pod_end))
    outcome = conclude(state=state, pod=pod_end)
    if outcome.phase is RunPhase.CANCELLED:
        # dbt was told to stop and did; nobody has asked that of the *run*, so for the run its pod was lost.
        reason = RunReason.EVICTED if pod_end.kind == RunReason.EVICTED else RunReason.POD_LOST
        detail = f" ({pod_end.message})" if pod_end.message else ""
        message = f"The pod was stopped while dbt was at work{detail}. {_progress(state)}"
        outcome = Outcome(phase=RunPhase.FAILED, reason=reason, message=message)
    return _ended(attempt, outcome=outcome, state=state)


def _progress(state: AttemptState) -> str:
    counts = node_counts(views=node_views(state=state))
    if not counts.total:
        return "dbt had not executed any node."
    done = counts.succeeded + counts.warned
    return f"{done} of {counts.total} nodes had succeeded, {counts.cancelled} were cancelled."


def _lost(attempt: Attempt, *, message: str, asked: Outcome | None) -> Assessment:
    """The pod is gone, and perhaps nobody has looked while its status said why: then the watch knows."""
    seen = attempt.pod or attempt.last_pod
    told = _pod_end(seen) if seen is not None else None
    if told is None or told.kind not in (RunReason.OOM_KILLED, RunReason.EVICTED):
        told = PodEnd(kind="Lost", message=message)
    return _concluded(attempt, pod_end=told, asked=asked)


def _draining(attempt: Attempt) -> Assessment:
    return Assessment(
        attempt,
        Stage.DRAINING,
        RunReason.FINISHING,
        "dbt has ended; the last of its log is being read.",
        state=attempt.log.state,
    )


def _running(attempt: Attempt, *, asked: Outcome | None) -> Assessment:
    state = attempt.log.state
    if asked is not None:
        message = "dbt was told to stop and is cancelling its queries."
        return Assessment(attempt, Stage.RUNNING, RunReason.STOPPING, message, state=state)
    if state.executing:
        return Assessment(attempt, Stage.RUNNING, RunReason.EXECUTING, "dbt is executing nodes.", state=state)
    return Assessment(attempt, Stage.RUNNING, RunReason.PARSING, "dbt is loading the project.", state=state)


# How a pod that never got further ends the run at the deadline, by the reason its container waits with.
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


def _waiting(attempt: Attempt, pod: PodFacts, *, now: datetime, start_deadline: timedelta) -> Assessment:
    live, failure, message = _obstacle(pod)
    deadline = pod.created + start_deadline
    if now < deadline:
        return Assessment(attempt, Stage.STARTING, live, message, deadline=deadline)
    return _failed(
        attempt,
        reason=failure,
        message=f"{message.rstrip('.')}; it did not start within {start_deadline.total_seconds():.0f} s.",
    )


def _obstacle(pod: PodFacts) -> tuple[RunReason, RunReason, str]:
    """What keeps the pod from starting: the reason while it may pass, the reason when it did not, and a sentence."""
    if pod.unschedulable is not None:
        return RunReason.SCHEDULING, RunReason.UNSCHEDULABLE, f"Pod {pod.name} cannot be scheduled: {pod.unschedulable}"
    reason, detail = pod.waiting or ("", "")
    if reason in _WAITING:
        live, failure = _WAITING[reason]
        return live, failure, f"Pod {pod.name} is waiting ({reason}): {detail}"
    if pod.mount_failure is not None:
        return (
            RunReason.CREATING_CONTAINER,
            RunReason.VOLUME_MOUNT_FAILED,
            f"A volume of pod {pod.name} cannot be mounted: {pod.mount_failure}",
        )
    if pod.node is None:
        return RunReason.SCHEDULING, RunReason.START_DEADLINE_EXCEEDED, f"Pod {pod.name} waits for a node."
    return (
        RunReason.CREATING_CONTAINER,
        RunReason.START_DEADLINE_EXCEEDED,
        f"Pod {pod.name} is being started ({reason or pod.phase}).",
    )


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
