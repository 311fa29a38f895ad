"""Facts for the planner, as short as a test reads best."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.plan.attempt import Attempt, LogFacts
from dbt_operator.plan.facts import JobFacts, PodFacts, Terminated
from tests.unit.plan.lines import GREEN_LOG

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
DEADLINE = timedelta(minutes=5)

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
RUNNING = replace(POD, phase="Running", running=True, waiting=None, started=NOW - timedelta(seconds=20))


def ended(*, exit_code: int = 0, reason: str = "", **facts: Any) -> PodFacts:
    """A pod whose container has ended."""
    reason = reason or ("Error" if exit_code else "Completed")
    terminated = Terminated(exit_code=exit_code, reason=reason, message="")
    changes = {"phase": "Failed" if exit_code else "Succeeded", "running": False, "terminated": terminated} | facts
    return replace(RUNNING, **changes)


def attempt(**facts: Any) -> Attempt:
    """The producer."""
    return Attempt(name="nightly-producer-1", **facts)


def log(*lines: bytes, ended: bool = False, unreadable: str | None = None) -> LogFacts:
    """What was read of a log."""
    return LogFacts(state=state(*lines), ended=ended, unreadable=unreadable)


def state(*lines: bytes) -> AttemptState:
    """The fold of some lines."""
    return fold_lines(state=EMPTY, lines=lines)


GREEN = log(*GREEN_LOG, ended=True)
