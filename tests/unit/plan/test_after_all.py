"""A run of `build` whose tests are executed in a stage of their own, after everything else."""

from typing import Any

import pytest

from dbt_operator.api.commands import Stage, WhenTested
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, model, seed, unit_test
from tests.unit.plan.story import Story

TESTS_FAILED = frozenset({RetryReason.ERROR, RetryReason.TESTS_FAILED})
ALL = "Tests keys sums match logic"


def shop(**rules: Any) -> Story:
    """Two models, one built from the other; a test of each, one of both, and a unit test of the second."""
    return Story(
        seed("raw"),
        model("orders", "seed.shop.raw"),
        model("report", "orders"),
        data_test("keys", "orders", attached_node="model.shop.orders"),
        data_test("sums", "report", attached_node="model.shop.report"),
        data_test("match", "orders", "report", attached_node="model.shop.report"),
        unit_test("logic", "model.shop.report"),
        tests=WhenTested.AFTER_ALL,
        **rules,
    )


def built(**rules: Any) -> Story:
    """Everything is built, and the tests are decided on."""
    run = shop(**rules)
    run["Producer"].builds()
    assert run.next() == [ALL]
    return run


def test_everything_is_built_first_and_then_all_tests_are_executed_by_one_attempt() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="success")
    assert (run.phase(), run.shows("orders"), run.shows("keys")) == (
        RunPhase.RUNNING,
        NodePhase.SUCCEEDED,
        NodePhase.PENDING,
    )
    run["Producer"].reports(report="success").ends()
    assert run.next() == [ALL]
    producer, tests = (one.decision for one in run.attempts)
    assert (producer.stage, producer.name) == (Stage.BUILD, "nightly-producer-1")
    assert (tests.stage, tests.name) == (Stage.TEST, "nightly-tests-1")
    assert [run.shows(name) for name in ("orders", "keys", "logic")] == [NodePhase.SUCCEEDED, *[NodePhase.PENDING] * 2]
    run[ALL].starts().reports(keys="running")
    assert (run.phase(), run.shows("keys")) == (RunPhase.RUNNING, NodePhase.RUNNING)
    run[ALL].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert run.message() == "3 nodes and 4 tests succeeded."


def test_the_run_is_starting_and_not_retrying_between_its_stages() -> None:
    run = shop()
    run["Producer"].builds()
    phases = []
    for _ in range(6):
        plan = run.plan()
        phases.append(plan.phase)
        run._decide(plan)
        run._act(plan)
    assert set(phases) == {RunPhase.STARTING}


def test_a_test_that_fails_holds_nothing_back_and_fails_the_run_and_its_node() -> None:
    run = built(limit=0)
    run[ALL].builds(keys="fail: Got 2 results", match="warn: Got 1 result")
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.TESTS_FAILED)
    assert run.message() == "1 of 4 tests failed: keys (Got 2 results)."
    assert (run.node("orders").phase, run.node("orders").reason) == (NodePhase.FAILED, NodeReason.TESTS_FAILED)
    assert (run.node("report").phase, run.node("report").reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)


def test_a_node_is_tried_again_before_any_test_is_executed() -> None:
    run = shop()
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert (run.shows("keys"), run.shows("report")) == (NodePhase.PENDING, NodePhase.SKIPPED)
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == [ALL]
    assert {one.decision.stage for one in run.attempts[:3]} == {Stage.BUILD}
    run[ALL].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_the_tests_of_a_node_that_failed_for_good_are_skipped_and_all_others_are_executed() -> None:
    run = shop(limit=0)
    run["Producer"].builds(report="error: division by zero")
    assert run.next() == ["Tests keys"]
    assert (run.shows("sums"), run.node("sums").blocked_by) == (NodePhase.SKIPPED, "model.shop.report")
    run["Tests keys"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert run.shows("keys") is NodePhase.SUCCEEDED
    for name in ("sums", "match", "logic"):
        assert (run.node(name).phase, run.node(name).reason) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED)
    report = run.node("report")
    assert report.tests is not None
    assert (report.tests.total, report.tests.skipped) == (3, 3)


