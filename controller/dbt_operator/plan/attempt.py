"""An attempt: what is decided, recorded and observed of it, and where it stands."""

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.graph_node import Resources
from dbt_operator.dbt.history import History, Reports
from dbt_operator.dbt.state import EMPTY, AttemptState, Periods
from dbt_operator.plan.facts import JobFacts, PodFacts
from dbt_operator.plan.outcome import Outcome


class Life(StrEnum):
    """How far an attempt is in its life."""

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
    read: bool = False  # up to its end
    incomplete: bool = False  # the pod was gone before that: what was not read is lost
    unreadable: str | None = None  # why reading was given up
    stalled: str | None = None  # why it cannot be read at present; the container may go on
    position: datetime | None = None  # the kubelet's time of the last line that was read


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server did not take the attempt's Job, or did not let its pod start."""

    reason: RunReason  # QuotaExceeded, Forbidden, ConnectionNotFound, ApiServerError, AdmissionDenied, …
    message: str


@dataclass(frozen=True, slots=True)
class Request:
    """A retry that a person asked for with the annotation. `unique_id`: of the node; None: all that is not done."""

    token: str
    unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What is to be executed of a microbatch model: `periods` of time, which dbt cuts into batches."""

    unique_id: str
    periods: Periods
    incremental: bool  # other batches of it have succeeded, and stay


@dataclass(frozen=True, slots=True)
class PodChoice:
    """What the pod of an attempt at certain nodes is made of, because of these nodes."""

    overrides: tuple[int, ...] = ()  # the items of spec.nodes, from 0, whose podTemplate it has
    resources: Resources = ()  # that the project says its nodes need


PLAIN = PodChoice()


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision for an attempt. Once it is recorded it is never taken back, nor changed."""

    index: int  # of the attempt in the run, from 1: who records an index first has decided
    kind: AttemptKind
    name: str  # of its Job
    nodes: frozenset[str] | None = None  # to execute; None: all that the run selects
    requests: tuple[Request, ...] = ()  # that it answers; with them a new episode of the run begins
    roots: tuple[str, ...] | None = None  # the episode is limited to these nodes and what is below them
    # Of microbatch models: the end of their time, as in the run's first attempt, and what is left of those that began.
    microbatch_end: str | None = None
    left: tuple[Left, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)  # what its steps have to keep to, see `dbt.found`
    pod: PodChoice = PLAIN
    stage: Stage | None = None  # of a run that has stages
    # The other nodes for which it decides, by what it finds of the sources, whether they are executed.
    decides_on: frozenset[str] = frozenset()
    # In which attempt, by its index, the execution of its nodes began: None: in itself. Of some nodes in another one.
    began_in: int | None = None
    continued: Mapping[str, int] = field(default_factory=dict)
    billed: int = 0  # bytes that the warehouse had billed by then for what was executed without dbt

    def covers(self, unique_id: str) -> bool:
        """Whether the node is one of those that the attempt is to execute."""
        if self.nodes is not None:
            return unique_id in self.nodes
        return self.stage is None or bool(self.stage.rules.of((unique_id,)))

    def covered(self, unique_ids: Set[str]) -> Set[str]:
        """Those of these nodes that the attempt is to execute."""
        if self.nodes is not None:
            return self.nodes & unique_ids
        return unique_ids if self.stage is None else frozenset(self.stage.rules.of(unique_ids))


