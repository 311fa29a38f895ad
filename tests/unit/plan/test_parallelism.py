"""How many attempts run at once, and when several nodes share one."""

import pytest

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.spec import ConcurrencyPolicy, RetryReason
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story

LOST = "error: could not connect to server: Connection refused"


def failing(count: int, message: str = "error: deadlock") -> dict[str, str]:
    return {f"m{number}": message for number in range(count)}


def denied(name: str, why: str = "permission denied for schema finance") -> str:
    file = f"models/{name}.sql"
    return f"error: Database Error in model {name} ({file})\n  {why}\n  compiled code at target/run/shop/{file}"


def models(count: int) -> list[dict[str, object]]:
    return [model(name) for name in failing(count)]


def test_no_more_retries_run_at_once_than_the_parallelism_says() -> None:
    run = Story(*models(5), model("other"), parallelism=2)
    run["Producer"].starts().reports(**failing(5), other="running")
    assert run.later(seconds=10) == ["Retry m0", "Retry m1"]
    run["Retry m1"].builds()
    assert run.next() == ["Retry m2"]
    run["Retry m0"].builds()
    run["Retry m2"].builds()
    assert run.next() == ["Retry m3", "Retry m4"]


def test_more_failures_than_together_says_are_retried_in_one_attempt() -> None:
    run = Story(*models(4), together=3)
    run["Producer"].builds(**failing(4))
    assert run.later(seconds=10) == ["Retry m0 m1 m2 m3"]
    assert "-retry-nodes-1" in run["Retry m0 m1 m2 m3"].decision.name
    run["Retry m0 m1 m2 m3"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_as_many_failures_as_together_says_are_retried_one_by_one() -> None:
    run = Story(*models(3), together=3)
    run["Producer"].builds(**failing(3))
    assert run.later(seconds=10) == ["Retry m0", "Retry m1", "Retry m2"]


def test_an_attempt_for_all_waits_until_all_are_due() -> None:
    run = Story(*models(3), together=2)
    producer = run["Producer"].starts().reports(m0="error: deadlock", m1="error: deadlock", m2="running")
    run.later(seconds=5)
    producer.reports(m2="error: deadlock").ends()
    assert run.later(seconds=5) == []
    assert run.later(seconds=5) == ["Retry m0 m1 m2"]


def test_nodes_that_all_failed_for_want_of_a_connection_are_retried_in_one_attempt() -> None:
    run = Story(*models(2))
    run["Producer"].builds(**failing(2, LOST))
    assert run.later(seconds=10) == ["Retry m0 m1"]


def test_nodes_that_all_failed_for_one_and_the_same_cause_are_retried_in_one_attempt() -> None:
    run = Story(*models(3))
    run["Producer"].builds(**{name: denied(name) for name in ("m0", "m1", "m2")})
    assert run.later(seconds=10) == ["Retry m0 m1 m2"]


def test_where_one_failed_for_something_else_each_has_an_attempt_of_its_own() -> None:
    run = Story(*models(3))
    run["Producer"].builds(m0=denied("m0"), m1=denied("m1"), m2=denied("m2", "relation raw does not exist"))
    assert run.later(seconds=10) == ["Retry m0", "Retry m1", "Retry m2"]


def test_one_node_that_failed_for_another_reason_shows_that_the_warehouse_is_there() -> None:
    run = Story(*models(3))
    run["Producer"].builds(**(failing(3, LOST) | {"m1": "error: deadlock"}))
    assert run.later(seconds=10) == ["Retry m0", "Retry m1", "Retry m2"]


def test_a_single_node_without_a_connection_has_a_job_of_its_own_name() -> None:
    run = Story(*models(1))
    run["Producer"].builds(m0=LOST)
    assert run.later(seconds=10) == ["Retry m0"]
    assert "nodes" not in run["Retry m0"].decision.name


@pytest.mark.parametrize(
    ("adapter", "policy"),
    [
        ("duckdb", ConcurrencyPolicy.AUTO),
        ("sqlite", ConcurrencyPolicy.AUTO),
        ("", ConcurrencyPolicy.AUTO),  # nobody knows
        ("postgres", ConcurrencyPolicy.FORBID),
    ],
)
def test_where_one_process_is_allowed_attempts_come_one_after_the_other(
    adapter: str, policy: ConcurrencyPolicy
) -> None:
    run = Story(*models(2), model("report", "m0"), model("other"), adapter=adapter, concurrency_policy=policy)
    run["Producer"].starts().reports(**failing(2), report="skipped", other="running")
    assert run.later(seconds=600) == []
    run["Producer"].reports(other="success").ends()
    assert run.next() == ["Retry m0"]
    run["Retry m0"].builds()
    assert run.next() == ["Retry m1"]
    run["Retry m1"].builds()
    assert run.next() == ["Resume report"]


@pytest.mark.parametrize(
    ("adapter", "policy"), [("postgres", ConcurrencyPolicy.AUTO), ("duckdb", ConcurrencyPolicy.ALLOW)]
)
def test_elsewhere_they_run_beside_the_producer(adapter: str, policy: ConcurrencyPolicy) -> None:
    run = Story(*models(2), model("other"), adapter=adapter, concurrency_policy=policy)
    run["Producer"].starts().reports(**failing(2), other="running")
    assert run.later(seconds=10) == ["Retry m0", "Retry m1"]


def test_where_one_process_is_allowed_a_retry_waits_for_one_that_may_still_live() -> None:
    run = Story(*models(1), model("other"), adapter="duckdb", max_restarts=3)
    run["Producer"].starts().reports(m0="error: deadlock", other="success")
    run.later(seconds=20)
    run["Producer"].vanishes()
    assert run.later(seconds=59) == []
    assert run.later(seconds=1) == ["Retry m0"]


def test_retries_that_would_execute_the_same_test_come_one_after_the_other() -> None:
    run = Story(model("a"), model("b"), data_test("match", "a", "b"), limit=2, parallelism=5)
    run["Producer"].builds(a="error: deadlock", b="error: deadlock", match="skipped")
    run.later(seconds=10)
    run["Retry a"].builds(a="error: deadlock")
    run["Retry b"].builds(b="error: deadlock")
    # Neither has what the test needs without the other one.
    assert run.later(seconds=20) == ["Retry a", "Retry b"]


def test_a_test_is_not_run_while_a_node_that_it_reads_is_built_again() -> None:
    nodes = [model("a"), model("b"), data_test("own", "b"), data_test("match", "a", "b")]
    run = Story(*nodes, reasons=frozenset(RetryReason))
    run["Producer"].builds(a="error: deadlock", own="fail: Got 1 result", match="skipped")
    first = run.later(seconds=10)
    assert len(first) == 1, "one retry builds b, the other one would run the test that reads it"
    run[first[0]].builds()
    for label in run.next():
        run[label].builds()
    for label in run.next():
        run[label].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


@pytest.mark.parametrize("report", ["running", "success"])
def test_a_good_node_is_not_built_again_under_a_node_that_was_or_is_being_built_from_it(report: str) -> None:
    nodes = [model("a"), model("b"), data_test("match", "a", "b"), model("report", "a")]
    run = Story(*nodes, reasons=frozenset(RetryReason))
    run["Producer"].starts().reports(a="success", b="success", match="fail: Got 1 result", report=report)
    assert run.later(seconds=10) == ["Retry match"]
