"""Sources that are looked at before a build: what is passed over, and what retries and resumes make of it."""

from typing import Any

import pytest

from dbt_operator.api.commands import Mode
from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story

ORDERS, CUSTOMERS = "source.shop.raw.orders", "source.shop.raw.customers"
SUCCESS = RunReason.SUCCEEDED_WITH_WARNINGS


def source(unique_id: str) -> dict[str, Any]:
    """A source that is looked at."""
    name = unique_id.rpartition(".")[2]
    return {"unique_id": unique_id, "name": name, "resource_type": "source", "freshness": True, "depends_on": []}


def shop(**rules: Any) -> Story:
    """Two sources, what is built of each, and what is built of both."""
    return Story(
        *(source(ORDERS), source(CUSTOMERS)),
        *(model("a", ORDERS), model("b", CUSTOMERS), model("both", "a", "b"), model("end", "both")),
        *(data_test("t", "b"), data_test("of_source", CUSTOMERS)),
        **rules,
    )


HELD = "b both end t of_source"


def passed_over(**rules: Any) -> Story:
    """A run that has skipped what depends on the customers, and has ended."""
    run = shop(**rules)
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).builds()
    assert run.next() == []
    return run


def test_a_run_that_skips_what_is_stale_has_succeeded_and_says_what_it_has_not_done() -> None:
    run = passed_over()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.message() == (
        f"3 nodes ended without failure; 1 node warned; 3 nodes and 2 tests were skipped, as {CUSTOMERS} is stale."
    )
    assert (run.node("customers").phase, run.node("customers").reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)
    for name in HELD.split():
        view = run.node(name)
        assert (view.phase, view.reason, view.blocked_by) == (NodePhase.SKIPPED, NodeReason.STALE, CUSTOMERS)
        assert view.message == f"{CUSTOMERS} is stale."


def test_a_run_that_skips_everything_has_succeeded_too_and_exposures_count_for_nothing() -> None:
    exposure = {**model("dashboard", "b"), "unique_id": "exposure.shop.dashboard", "resource_type": "exposure"}
    run = Story(source(CUSTOMERS), model("b", CUSTOMERS), exposure)
    run["Producer"].starts().looks(customers="stale", held="b dashboard").ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.message() == f"1 node ended without failure; 1 node warned; 1 node was skipped, as {CUSTOMERS} is stale."
    run.ask("again")
    run["Resume customers b"].starts().looks(customers="pass").builds()
    assert run.next() == []
    assert (run.reason(), run.message()) == (RunReason.ALL_SUCCEEDED, "2 nodes succeeded.")


def test_an_old_source_that_is_only_to_be_warned_of_holds_nothing_back() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="warn", customers="stale").builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.message() == "6 nodes and 2 tests ended without failure; 2 nodes warned."


def test_a_failure_is_told_apart_from_what_was_stale() -> None:
    run = Story(source(ORDERS), source(CUSTOMERS), model("a", ORDERS), model("b", CUSTOMERS), model("c", "a"), limit=0)
    dbt = run["Producer"].starts().looks(orders="pass", customers="stale", held="b")
    dbt.reports(a="error: boom", c="skipped").ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert run.message() == (
        f"1 of 5 nodes failed: a (boom); 1 was skipped because of it; 1 node was skipped, as {CUSTOMERS} is stale."
    )
    assert (run.node("c").reason, run.node("c").blocked_by) == (NodeReason.UPSTREAM_FAILED, "model.shop.a")


def test_a_retry_executes_what_failed_and_nothing_of_what_is_stale() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).reports(a="error: boom").ends()
    assert run.later(seconds=10) == ["Retry a"]
    run["Retry a"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)


def test_a_retry_goes_without_a_test_that_reads_what_is_stale() -> None:
    nodes = (
        source(CUSTOMERS),
        model("a"),
        model("b", CUSTOMERS),
        data_test("both", "a", "b", attached_node="model.shop.a"),
    )
    run = Story(*nodes, data_test("t", "a"))
    run["Producer"].starts().looks(customers="stale", held="b both").reports(a="error: boom", t="skipped").ends()
    assert run.later(seconds=10) == ["Retry a t"]
    run["Retry a t"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)


