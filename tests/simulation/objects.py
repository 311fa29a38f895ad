"""The objects of the simulated API, and what it shows of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from dbt_operator.api.names import GATE
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.status import DbtInfo
from dbt_operator.plan.attempt import Decision, Release, Sealed
from dbt_operator.plan.facts import JobFacts, PodFacts, Terminated
from dbt_operator.plan.outcome import Outcome
from tests.simulation.process import Process
from tests.simulation.world import World


@dataclass
class Pod:
    """A pod, and the process that may outlive its object by the grace period."""

    name: str
    job: "Job"
    created: int
    held: bool = False
    start: Callable[[], None] = lambda: None  # what becomes of it when it is released
    process: Process | None = None
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    started: int | None = None
    terminated: Terminated | None = None
    ended: int | None = None
    phase: str = "Pending"
    reason: str | None = None
    disruption: str | None = None
    deleting: bool = False
    removed: bool = False
    unreachable: bool = False  # its node is gone, which nobody has noticed
    end_reason: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing of it lives; the kubelet tells of a process's end a moment later."""
        ended = self.process is not None and not self.process.alive
        return ended or self.removed or self.terminated is not None

    def facts(self, world: World) -> PodFacts:
        """What the API shows."""
        return PodFacts(
            name=self.name,
            uid=self.name,
            phase=self.phase,
            node=None if self.held else "node-1",
            created=world.moment(self.created),
            deleting=self.deleting,
            pod_reason=self.reason,
            pod_message=None,
            disruption=self.disruption,
            unschedulable=None,
            waiting=self.waiting,
            running=self.started is not None and self.terminated is None,
            started=None if self.started is None else world.moment(self.started),
            terminated=self.terminated,
            ended_at=None if self.ended is None else world.moment(self.ended),
            init_failure=None,
            mount_failure=None,
            gates=(GATE,) if self.held else (),
            job=self.job.uid,
        )


@dataclass
class Job:
    """A Job of the run."""

    name: str
    number: int
    decision: Decision
    created: int
    suspended: bool = False
    deleting: bool = False
    removed: bool = False
    failed: bool = False
    complete: bool = False
    refusal: str | None = None
    pods: list[Pod] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """Told from others that had its name before."""
        return f"{self.name}/{self.number}"

    def facts(self, world: World) -> JobFacts:
        """What the API shows."""
        return JobFacts(
            name=self.name,
            uid=self.uid,
            created=world.moment(self.created),
            suspended=self.suspended,
            deleting=self.deleting,
            failed="BackoffLimitExceeded" if self.failed else None,
            complete=self.complete,
            refusal=self.refusal,
        )


@dataclass(frozen=True)
class Status:
    """The status of the run."""

    start_time: datetime | None = None
    phase: RunPhase | None = None
    reason: RunReason | None = None
    message: str = ""
    ended_at: datetime | None = None
    attempts: dict[str, datetime | None] = field(default_factory=dict)  # listed attempts, when their container started
    handled: str | None = None
    dbt: DbtInfo | None = None

    @property
    def ended(self) -> Outcome | None:
        """How the run ended, if the status says so."""
        if self.phase is None or self.reason is None or not self.phase.terminal:
            return None
        return Outcome(phase=self.phase, reason=self.reason, message=self.message)


@dataclass
class Record:
    """The record of an attempt."""

    decision: Decision
    release: Release | None = None
    sealed: Sealed | None = None
    version: int = 0
