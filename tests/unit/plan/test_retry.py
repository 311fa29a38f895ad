"""A node that failed is tried again: which ones, when and how often."""

from datetime import timedelta
from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import Downstream, RetryReason
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story


def test_a_failed_node_is_retried_after_its_backoff_while_the_producer_still_runs() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.next() == []
    assert run.plan().wake_at == run.now + timedelta(seconds=10)
    assert run.later(seconds=9.9) == []
    assert run.later(seconds=0.1) == ["Retry orders"]
    assert run["Retry orders"].job is not None
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.EXECUTING)


def test_a_retry_does_not_wait_until_dbt_has_come_to_all_that_it_will_skip() -> None:
    run = Story(model("orders"), model("report", "orders"), model("summary", "report"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.later(seconds=10) == ["Retry orders"]


def test_a_run_is_successful_when_the_retry_is() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.RETRYING, RunReason.BACKING_OFF)
    assert "orders" in run.message()
    run.later(seconds=10)
    assert run.reason() is RunReason.SCHEDULING  # what keeps it from starting is worth more than what it is for
    run["Retry orders"].starts()
    assert (run.phase(), run.reason()) == (RunPhase.RETRYING, RunReason.RETRYING_NODES)
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].starts()
    assert (run.phase(), run.reason()) == (RunPhase.RETRYING, RunReason.RESUMING)
    run["Resume report"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert (run.shows("orders"), run.shows("report")) == (NodePhase.SUCCEEDED, NodePhase.SUCCEEDED)


def test_the_pause_grows_with_every_try_up_to_its_cap() -> None:
    rules: dict[str, Any] = {
        "limit": 4,
        "backoff": {"duration": "10s", "factor": 3.0, "max": "60s"},
    }
    run = Story(model("orders"), **rules)
    run["Producer"].builds(orders="error: deadlock")
    for seconds in (10, 30, 60, 60):
        assert run.later(seconds=seconds - 1) == []
        assert run.later(seconds=1) == ["Retry orders"]
        run["Retry orders"].builds(orders="error: deadlock")
    run.next()
    assert run.phase() is RunPhase.FAILED


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_node_is_retried_as_often_as_the_limit_says_and_no_more(limit: int) -> None:
    run = Story(model("orders"), limit=limit)
    run["Producer"].builds(orders="error: deadlock")
    for _ in range(limit):
        assert run.later(seconds=600) == ["Retry orders"]
        run["Retry orders"].builds(orders="error: deadlock")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "deadlock" in run.message()


def test_attempts_that_came_to_nothing_before_the_node_failed_were_no_retries_of_it() -> None:
    run = Story(model("orders"), reasons=frozenset({RetryReason.ERROR, RetryReason.CONNECTION_FAILED}), limit=1)
    run["Producer"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=10) == ["Resume orders"]
    run["Resume orders"].builds(orders="error: deadlock")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []


def test_each_retry_has_a_job_of_its_own() -> None:
    run = Story(model("orders"), limit=2)
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].builds(orders="error: deadlock")
    run.later(seconds=20)
    names = [one.decision.name for one in run.attempts]
    assert len(set(names)) == 3
    assert names[0] == "nightly-producer-1"
    assert (names[1][-2:], names[2][-2:]) == ("-1", "-2")


FAILURES = {
    RetryReason.ERROR: "error: Database Error in model orders",
    RetryReason.COMPILE_ERROR: "error: Compilation Error in model orders",
    RetryReason.PARTIAL_SUCCESS: "partial success: PARTIAL SUCCESS (1/2)",
}


@pytest.mark.parametrize("asked", FAILURES)
@pytest.mark.parametrize("happened", FAILURES)
def test_only_the_failures_that_are_asked_for_are_retried(asked: RetryReason, happened: RetryReason) -> None:
    run = Story(model("orders"), reasons=frozenset({asked}))
    run["Producer"].builds(orders=FAILURES[happened])
    assert run.later(seconds=10) == (["Retry orders"] if asked is happened else [])


def test_the_kind_of_the_last_failure_decides() -> None:
    run = Story(model("orders"), limit=5)
    run["Producer"].builds(orders="error: Database Error")
    run.later(seconds=10)
    run["Retry orders"].builds(orders="error: Compilation Error in model orders")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


def test_a_node_that_warned_is_not_retried() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), reasons=frozenset(RetryReason))
    run["Producer"].builds(positive="warn: Got 1 result")
    assert run.later(seconds=600) == []
    assert run.reason() is RunReason.SUCCEEDED_WITH_WARNINGS


def test_a_failure_that_is_stamped_an_hour_ahead_is_not_waited_for() -> None:
    run = Story(model("orders"), model("other"))
    producer = run["Producer"].starts()
    producer.says({"orders": "error: deadlock", "other": "running"}, at=run.now + timedelta(hours=1))
    assert run.later(seconds=10) == ["Retry orders"]


def test_a_failure_that_is_stamped_an_hour_ago_is_retried_at_once() -> None:
    run = Story(model("orders"), model("other"))
    producer = run["Producer"].starts()
    producer.says({"orders": "error: deadlock", "other": "running"}, at=run.now - timedelta(hours=1))
    assert run.next() == ["Retry orders"]