def test_without_a_test_that_can_be_executed_there_is_no_second_stage() -> None:
    run = shop(limit=0)
    run["Producer"].builds(raw="error: boom", orders="skipped", report="skipped")
    assert (run.next(), run.phase(), len(run.attempts)) == ([], RunPhase.FAILED, 1)
    assert run.shows("keys") is NodePhase.SKIPPED
    assert run.node("keys").blocked_by == "seed.shop.raw"
    untested = Story(model("orders"), tests=WhenTested.AFTER_ALL)
    untested["Producer"].builds()
    assert (untested.next(), untested.phase(), untested.message()) == ([], RunPhase.SUCCEEDED, "1 node succeeded.")


def test_with_fail_fast_a_failure_that_stays_leaves_the_tests_alone() -> None:
    run = shop(limit=0, fail_fast=True)
    run["Producer"].builds(report="error: boom")
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    assert (run.node("keys").phase, run.node("keys").message) == (
        NodePhase.SKIPPED,
        "Another node failed before it was begun, and nothing is begun after that, as fail-fast asks.",
    )


def test_a_run_that_lost_its_pod_while_it_built_goes_on_with_that_and_one_that_tested_with_the_tests() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="success", report="running").is_evicted()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == [ALL]
    run[ALL].starts().reports(keys="pass", sums="running").is_killed()
    assert run.later(seconds=61) == ["Resume sums match logic"]
    assert run["Resume sums match logic"].decision.stage is Stage.TEST
    run["Resume sums match logic"].builds()
    assert (run.next(), run.phase(), run.message()) == ([], RunPhase.SUCCEEDED, "3 nodes and 4 tests succeeded.")


def test_a_test_that_came_to_no_result_is_executed_again_alone() -> None:
    run = built()
    run[ALL].builds(keys="error: deadlock")
    assert run.later(seconds=10) == ["Retry keys"]
    assert run["Retry keys"].decision.stage is Stage.TEST
    run["Retry keys"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_a_node_whose_test_found_rows_is_built_again_where_nothing_was_built_from_it_and_tested_after_that() -> None:
    run = built(reasons=TESTS_FAILED)
    run[ALL].builds(sums="fail: Got 2 results")
    assert run.later(seconds=10) == ["Retry report"]
    assert run["Retry report"].decision.stage is Stage.BUILD
    run["Retry report"].builds()
    # Whatever was found of the build before counts no longer.
    assert [run.shows(name) for name in ("keys", "sums", "match", "logic")] == [
        NodePhase.SUCCEEDED,
        *[NodePhase.PENDING] * 3,
    ]
    assert run.next() == ["Resume sums match logic"]
    run["Resume sums match logic"].builds(sums="fail: Got 1 result")
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.TESTS_FAILED)


def test_a_node_that_others_were_built_from_is_only_tested_again() -> None:
    run = built(reasons=TESTS_FAILED)
    run[ALL].builds(keys="fail: Got 2 results")
    assert run.later(seconds=10) == ["Retry keys"]


def test_a_node_is_not_built_again_while_other_tests_are_at_work() -> None:
    run = built(reasons=TESTS_FAILED)
    run[ALL].starts().reports(sums="fail: Got 2 results", keys="running")
    assert run.later(seconds=60) == []
    run[ALL].builds()
    assert run.next() == ["Retry report"]


def test_tests_are_suspended_and_go_on_and_can_be_cancelled() -> None:
    run = built()
    run[ALL].starts().reports(keys="pass", sums="running")
    run.change(suspend=True)
    run[ALL].stops()
    assert (run.next(), run.phase()) == ([], RunPhase.SUSPENDED)
    assert run.change(suspend=False) == ["Resume sums match logic"]
    run["Resume sums match logic"].starts()
    run.change(cancel=True)
    run["Resume sums match logic"].stops()
    run.next()
    assert (run.phase(), run.shows("orders"), run.shows("keys")) == (
        RunPhase.CANCELLED,
        NodePhase.SUCCEEDED,
        NodePhase.SUCCEEDED,
    )
    assert run.shows("sums") is NodePhase.CANCELLED


def test_a_run_that_is_suspended_between_its_stages_goes_on_with_the_tests() -> None:
    run = shop()
    run["Producer"].starts()
    run.change(suspend=True)
    run["Producer"].builds()
    run.next()
    assert (run.phase(), run.shows("keys")) == (RunPhase.SUSPENDED, NodePhase.PENDING)
    assert run.change(suspend=False) == [ALL]


def test_a_run_that_is_cancelled_while_it_builds_executes_no_test() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="running")
    run.change(cancel=True)
    run["Producer"].stops()
    assert (run.next(), run.phase()) == ([], RunPhase.CANCELLED)
    assert {run.shows(name) for name in ("keys", "sums", "match", "logic")} == {NodePhase.CANCELLED}


