"""What a run needs next: the one place where attempts are asked for and the run's phase is decided.

A pure function of what was observed. It is called again and again, with the same facts or newer ones, and so has to
give the same answer for the same facts: whatever it remembers is in the facts (`status`, Jobs, pods, the log).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.attempt import Assessment, Attempt, Stage, assess
from dbt_operator.plan.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a run at one moment."""

    now: datetime
    attempts: tuple[Attempt, ...]  # in order; never empty: the first is the producer, created or not
    started: bool  # status.startTime is set
    invalid: str | None = None  # why the spec cannot be used
    ended: Outcome | None = None  # status says that the run has ended


@dataclass(frozen=True, slots=True)
class Settings:
    """What the administrator decides for all runs."""

    start_deadline: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be.

    The steps are to be taken in the order of the fields: `start` is stored before anything is created, as it closes
    the spec against changes, and the status is stored before anything is stopped, as it says why.
    """

    start: bool
    create: tuple[str, ...]  # names of attempts whose Job should exist
    assessments: tuple[Assessment, ...]
    phase: RunPhase
    reason: RunReason
    message: str
    stop: tuple[str, ...]  # names of Jobs that must not live on
    wake_at: datetime

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for the run, now or later."""
        return self.phase.terminal and not self.stop and not self.start


# When to look again although nothing was heard: a watch can miss what happened, and some facts are in no watch.
_PERIODS = {
    Stage.ABSENT: timedelta(seconds=1),  # its creation is in the way of the garbage collector
    Stage.QUEUED: timedelta(seconds=10),
    Stage.STARTING: timedelta(seconds=3),  # the reason of a failed mount is only in the pod's events
    Stage.RUNNING: timedelta(seconds=30),
    Stage.DRAINING: timedelta(seconds=5),
    Stage.ENDED: timedelta(seconds=2),
}

_PHASES = {
    Stage.ABSENT: RunPhase.PENDING,
    Stage.QUEUED: RunPhase.QUEUED,
    Stage.STARTING: RunPhase.STARTING,
    Stage.RUNNING: RunPhase.RUNNING,
    Stage.DRAINING: RunPhase.RUNNING,
}


def plan_run(observation: Observation, *, settings: Settings) -> Plan:
    """What the run needs, given what was observed."""
    assessments = tuple(
        assess(attempt, now=observation.now, start_deadline=settings.start_deadline) for attempt in observation.attempts
    )
    if observation.ended is not None:
        return _ended(observation, assessments=assessments, outcome=observation.ended)
    if observation.invalid is not None:
        outcome = Outcome(phase=RunPhase.FAILED, reason=RunReason.INVALID_SPEC, message=observation.invalid)
        return _ended(observation, assessments=assessments, outcome=outcome)
    last = assessments[-1]
    if last.outcome is not None:
        return _ended(observation, assessments=assessments, outcome=last.outcome)
    return Plan(
        start=not observation.started,
        create=(last.attempt.name,) if last.stage is Stage.ABSENT or _refused(last) else (),
        assessments=assessments,
        phase=_PHASES[last.stage],
        reason=last.reason,
        message=last.message,
        stop=(),
        wake_at=_wake_at(last, now=observation.now),
    )


def _refused(assessment: Assessment) -> bool:
    """Whether its Job was refused for a reason that may pass, so that creating it is worth another try."""
    return assessment.stage is Stage.QUEUED and assessment.attempt.job is None


def _ended(observation: Observation, *, assessments: tuple[Assessment, ...], outcome: Outcome) -> Plan:
    """The run has ended; what of it still lives is stopped."""
    return Plan(
        start=not observation.started,
        create=(),
        assessments=assessments,
        phase=outcome.phase,
        reason=outcome.reason,
        message=outcome.message,
        stop=tuple(a.attempt.job.name for a in assessments if a.must_stop and a.attempt.job is not None),
        wake_at=observation.now + _PERIODS[Stage.ENDED],
    )


def _wake_at(assessment: Assessment, *, now: datetime) -> datetime:
    soon = now + _PERIODS[assessment.stage]
    return soon if assessment.deadline is None else min(soon, assessment.deadline)