@dataclass(frozen=True, slots=True)
class Release:
    """Which pod of an attempt may be scheduled. Once it is recorded it is never changed: an attempt has one process.

    Kubernetes promises less. A Job "may sometimes" start its program twice, and a request that was under way can create
    a deleted Job anew. The further pods that come of that are never released.
    """

    pod: str  # its uid
    at: datetime


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the log of a live attempt was read: whoever comes next goes on from there.

    The state may be newer than the position, as lines that come again change nothing.
    """

    state: AttemptState
    position: datetime | None  # the kubelet's time from which the log has to be read; None: from its beginning

    def further_than(self, state: AttemptState) -> bool:
        """Whether it comes of more of the log than this state does."""
        mine, other = self.state.last_ts, state.last_ts
        return mine is not None and (other is None or mine > other)


@dataclass(frozen=True, slots=True)
class Sealed:
    """How an attempt ended, stored for good. From then on its Job, its pod and the log are not needed any more."""

    outcome: Outcome
    state: AttemptState
    ended_at: datetime
    gone: bool  # its process was known to be gone at that moment
    started: datetime | None = None

    @classmethod
    def of(cls, assessment: "Assessment", *, now: datetime) -> "Sealed":
        """What is stored of an attempt that has ended."""
        return cls(
            outcome=assessment.end,
            state=assessment.state,
            ended_at=now,
            gone=assessment.gone,
            started=assessment.attempt.started,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the record of an attempt says."""

    decision: Decision
    release: Release | None = None
    checkpoint: Checkpoint | None = None  # while it has not ended
    sealed: Sealed | None = None
    at: datetime | None = field(default=None, compare=False)  # when it was decided


@dataclass(frozen=True, slots=True)
class Shown:
    """What the cluster shows of an attempt, or was seen to show."""

    job: JobFacts | None = None
    pod: PodFacts | None = None  # the one that was released; before that the newest
    last_pod: PodFacts | None = None  # what was seen of the pod at last, when it is gone
    refusal: Refusal | None = None  # of its Job; of its pod's start, once that is there
    created: bool = False  # status.attempts says that its Job was created
    began: datetime | None = None  # when its container started, as status.attempts remembers it
    let_go: datetime | None = None  # when its pod was, after that was recorded; None: not known


@dataclass(frozen=True, slots=True)
class Attempt:
    """All that is known of one attempt: what is recorded, what the cluster shows, and what dbt reported."""

    decision: Decision
    decided_at: datetime | None = None
    # As it was recorded before the cluster was looked at: a released pod that the cluster does not show is gone.
    release: Release | None = None
    sealed: Sealed | None = None
    shown: Shown = Shown()
    log: LogFacts = LogFacts()

    @property
    def name(self) -> str:
        """The name of its Job."""
        return self.decision.name

    @property
    def kind(self) -> AttemptKind:
        """What it is for."""
        return self.decision.kind

    @property
    def started(self) -> datetime | None:
        """When its container started."""
        shown = self.shown
        pod = shown.pod or shown.last_pod
        seen = pod.started if pod is not None else None
        return (self.sealed.started if self.sealed is not None else None) or seen or shown.began

    @property
    def known(self) -> AttemptState:
        """What is known of its nodes: as it was stored, or as far as its log was read."""
        return self.sealed.state if self.sealed is not None else self.log.state

    @property
    def existed(self) -> bool:
        """Whether its Job was created, as far as anything shows it."""
        shown = self.shown
        return shown.created or shown.job is not None or shown.pod is not None or self.released

    @property
    def released(self) -> bool:
        """Whether a pod of it was released, as far as anything shows it. Only such a pod ever has a process."""
        seen = any(pod is not None and not pod.held for pod in (self.shown.pod, self.shown.last_pod))
        read = self.log.read or bool(self.log.state.events)
        return self.release is not None or seen or read or self.started is not None

    @property
    def to_release(self) -> bool:
        """Whether its pod is still held, and may be scheduled."""
        pod = self.shown.pod
        if pod is None or pod.deleting or not pod.held:
            return False
        return self.release is None or pod.uid == self.release.pod

    @property
    def whole(self) -> bool:
        """Whether it is to execute all that the run selects."""
        return self.decision.nodes is None

    @property
    def nodes(self) -> frozenset[str] | None:
        """Those that it is to execute; None: all that the run selects."""
        return self.decision.nodes

    def covers(self, unique_id: str) -> bool:
        """Whether the node is one of those that it is to execute."""
        return self.decision.covers(unique_id)

    @property
    def stage(self) -> Stage | None:
        """The stage that it belongs to, in a run that has stages."""
        return self.decision.stage