@pytest.mark.parametrize("asked", [None, "report"])
def test_a_retry_that_a_person_asks_for_builds_first_and_tests_then(asked: str | None) -> None:
    run = shop(limit=0)
    run["Producer"].builds(report="error: boom")
    assert run.next() == ["Tests keys"]
    run["Tests keys"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    (made,) = run.ask("t1", asked)
    assert made in ("Resume report", "Retry report")
    run[made].builds()
    assert run.next() == ["Resume sums match logic"]
    run["Resume sums match logic"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_tests_that_failed_are_executed_again_when_a_person_asks_for_it() -> None:
    run = built(limit=0)
    run[ALL].builds(keys="fail: Got 2 results", sums="fail: Got 1 result")
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    assert run.ask("t1") == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == ["Retry keys"]
    run["Retry keys"].builds()
    assert run.next() == ["Resume sums match logic"]
    run["Resume sums match logic"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_a_selection_of_tests_alone_has_them_executed() -> None:
    run = Story({**model("orders"), "selected": False}, data_test("keys", "orders"), tests=WhenTested.AFTER_ALL)
    dbt = run["Producer"].starts()
    dbt.log.add("NothingToDo", {}, at=run.now)
    dbt.ends()
    assert run.next() == ["Tests keys"]
    run["Tests keys"].builds()
    assert (run.next(), run.phase(), run.message()) == ([], RunPhase.SUCCEEDED, "1 test succeeded.")


def test_a_success_of_which_the_tests_are_not_known_is_none() -> None:
    run = shop()
    dbt = run["Producer"].starts(loaded=False)
    dbt.reports(raw="success", orders="success", report="success")
    dbt.log.finishes(0, at=run.now)
    dbt._exits(exit_code=0)
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.LOG_UNREADABLE)
    assert "no test was executed" in run.message()
    assert run.ask("t1") == ["Producer"]


def test_what_is_gone_with_its_pod_before_it_was_tested_is_no_success() -> None:
    run = shop(pod_database=":memory:")
    run["Producer"].builds()
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.TESTS_FAILED)
    assert run.message().startswith(
        "4 tests were not executed. Nothing is tried again, as the database is in the memory"
    )
    assert run.shows("keys") is NodePhase.SKIPPED


def test_no_test_is_executed_where_an_error_has_ended_dbt_before_everything_was_built() -> None:
    run = Story(model("orders"), data_test("alone"), tests=WhenTested.AFTER_ALL)
    run["Producer"].starts().gives_up("other", "something is wrong")
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.DBT_ERROR)
    assert run.shows("alone") is NodePhase.SKIPPED


def test_tests_follow_where_an_error_has_ended_dbt_after_everything_was_built() -> None:
    """That a later attempt says nothing of a node is not that error's doing."""
    run = Story(model("orders"), model("stock"), data_test("unique", "stock"), tests=WhenTested.AFTER_ALL, limit=1)
    dbt = run["Producer"].starts().reports(orders="error: deadlock", stock="success")
    dbt.gives_up("connection", "no route to host")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].starts().reports(orders="running").ends()
    assert run.later(seconds=600) == ["Tests unique"]


def test_what_reads_a_table_that_the_run_does_not_build_is_not_built_from_what_is_above_it() -> None:
    between = {**model("between", "orders"), "selected": False}
    run = Story(
        *(model("orders"), between, model("report", "between")),
        *(data_test("unique", "orders"), data_test("match", "between", "report")),
        tests=WhenTested.AFTER_ALL,
        reasons=TESTS_FAILED,
    )
    run["Producer"].builds()
    run.next()
    run["Tests unique match"].builds(unique="fail: Got 1 result")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == ["Resume unique"]


def test_tests_follow_where_a_later_attempt_has_met_the_error_no_more() -> None:
    nodes = (model("orders"), model("stock"), data_test("unique", "stock"))
    run = Story(*nodes, tests=WhenTested.AFTER_ALL, reasons=(RetryReason.CONNECTION_FAILED,), limit=1)
    run["Producer"].starts().gives_up("connection", "no route to host")
    assert run.later(seconds=10) == ["Resume orders stock"]
    run["Resume orders stock"].starts().reports(orders="running", stock="success").ends()
    assert run.later(seconds=600) == ["Tests unique"]
