"""Facts for the planner, as short as a test reads best."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dbt_operator.api.names import GATE
from dbt_operator.api.phases import AttemptKind
from dbt_operator.dbt import stored
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, LogFacts, Sealed, Shown
from dbt_operator.plan.facts import JobFacts, PodFacts, Terminated
from dbt_operator.plan.observation import Observation
from dbt_operator.plan.run import plan_run
from tests.unit.plan.lines import GREEN_LOG

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
DEADLINE = timedelta(minutes=5)
PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="nightly-producer-1")

JOB = JobFacts(
    name="nightly-producer-1",
    uid="job",
    created=NOW - timedelta(seconds=30),
    suspended=False,
    deleting=False,
    failed=None,
    complete=False,
    refusal=None,
)
POD = PodFacts(
    name="nightly-producer-1-abcde",
    uid="pod",
    phase="Pending",
    node="node-1",
    created=NOW - timedelta(seconds=30),
    deleting=False,
    pod_reason=None,
    pod_message=None,
    disruption=None,
    unschedulable=None,
    waiting=("ContainerCreating", ""),
    running=False,
    started=None,
    terminated=None,
    ended_at=None,
    init_failure=None,
    mount_failure=None,
)
HELD = replace(POD, node=None, waiting=None, gates=(GATE,))
RUNNING = replace(POD, phase="Running", running=True, waiting=None, started=NOW - timedelta(seconds=20))


def ended(*, exit_code: int = 0, reason: str = "", **facts: Any) -> PodFacts:
    """A pod whose container has ended."""
    reason = reason or ("Error" if exit_code else "Completed")
    terminated = Terminated(exit_code=exit_code, reason=reason, message="")
    changes = {"phase": "Failed" if exit_code else "Succeeded", "running": False, "terminated": terminated} | facts
    return replace(RUNNING, **changes)


def attempt(**facts: Any) -> Attempt:
    """The producer, whose decision is recorded."""
    return known(PRODUCER, **facts)


def known(decision: Decision, **facts: Any) -> Attempt:
    """An attempt that was decided on; what the cluster shows of it is among the facts."""
    shown = {one.name: facts.pop(one.name) for one in fields(Shown) if one.name in facts}
    return Attempt(decision=decision, shown=Shown(**shown), **facts)


def log(*lines: bytes, read: bool = False, unreadable: str | None = None) -> LogFacts:
    """What was read of a log."""
    return LogFacts(state=state(*lines), read=read, unreadable=unreadable)


def state(*lines: bytes) -> AttemptState:
    """The fold of some lines."""
    return fold_lines(state=EMPTY, lines=lines)


def settled(observation: Observation) -> Observation:
    """The observation once the end of every attempt that has ended is stored, as the loop does before it goes on."""
    for _ in range(len(observation.attempts) + 1):
        sealed = {each.attempt.name: seal(each, now=observation.now) for each in plan_run(observation).seal}
        if not sealed:
            return observation
        attempts = (
            replace(one, log=LogFacts(), sealed=sealed[one.name]) if one.name in sealed else one
            for one in observation.attempts
        )
        observation = replace(observation, attempts=tuple(attempts))
    raise AssertionError("an attempt that is sealed is to be sealed again")


def seal(assessment: Assessment, *, now: datetime) -> Sealed:
    """How an attempt ended, as its record tells it."""
    assert assessment.outcome is not None
    state = stored.decode(stored.encode(assessment.state))
    assert state is not None
    return Sealed(
        outcome=assessment.outcome,
        state=state,
        ended_at=now,
        gone=assessment.gone,
        started=assessment.attempt.started,
    )


GREEN = log(*GREEN_LOG, read=True)