def test_what_a_failed_node_had_blocked_runs_after_its_retry_and_only_then() -> None:
    run = Story(model("orders"), model("report", "orders"), model("summary", "report"), model("other"), limit=2)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", summary="skipped", other="running")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.next() == []
    assert run.later(seconds=20) == ["Retry orders"]
    run["Retry orders"].starts()
    assert run.next() == []
    run["Retry orders"].builds()
    assert run.next() == ["Resume report summary"]
    run["Resume report summary"].builds()
    run["Producer"].reports(other="success").ends()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_what_is_blocked_by_two_failures_waits_for_both() -> None:
    run = Story(model("orders"), model("stock"), model("report", "orders", "stock"), limit=2)
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock", report="skipped")
    assert run.later(seconds=10) == ["Retry orders", "Retry stock"]
    run["Retry orders"].builds()
    run["Retry stock"].builds(stock="error: deadlock")
    assert run.next() == []
    assert run.later(seconds=20) == ["Retry stock"]
    run["Retry stock"].builds()
    assert run.next() == ["Resume report"]


def test_what_is_blocked_waits_until_no_retry_is_to_come_so_that_one_attempt_does_it_all() -> None:
    run = Story(model("orders"), model("report", "orders"), model("stock"), model("list", "stock"), limit=2)
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock", report="skipped", list="skipped")
    run.later(seconds=10)
    run["Retry orders"].builds()
    assert run.next() == []
    run["Retry stock"].builds(stock="error: deadlock")
    assert run.next() == []
    assert run.later(seconds=20) == ["Retry stock"]
    run["Retry stock"].builds()
    assert run.next() == ["Resume report list"]


def test_what_is_blocked_for_good_is_left_and_the_rest_goes_on() -> None:
    run = Story(
        model("orders"),
        model("report", "orders"),
        model("stock"),
        model("list", "stock"),
        model("both", "orders", "stock"),
    )
    skipped = dict.fromkeys(("report", "list", "both"), "skipped")
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock", **skipped)
    run.later(seconds=10)
    run["Retry orders"].builds(orders="error: deadlock")
    run["Retry stock"].builds()
    assert run.next() == ["Resume list"]
    run["Resume list"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert {name: run.shows(name) for name in ("report", "both", "list")} == {
        "report": NodePhase.SKIPPED,
        "both": NodePhase.SKIPPED,
        "list": NodePhase.SUCCEEDED,
    }
    assert run.node("both").blocked_by == "model.shop.orders"


def test_per_node_each_blocked_node_gets_an_attempt_of_its_own_in_the_order_of_the_graph() -> None:
    nodes = [model("orders"), model("report", "orders"), data_test("positive", "report"), model("list", "orders")]
    run = Story(*nodes, model("summary", "report"), downstream=Downstream.PER_NODE)
    skipped = dict.fromkeys(("report", "positive", "list", "summary"), "skipped")
    run["Producer"].builds(orders="error: deadlock", **skipped)
    run.later(seconds=10)
    run["Retry orders"].builds()
    assert run.next() == ["Resume report positive", "Resume list"]
    run["Resume list"].builds()
    assert run.next() == []
    run["Resume report positive"].builds()
    assert run.next() == ["Resume summary"]
    run["Resume summary"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_per_node_attempts_keep_to_the_parallelism() -> None:
    children = [model(f"report_{number}", "orders") for number in range(5)]
    run = Story(model("orders"), *children, downstream=Downstream.PER_NODE, parallelism=2)
    run["Producer"].builds(orders="error: deadlock", **{child["name"]: "skipped" for child in children})
    run.later(seconds=10)
    run["Retry orders"].builds()
    assert run.next() == ["Resume report_0", "Resume report_1"]
    run["Resume report_1"].builds()
    assert run.next() == ["Resume report_2"]


def test_a_node_that_fails_in_the_resume_is_retried_too() -> None:
    run = Story(model("orders"), model("report", "orders"), model("summary", "report"))
    run["Producer"].builds(orders="error: deadlock", report="skipped", summary="skipped")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run.next()
    run["Resume report summary"].builds(report="error: deadlock", summary="skipped")
    assert run.next() == []
    assert run.later(seconds=10) == ["Retry report"]
    run["Retry report"].builds()
    assert run.next() == ["Resume summary"]
    run["Resume summary"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_retry_that_never_comes_to_its_node_uses_up_a_try() -> None:
    run = Story(model("orders"), limit=2)
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].starts(loaded=False).gives_up("selector", "model.shop.orders is not in the project any more")
    assert run.next() == []
    assert run.later(seconds=20) == ["Retry orders"]
    run["Retry orders"].starts(loaded=False).gives_up("selector", "model.shop.orders is not in the project any more")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    assert "not in the project any more" in run.message()


def test_nothing_more_is_started_after_a_failure_that_stays_when_the_run_fails_fast() -> None:
    run = Story(model("orders"), model("stock"), model("list", "stock"), fail_fast=True)
    run["Producer"].builds(orders="error: Compilation Error", stock="error: deadlock", list="skipped")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


def test_a_run_that_fails_fast_goes_on_after_a_failure_that_could_be_mended() -> None:
    run = Story(model("orders"), model("stock"), model("list", "stock"), fail_fast=True)
    run["Producer"].builds(orders="success", stock="error: deadlock", list="skipped")
    assert run.later(seconds=10) == ["Retry stock"]
    run["Retry stock"].builds()
    assert run.next() == ["Resume list"]
    run["Resume list"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
