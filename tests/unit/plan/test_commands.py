"""What a run of another command than `build` does: models without their tests, or tests of what is there already."""

from typing import Any

import pytest

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, model, seed, unit_test
from tests.unit.plan.story import Story

TESTS_FAILED = frozenset({RetryReason.ERROR, RetryReason.TESTS_FAILED})


def of_models(**rules: Any) -> Story:
    """`dbt run` of a model that is read through a snapshot, which it does not execute."""
    between = {**model("between", "orders"), "unique_id": "snapshot.shop.between", "resource_type": "snapshot"}
    return Story(model("orders"), between, model("report", "snapshot.shop.between"), command=Command.RUN, **rules)


def of_tests(**rules: Any) -> Story:
    """`dbt test` of two models, the second one built from the first one."""
    return Story(
        seed("raw"),
        model("orders", "seed.shop.raw"),
        model("report", "orders"),
        data_test("keys", "orders", attached_node="model.shop.orders"),
        data_test("sums", "report", attached_node="model.shop.report"),
        unit_test("logic", "model.shop.report"),
        command=Command.TEST,
        **rules,
    )


def test_a_retry_of_run_executes_the_model_alone_and_then_what_waited_for_it() -> None:
    run = of_models()
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert (run.shows("orders"), run.node("report").blocked_by) == (NodePhase.FAILED, "model.shop.orders")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "2 nodes succeeded.")


def test_a_run_of_models_that_lost_its_pod_goes_on_with_what_is_left() -> None:
    run = of_models()
    run["Producer"].starts().reports(orders="success", report="running").is_evicted()
    assert run.next() == ["Resume report"]


def test_a_success_of_test_says_that_tests_passed_and_not_that_nodes_were_built() -> None:
    run = of_tests()
    run["Producer"].starts()
    assert (run.shows("orders"), run.shows("report")) == (NodePhase.PENDING, NodePhase.PENDING)
    run["Producer"].builds()
    run.next()
    assert (run.phase(), run.reason(), run.message()) == (
        RunPhase.SUCCEEDED,
        RunReason.ALL_SUCCEEDED,
        "3 tests succeeded.",
    )
    for name in ("orders", "report"):
        node = run.node(name)
        assert (node.phase, node.executed, node.started_at, node.execution_seconds) == (
            NodePhase.SUCCEEDED,
            False,
            None,
            None,
        )


@pytest.mark.parametrize("failing", ["keys", "sums", "logic"])
def test_a_test_that_failed_holds_no_other_back_and_is_retried_alone(failing: str) -> None:
    run = of_tests(reasons=TESTS_FAILED)
    run["Producer"].builds(**{failing: "fail: Got 2 results"})
    assert run.later(seconds=10) == [f"Retry {failing}"]
    run[f"Retry {failing}"].builds()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "3 tests succeeded.")
    assert run.shows("orders") is run.shows("report") is NodePhase.SUCCEEDED


def test_tests_of_nodes_that_are_built_from_each_other_are_retried_beside_each_other() -> None:
    run = of_tests(reasons=TESTS_FAILED)
    run["Producer"].builds(keys="fail: Got 2 results", sums="error: deadlock", logic="fail: differs")
    assert sorted(run.later(seconds=10)) == ["Retry keys", "Retry logic", "Retry sums"]


def test_a_test_that_fails_for_good_is_the_end_of_the_run_and_of_the_node_that_it_tests() -> None:
    run = of_tests()
    run["Producer"].builds(sums="fail: Got 2 results")
    assert run.later(seconds=10) == []
    assert (run.phase(), run.reason(), run.message()) == (
        RunPhase.FAILED,
        RunReason.TESTS_FAILED,
        "1 of 3 tests failed: sums (Got 2 results).",
    )
    assert (run.shows("orders"), run.node("report").reason) == (NodePhase.SUCCEEDED, NodeReason.TESTS_FAILED)


def test_tests_that_a_lost_pod_did_not_come_to_are_executed_by_another_one() -> None:
    run = of_tests(max_restarts=1)
    run["Producer"].starts().reports(keys="pass", sums="running").is_evicted()
    assert run.next() == ["Resume sums logic"]
    run["Resume sums logic"].starts().is_evicted()
    run.next()
    assert run.phase() is RunPhase.FAILED
    assert "1 of 3 tests had succeeded" in run.message()


def test_a_person_may_ask_for_the_tests_of_a_node_to_be_retried() -> None:
    run = of_tests(limit=0)
    run["Producer"].builds(keys="fail: Got 2 results")
    run.next()
    assert run.ask("again", "orders") == ["Retry keys"]
    run["Retry keys"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_test_that_stays_red_keeps_no_other_from_being_executed_that_was_lost() -> None:
    run = of_tests()
    run["Producer"].starts().reports(keys="fail: Got 2 results", sums="running").is_evicted()
    assert run.next() == ["Resume sums logic"]
    run["Resume sums logic"].builds()
    run.next()
    assert (run.reason(), run.message()) == (
        RunReason.TESTS_FAILED,
        "1 of 3 tests failed: keys (Got 2 results).",
    )


def of_sources(**rules: Any) -> Story:
    """`dbt source freshness` of two sources."""
    listed = ({"unique_id": f"source.shop.raw.{name}", "name": name, "resource_type": "source"} for name in ("a", "b"))
    return Story(*listed, command=Command.SOURCE_FRESHNESS, **rules)


def test_a_stale_source_is_retried_as_a_test_that_finds_something_and_one_that_cannot_be_read_as_an_error() -> None:
    run = of_sources()
    run["Producer"].builds(a="error", b="runtime error: no such table")
    assert run.later(seconds=10) == ["Retry b"]
    run["Retry b"].builds(b="warn")
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.SOURCES_STALE)
    assert (run.node("a").reason, run.node("b").reason) == (NodeReason.STALE, NodeReason.WARNED)
    run = of_sources(reasons=TESTS_FAILED)
    run["Producer"].builds(a="error")
    assert run.later(seconds=10) == ["Retry a"]


def test_a_source_that_a_lost_pod_did_not_come_to_is_looked_at_by_another_one() -> None:
    run = of_sources()
    run["Producer"].starts().reports(a="pass", b="running").is_evicted()
    assert run.later(seconds=1) == ["Resume b"]
    run["Resume b"].builds()
    run.next()
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "2 nodes succeeded.")


def of_clones(**rules: Any) -> Story:
    """`dbt clone` of a model and one that reads it."""
    return Story(model("orders"), model("report", "orders"), command=Command.CLONE, **rules)


def test_a_clone_that_failed_is_cloned_again_alone_and_holds_none_back() -> None:
    run = of_clones()
    run["Producer"].builds(orders="error: deadlock")
    assert run.shows("report") is NodePhase.SUCCEEDED
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "2 nodes succeeded.")


@pytest.mark.parametrize("command", [Command.SEED, Command.SNAPSHOT])
def test_seeds_and_snapshots_are_retried_and_resumed_by_themselves(command: Command) -> None:
    kind = command.value
    listed = [{**model(name), "unique_id": f"{kind}.shop.{name}", "resource_type": kind} for name in ("a", "b")]
    run = Story(*listed, command=command)
    run["Producer"].starts().reports(a="error: deadlock", b="running").is_evicted()
    assert sorted(run.later(seconds=10)) == ["Resume b", "Retry a"]
