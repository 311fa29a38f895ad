"""What the planner is given, and what it answers."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import Group, NodeOverride, PerNode, Retry
from dbt_operator.dbt.history import History, Reports
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, Request, time_at_work
from dbt_operator.plan.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Rules:
    """What the spec asks for, with the administrator's defaults where it is silent."""

    start_deadline: timedelta
    active_deadline: timedelta | None = None
    ttl: timedelta | None = None
    cancel: bool = False
    suspend: bool = False
    retry: Retry = field(default_factory=Retry)
    nodes: tuple[NodeOverride, ...] = ()
    max_restarts: int = 3
    fail_fast: bool = False
    repeats: bool = True  # see `CommandRules`
    stages: tuple[Stage, ...] = ()  # likewise
    per_node: PerNode | None = None  # None: one attempt executes all nodes, if nothing goes wrong
    budget: bool = False  # what is executed without dbt may cost so many bytes over all attempts
    compares: bool = False  # the selection compares with another run, and may well match nothing
    # How long a process may live on whose pod was taken away by force: the kubelet gives it its grace period.
    grace: timedelta = timedelta(seconds=60)

    @property
    def parallelism(self) -> int:
        """How many attempts at certain nodes may live at once."""
        return self.per_node.parallelism if self.per_node is not None else self.retry.parallelism

    @property
    def group(self) -> Group:
        """Which nodes go together, where each has a pod of its own."""
        return self.per_node.group if self.per_node is not None else Group.NODE

    @property
    def executing(self) -> tuple[Stage, ...]:
        """The stages in which nodes are executed."""
        return tuple(stage for stage in self.stages if stage is not Stage.LIST)


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a run at one moment."""

    run: str  # its name
    now: datetime
    attempts: tuple[Attempt, ...]  # in the order of their decisions
    started: bool  # status.startTime is set
    rules: Rules
    requests: tuple[Request, ...] = ()  # retries that a person asks for, answered ones included
    looked_at: datetime | None = None  # when the cluster was looked at, if that is not now
    invalid: str | None = None  # why nothing can be made of the run
    invalid_reason: RunReason = RunReason.INVALID_SPEC
    superseded_by: str = ""  # a newer run, which takes the place of this one
    waits_for: tuple[str, ...] = ()  # older runs that live, whose place this one takes
    ended: Outcome | None = None  # the status says that the run has ended, and nothing was decided since
    ended_at: datetime | None = None
    reports: Reports = field(default_factory=Reports, compare=False, repr=False)  # of the plan before, to spare work


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What should be.

    The steps are to be taken in the order of the fields: `start` is stored before anything is created, as it closes
    the spec against changes; how an attempt ended is sealed before anything follows from it; a decision is recorded
    before it is acted upon; and the status is stored before anything is stopped, as it says why.
    """

    start: bool
    seal: tuple[Assessment, ...] = ()  # attempts whose end is to be stored; nothing else is decided before that
    record: tuple[Decision, ...] = ()  # new attempts
    create: tuple[str, ...] = ()  # names of attempts whose Job should exist
    release: tuple[str, ...] = ()  # names of attempts whose pod may be scheduled
    assessments: tuple[Assessment, ...]
    history: History
    phase: RunPhase
    reason: RunReason
    message: str
    stop: tuple[str, ...] = ()  # names of Jobs that must not live on
    wake_at: datetime
    handled: tuple[Request, ...] = ()  # requests that are answered
    held_back: str = ""  # why requests that are open are not answered, and what to do about it
    answer_pending: bool = False  # the run has ended, and a request is answered as soon as its last process is gone
    expire: bool = False  # the DbtRun itself is to be deleted

    def worked(self, *, now: datetime) -> timedelta:
        """How long the run was at work until now, over all of its attempts."""
        return time_at_work((each.attempt for each in self.assessments), now=now)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for the run, but perhaps to delete it when its time to live is over."""
        left = self.stop or self.start or self.expire or self.record or self.answer_pending
        return self.phase.terminal and not left