def test_a_test_that_finds_something_in_fresh_and_stale_data_has_the_fresh_part_built_again() -> None:
    """With staleParents: All."""
    nodes = (source(CUSTOMERS), model("a"), model("b", CUSTOMERS), data_test("both", "a", "b"))
    run = Story(*nodes, reasons=(RetryReason.TESTS_FAILED,))
    run["Producer"].starts().looks(customers="stale", held="b").reports(a="success", both="fail: Got 1").ends()
    assert run.later(seconds=10) == ["Retry a both"]


def test_a_resume_keeps_to_what_was_decided() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).reports(a="running").is_evicted()
    assert run.later(seconds=1) == ["Resume a"]  # neither a source nor what is stale
    run["Resume a"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)


def test_what_reads_stale_data_too_waits_for_no_more_than_the_rest_of_it() -> None:
    """With staleParents: All."""
    run = shop()
    dbt = run["Producer"].starts().looks(orders="pass", customers="stale", held="b t of_source")
    dbt.reports(a="running").is_evicted()
    assert run.later(seconds=1) == ["Resume a both end"]
    run["Resume a both end"].builds()
    assert run.next() == []
    assert run.message() == (
        f"5 nodes ended without failure; 1 node warned; 1 node and 2 tests were skipped, as {CUSTOMERS} is stale."
    )


@pytest.mark.parametrize("told", [{}, {"orders": "pass"}, {"orders": "pass", "customers": "stale"}])
def test_sources_are_looked_at_again_where_nothing_was_decided_yet(told: dict[str, str]) -> None:
    run = shop()
    run["Producer"].starts().reports(**told).is_evicted()
    everything = "Resume orders customers a b both end t of_source"
    assert run.later(seconds=1) == [everything]
    run[everything].starts().looks(orders="pass", customers="stale", held=HELD).builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.node("b").reason is NodeReason.STALE


def test_who_looks_in_the_place_of_a_lost_pod_decides_for_the_tests_of_a_later_stage_too() -> None:
    run = shop(tests="AfterAll")
    run["Producer"].starts().is_evicted()
    everything = "Resume orders customers a b both end"
    assert run.later(seconds=1) == [everything]
    run[everything].starts().looks(orders="pass", customers="stale", held=HELD).builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.message().endswith(f"3 nodes and 2 tests were skipped, as {CUSTOMERS} is stale.")


def test_who_looks_again_decides_also_for_what_waits_for_another_node() -> None:
    nodes = (source(CUSTOMERS), model("a"), model("b", "a", CUSTOMERS), model("c", "a"))
    run = Story(*nodes, limit=0)
    run["Producer"].starts().looks(customers="stale", held="b").reports(a="error: boom", c="skipped").ends()
    run.next()
    assert run.ask("again") == ["Resume customers a b c"]
    run["Resume customers a b c"].starts().is_evicted()
    assert run.later(seconds=1) == ["Resume customers", "Retry a"]
    assert run["Resume customers"].decision.decides_on == {"model.shop.b"}  # that c is skipped is a's doing
    run["Resume customers"].starts().looks(customers="stale", held="b").ends()
    run["Retry a"].builds()
    assert run.next() == ["Resume c"]
    run["Resume c"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)


def test_sources_are_not_looked_at_once_more_for_nodes_that_have_no_chance() -> None:
    run = shop(reasons=(RetryReason.CONNECTION_FAILED,), limit=1)
    run["Producer"].starts().reports(orders="pass", customers="stale").gives_up("connection", "no route to host")
    everything = "Resume orders customers a b both end t of_source"
    assert run.later(seconds=10) == [everything]
    run[everything].starts().reports(orders="pass", customers="stale").gives_up("connection", "no route to host")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)
    assert run.ask("again") == [everything]


def test_a_suspension_changes_nothing_of_it() -> None:
    run = shop()
    dbt = run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).reports(a="running")
    run.change(suspend=True)
    dbt.stops()
    run.next()
    assert run.phase() is RunPhase.SUSPENDED
    assert (run.shows("b"), run.shows("a")) == (NodePhase.SKIPPED, NodePhase.PENDING)
    assert run.change(suspend=False) == ["Resume a"]


def test_who_asks_for_a_retry_has_the_sources_looked_at_anew() -> None:
    run = passed_over()
    retry = "Resume customers b both end t of_source"
    assert run.ask("again") == [retry]
    run[retry].starts().looks(customers="pass").builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert run.message() == "6 nodes and 2 tests succeeded."
    assert run.ask("once more") == []