@dataclass(frozen=True, slots=True)
class Assessment:
    """Where an attempt stands, and what the run shows of it."""

    attempt: Attempt
    life: Life
    reason: RunReason
    message: str
    outcome: Outcome | None = None  # only when Ended
    state: AttemptState = EMPTY  # of its nodes; closed when Ended
    deadline: datetime | None = None  # when Starting becomes a failure

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.life is not Life.ENDED

    @property
    def end(self) -> Outcome:
        """How it ended. Raises: ValueError while it lives."""
        if self.outcome is None:
            raise ValueError(f"{self.attempt.name} has not ended")
        return self.outcome

    def ended_as(self, reasons: Collection[RunReason]) -> bool:
        """Whether it has ended, and for one of these reasons."""
        return self.outcome is not None and self.outcome.reason in reasons

    @property
    def ended_at(self) -> datetime | None:
        """When its end was stored."""
        return self.attempt.sealed.ended_at if self.attempt.sealed is not None else None

    @property
    def gone(self) -> bool:
        """Whether the process of an ended attempt is known to be gone.

        A pod object can be deleted by force while its process lives on. The control plane calls a pod Failed if it has
        not heard of the node for long. So the process is known to be gone only if the kubelet reported its end, if dbt
        printed its last event, or if no pod was released: after the end of an attempt none is.
        """
        attempt, last = self.attempt, self.attempt.shown.last_pod
        if attempt.sealed is not None:
            # A pod that did not start in time may have started later, and have been deleted by force then.
            began = attempt.sealed.started is None and last is not None and last.running
            return attempt.sealed.gone and not began
        if not attempt.released:
            return True
        if attempt.shown.pod is not None:
            # A pod that is on a node may start until it is deleted, and nobody may see that.
            return not attempt.shown.pod.running and (attempt.shown.pod.ended or attempt.shown.pod.node is None)
        return (last is not None and last.terminated is not None) or attempt.log.state.finished is not None

    @property
    def left_over(self) -> bool:
        """Whether the cluster still shows a pod of an ended attempt that has a process, or may get one.

        An attempt can end before its process: when it did not start in time, or was stopped before it had begun. Until
        it is deleted, a released pod may still start.
        """
        pod = self.attempt.shown.pod
        return pod is not None and not pod.ended and self.attempt.released

    @property
    def must_stop(self) -> bool:
        """Whether its Job is to be deleted, as the attempt has ended or is to end.

        A Job whose pod has ended completes in a moment; deleting it would delete the pod and its log. But another
        container of the pod (a service mesh adds one) may go on for ever. A Job that was created anew has a pod of its
        own, which is never released.
        """
        job, pod = self.attempt.shown.job, self.attempt.shown.pod
        pod_ends = pod is not None and pod.ended and not pod.others
        about_to_end = job is not None and pod is not None and pod_ends and pod.job in (None, job.uid)
        return (
            (self.life is Life.ENDED or self.reason is RunReason.STOPPING)
            and job is not None
            and not (job.complete or job.deleting or job.failed is not None)
            and not about_to_end
        )


def history_of_run(assessments: Iterable[Assessment], *, since: int = 0, known: Reports | None = None) -> History:
    """What the attempts of a run have reported.

    since: the first one of the present episode, from 0. known: the index of a moment before, which spares work.
    """
    assessments = tuple(assessments)
    parts = {index: each.attempt.nodes for index, each in enumerate(assessments) if each.attempt.nodes is not None}
    return History(
        attempts=tuple(each.state for each in assessments), parts=parts, since=since, known=known or Reports()
    )


def time_at_work(attempts: Iterable[Attempt], *, now: datetime) -> timedelta:
    """How long a container of at least one of these attempts was at work until now."""
    begun = ((one.started, one.sealed) for one in attempts)
    spans = ((start, sealed.ended_at if sealed is not None else now) for start, sealed in begun if start is not None)
    total, counted = timedelta(), datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spans):
        total += max(timedelta(), end - max(start, counted))
        counted = max(counted, end)
    return total
