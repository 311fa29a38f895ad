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
class Rules:
    """What the spec asks for, with the administrator's defaults where it is silent."""

    start_deadline: timedelta
    active_deadline: timedelta | None = None
    ttl: timedelta | None = None
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a run at one moment."""

    now: datetime
    attempts: tuple[Attempt, ...]  # in order; never empty: the first is the producer, created or not
    started: bool  # status.startTime is set
    rules: Rules
    active_since: datetime | None = None  # when its first container started
    invalid: str | None = None  # why the spec cannot be used
    ended: Outcome | None = None  # status says that the run has ended
    ended_at: datetime | None = None


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
    expire: bool = False  # the DbtRun itself is to be deleted
    expires: bool = False  # … or will be

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for the run, now or later."""
        return self.phase.terminal and not (self.stop or self.start or self.expires)


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


def plan_run(observation: Observation) -> Plan:
    """What the run needs, given what was observed."""
    rules = observation.rules
    asked = _asked(observation)
    assessments = tuple(
        assess(attempt, now=observation.now, start_deadline=rules.start_deadline, asked=asked)
        for attempt in observation.attempts
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
        stop=_to_stop(assessments),
        wake_at=_wake_at(last, observation=observation),
    )


def _asked(observation: Observation) -> Outcome | None:
    """How the run ends when it is to be stopped, None when it is not. A person's wish goes before a deadline."""
    if observation.rules.cancel:
        return Outcome(phase=RunPhase.CANCELLED, reason=RunReason.CANCELLED, message="The run was cancelled.")
    deadline = _active_until(observation)
    if deadline is not None and observation.now >= deadline:
        seconds = (observation.rules.active_deadline or timedelta()).total_seconds()
        message = f"The run took longer than spec.activeDeadlineSeconds ({seconds:.0f} s) allows."
        return Outcome(phase=RunPhase.FAILED, reason=RunReason.DEADLINE_EXCEEDED, message=message)
    return None


def _active_until(observation: Observation) -> datetime | None:
    """When the run has been active for too long. Time in which it waits (quota, queue, node) does not count."""
    since, limit = observation.active_since, observation.rules.active_deadline
    return since + limit if since is not None and limit is not None else None


def _to_stop(assessments: tuple[Assessment, ...]) -> tuple[str, ...]:
    return tuple(a.attempt.job.name for a in assessments if a.must_stop and a.attempt.job is not None)


def _refused(assessment: Assessment) -> bool:
    """Whether its Job was refused for a reason that may pass, so that creating it is worth another try."""
    return assessment.stage is Stage.QUEUED and assessment.attempt.job is None


def _ended(observation: Observation, *, assessments: tuple[Assessment, ...], outcome: Outcome) -> Plan:
    """The run has ended; what of it still lives is stopped."""
    stop = _to_stop(assessments)
    soon = observation.now + _PERIODS[Stage.ENDED]
    rules, ended_at = observation.rules, observation.ended_at
    expiry = None if rules.ttl is None else (ended_at or observation.now) + rules.ttl
    return Plan(
        start=not observation.started,
        create=(),
        assessments=assessments,
        phase=outcome.phase,
        reason=outcome.reason,
        message=outcome.message,
        stop=stop,
        wake_at=soon if stop or expiry is None or ended_at is None else max(soon, expiry),
        # Only a stored end counts: whoever waits for it must have had the chance to see it.
        expire=expiry is not None and ended_at is not None and not stop and observation.now >= expiry,
        expires=expiry is not None,
    )


def _wake_at(assessment: Assessment, *, observation: Observation) -> datetime:
    moments = (observation.now + _PERIODS[assessment.stage], assessment.deadline, _active_until(observation))
    return min(moment for moment in moments if moment is not None and moment > observation.now)