def test_tests_of_a_stage_of_their_own_follow_what_was_passed_over_with_them() -> None:
    run = shop(tests="AfterAll")
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).reports(a="success").ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.ask("again") == ["Resume customers b both end"]
    run["Resume customers b both end"].starts().looks(customers="pass").builds()
    (tests,) = run.next()
    assert tests.endswith(" t of_source")
    run[tests].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_retry_that_finds_them_stale_still_passes_over_the_same() -> None:
    run = passed_over()
    run.ask("again")
    run["Resume customers b both end t of_source"].starts().looks(customers="stale", held=HELD).ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    assert run.node("both").reason is NodeReason.STALE


def test_a_node_that_was_passed_over_is_asked_for_with_what_it_needs() -> None:
    run = passed_over()
    assert run.ask("again", "both") == ["Retry customers b both end t of_source"]
    run["Retry customers b both end t of_source"].starts().looks(customers="pass").builds()
    assert run.next() == []
    assert run.reason() is RunReason.ALL_SUCCEEDED
    run = passed_over()
    assert run.ask("again", "customers") == ["Retry customers b both end t of_source"]


def test_a_node_of_a_run_that_was_cancelled_before_it_looked_is_asked_for_with_all_sources() -> None:
    run = shop()
    dbt = run["Producer"].starts()
    run.change(cancel=True)
    dbt.stops()
    run.next()
    run.change(cancel=False)
    assert run.ask("again", "both") == []  # what it reads was not built
    assert run.ask("again", "a") == ["Retry orders customers a"]
    run["Retry orders customers a"].starts().is_evicted()
    assert run.later(seconds=1) == ["Resume orders customers a"]
    run["Resume orders customers a"].starts().looks(orders="pass", customers="stale", held=HELD).builds()
    assert run.next() == []
    assert {run.shows(name) for name in HELD.split()} == {NodePhase.SKIPPED}
    assert run.shows("a") is NodePhase.SUCCEEDED


def test_what_was_passed_over_for_another_source_too_is_not_asked_for() -> None:
    other = source("source.shop.raw.other")
    sides = (model("b", CUSTOMERS), model("z", "source.shop.raw.other"), model("both", "b", "z"))
    run = Story(source(CUSTOMERS), other, *sides, data_test("t", "b", "z"))
    run["Producer"].starts().looks(customers="stale", other="stale", held="b z both t").ends()
    run.next()
    assert run.ask("again", "b") == ["Retry customers b"]
    run["Retry customers b"].starts().looks(customers="pass").builds()
    assert run.next() == []
    assert (run.node("b").reason, run.node("both").reason) == (NodeReason.SUCCESS, NodeReason.STALE)
    assert run.ask("again", "both") == ["Retry other z both t"]


def test_a_retry_of_a_node_that_was_lost_looks_at_its_sources_all_the_same() -> None:
    run = passed_over()
    run.ask("again", "both")
    run["Retry customers b both end t of_source"].starts().is_evicted()
    assert run.later(seconds=1) == ["Resume customers b both end t of_source"]


def test_a_retry_that_did_not_reach_the_warehouse_looks_at_the_sources_all_the_same() -> None:
    run = passed_over(reasons=(RetryReason.CONNECTION_FAILED,))
    run.ask("again")
    everything = "Resume customers b both end t of_source"
    run[everything].starts(loaded=False).gives_up("connection", "no route to host")
    assert run.later(seconds=10) == [everything]
    run[everything].starts().looks(customers="stale", held=HELD).ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
    run = passed_over()
    run.ask("again")
    run[everything].starts(loaded=False).gives_up("connection", "no route to host")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)
    assert run.ask("once more") == [everything]


def test_a_source_that_could_not_be_read_is_retried_and_what_reads_it_goes_on() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="pass", customers="runtime error: no such column").builds()
    assert run.node("customers").reason is NodeReason.ERROR
    assert run.later(seconds=10) == ["Retry customers"]
    run["Retry customers"].starts().looks(customers="pass").ends()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "6 nodes and 2 tests succeeded.")
    run = shop(limit=0)
    run["Producer"].starts().looks(orders="pass", customers="runtime error: no such column").builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert run.message() == "1 of 6 nodes failed: customers (no such column)."


