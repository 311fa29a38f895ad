"""Conditions: what `kubectl wait`, Flux and Argo CD conclude from them."""

from datetime import UTC, datetime, timedelta

import pytest

from dbt_operator.api.conditions import Condition, ConditionStatus, run_conditions, set_condition
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason

NOW = datetime(2026, 11, 20, 17, 11, 13, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def conditions_of(
    phase: RunPhase, reason: RunReason, *, now: datetime = NOW, previous: tuple[Condition, ...] = ()
) -> tuple[Condition, ...]:
    return run_conditions(phase=phase, reason=reason, now=now, generation=3, previous=previous)


def statuses(conditions: tuple[Condition, ...]) -> dict[str, str]:
    return {condition.type: condition.status.value for condition in conditions}


LIVE = [phase for phase in RunPhase if not phase.terminal and phase is not RunPhase.SUSPENDED]


@pytest.mark.parametrize("phase", LIVE)
def test_a_live_run_is_neither_complete_nor_failed(phase: RunPhase) -> None:
    assert statuses(conditions_of(phase, RunReason.EXECUTING)) == {"Succeeded": "Unknown", "Reconciling": "True"}


def test_a_run_that_succeeded_is_complete_and_nothing_else_is_claimed() -> None:
    live = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING)
    ended = conditions_of(RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED, previous=live)
    assert statuses(ended) == {"Succeeded": "True", "Complete": "True"}


@pytest.mark.parametrize("phase", [RunPhase.FAILED, RunPhase.CANCELLED])
def test_a_run_that_ended_otherwise_is_failed_and_looks_so_to_kstatus(phase: RunPhase) -> None:
    live = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING)
    ended = conditions_of(phase, RunReason.NODES_FAILED, previous=live)
    assert statuses(ended) == {"Succeeded": "False", "Failed": "True", "Stalled": "True"}


def test_a_live_run_that_waits_for_a_person_is_stalled_instead_of_reconciling() -> None:
    stalled = conditions_of(RunPhase.QUEUED, RunReason.FORBIDDEN)
    assert statuses(stalled) == {"Succeeded": "Unknown", "Stalled": "True"}
    again = conditions_of(RunPhase.STARTING, RunReason.SCHEDULING, previous=stalled)
    assert statuses(again) == {"Succeeded": "Unknown", "Reconciling": "True"}


def test_a_suspended_run_is_neither_at_work_nor_stuck() -> None:
    live = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING)
    suspended = conditions_of(RunPhase.SUSPENDED, RunReason.SUSPENDED, previous=live)
    assert statuses(suspended) == {"Succeeded": "Unknown", "Suspended": "True"}
    again = conditions_of(RunPhase.RETRYING, RunReason.RESUMING, previous=suspended)
    assert statuses(again) == {"Succeeded": "Unknown", "Reconciling": "True"}
    cancelled = conditions_of(RunPhase.CANCELLED, RunReason.CANCELLED, previous=suspended)
    assert statuses(cancelled) == {"Succeeded": "False", "Failed": "True", "Stalled": "True"}


def test_a_failed_run_that_is_retried_is_not_failed_meanwhile() -> None:
    failed = conditions_of(RunPhase.FAILED, RunReason.NODES_FAILED)
    again = conditions_of(RunPhase.RETRYING, RunReason.RETRYING_NODES, previous=failed)
    assert statuses(again) == {"Succeeded": "Unknown", "Reconciling": "True"}


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = conditions_of(RunPhase.STARTING, RunReason.SCHEDULING)
    second = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING, now=LATER, previous=first)
    assert {condition.last_transition_time for condition in second} == {NOW}
    assert {condition.reason for condition in second} == {"Executing"}
    third = conditions_of(RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED, now=LATER, previous=second)
    assert {condition.last_transition_time for condition in third} == {LATER}


def test_conditions_of_others_are_kept() -> None:
    foreign = Condition(
        type="example.com/Approved",
        status=ConditionStatus.TRUE,
        last_transition_time=NOW,
        reason="Approved",
        message="yes",
    )
    conditions = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING, previous=(foreign,))
    assert conditions[0] == foreign
    assert conditions_of(RunPhase.RUNNING, RunReason.EXECUTING, previous=conditions) == conditions


def test_setting_a_condition_replaces_the_one_of_its_type() -> None:
    conditions = conditions_of(RunPhase.RUNNING, RunReason.EXECUTING)
    changed = set_condition(
        conditions,
        type="Succeeded",
        status=ConditionStatus.FALSE,
        reason="NodesFailed",
        message="two models failed",
        now=LATER,
        observed_generation=4,
    )
    assert [condition.type for condition in changed] == ["Succeeded", "Reconciling"]
    assert changed[0].to_dict() == {
        "type": "Succeeded",
        "status": "False",
        "observedGeneration": 4,
        "lastTransitionTime": "2026-11-20T17:12:13Z",
        "reason": "NodesFailed",
        "message": "two models failed",
    }