ALL = "a b both end t of_source"


def test_a_look_that_decided_nothing_is_no_try() -> None:
    run = shop(limit=1)
    run["Producer"].starts().reports(orders="pass", customers="runtime error: busy").is_evicted()
    everything = f"Resume orders customers {ALL}"
    assert run.later(seconds=1) == [everything]
    run[everything].starts().looks(orders="pass", customers="runtime error: busy").builds()
    assert run.later(seconds=10) == ["Retry customers"]


def test_where_staleness_fails_the_run_nothing_is_built_and_the_reason_says_so() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="pass", customers="error", held=ALL).ends()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.SOURCES_STALE)
    assert run.message().startswith("1 of 6 nodes failed: customers (")
    assert run.message().endswith("; 4 were skipped because of it.")
    assert (run.node("customers").phase, run.node("customers").reason) == (NodePhase.FAILED, NodeReason.STALE)
    assert (run.node("a").phase, run.node("a").reason) == (NodePhase.SKIPPED, NodeReason.STALE)
    assert run.node("a").message == f"Nothing is executed, as {CUSTOMERS} is stale."


def test_a_run_can_wait_for_a_source_to_be_fresh() -> None:
    run = shop(reasons=(RetryReason.TESTS_FAILED,), limit=2)
    run["Producer"].starts().looks(orders="error", customers="error", held=ALL).ends()
    assert run.later(seconds=10) == ["Retry orders", "Retry customers"]
    run["Retry orders"].starts().looks(orders="pass").ends()
    assert run.next() == []  # the other one is still being looked at
    run["Retry customers"].starts().looks(customers="error").ends()
    assert run.later(seconds=20) == ["Retry customers"]
    run["Retry customers"].starts().looks(customers="warn").ends()
    assert run.next() == [f"Resume {ALL}"]
    run[f"Resume {ALL}"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)


def test_what_an_unreadable_source_held_back_follows_when_it_could_be_read() -> None:
    run = shop()
    run["Producer"].starts().looks(orders="pass", customers="runtime error: no such table", held=ALL).ends()
    assert (run.node("a").reason, run.node("a").blocked_by) == (NodeReason.UPSTREAM_FAILED, CUSTOMERS)
    assert run.later(seconds=10) == ["Retry customers"]
    run["Retry customers"].starts().looks(customers="pass").ends()
    assert run.next() == [f"Resume {ALL}"]
    run = shop(limit=0)
    run["Producer"].starts().looks(orders="pass", customers="runtime error: no such table", held=ALL).ends()
    run.next()
    assert run.ask("again", "customers") == ["Retry customers"]
    run["Retry customers"].starts().looks(customers="pass").ends()
    assert run.next() == [f"Resume {ALL}"]


def test_a_test_of_a_source_keeps_its_result_when_the_source_is_looked_at_again() -> None:
    run = shop()
    dbt = run["Producer"].starts().looks(orders="pass", customers="runtime error: busy")
    dbt.builds(of_source="fail: Got 1 result")
    assert run.later(seconds=10) == ["Retry customers"]
    run["Retry customers"].starts().looks(customers="pass").ends()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.TESTS_FAILED)
    assert run.node("customers").reason is NodeReason.TESTS_FAILED


def test_what_the_list_has_found_of_sources_stands_when_the_first_nodes_are_begun() -> None:
    run = shop(mode=Mode.PER_NODE)
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).ends()
    found = {"orders": NodePhase.SUCCEEDED, "customers": NodePhase.SUCCEEDED, "b": NodePhase.SKIPPED}
    assert [decision.kind for decision in run.plan().record] == [AttemptKind.NODE]
    assert {name: run.shows(name) for name in found} == found
    assert run.next() == ["Node a"]
    assert {name: run.shows(name) for name in found} == found


def test_a_list_that_was_cut_off_after_it_had_decided_is_not_made_again() -> None:
    run = shop(mode=Mode.PER_NODE)
    run["Producer"].starts().reports(orders="pass").is_evicted()
    assert run.later(seconds=60) == ["Producer"]
    run["Producer"].starts().looks(orders="pass", customers="stale", held=HELD).is_evicted()
    assert run.later(seconds=60) == ["Node a"]
    run["Node a"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, SUCCESS)
