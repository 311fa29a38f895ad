"""Retries that a person asks for, of a node or of the run, while it lives and after its end."""

from datetime import timedelta

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.plan.attempt import Request
from dbt_operator.plan.run import plan_run
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.given import settled
from tests.unit.plan.story import Story

ORDERS = "model.shop.orders"


def ended(*nodes: dict[str, object], limit: int = 0, results: dict[str, str]) -> Story:
    """A run that has ended with these results."""
    run = Story(*nodes, limit=limit)
    run["Producer"].builds(**results)
    run.next()
    assert run.phase().terminal
    return run


# of a node, while the run lives


def test_a_failed_node_is_retried_at_once_without_its_pause() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.next() == []
    assert run.ask("now", "orders") == ["Retry orders"]
    assert run.handled == [Request("now", ORDERS)]


def test_a_node_is_retried_whatever_the_limit_and_the_kind_of_its_failure_are() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("other"), limit=0)
    run["Producer"].starts().reports(orders="success", positive="fail: Got 3 results", other="running")
    assert run.ask("now", "orders") == ["Retry orders positive"]


def test_a_retry_that_was_asked_for_is_followed_by_no_other_one_where_the_limit_is_reached() -> None:
    run = Story(model("orders"), model("other"), limit=1)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.ask("now", "orders")
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.later(seconds=600) == []


def test_what_the_node_had_blocked_runs_after_it() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"), limit=0)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", other="running")
    run.ask("now", "orders")
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]


def test_a_node_that_is_under_way_or_green_needs_nothing_and_the_wish_is_handled() -> None:
    run = Story(model("orders"), model("stock"), model("other"))
    run["Producer"].starts().reports(orders="success", stock="error: deadlock", other="running")
    assert run.ask("a", "orders") == []
    assert run.ask("b", "other") == []
    assert [request.token for request in run.handled] == ["a", "b"]


def test_a_node_that_the_run_does_not_know_is_handled() -> None:
    run = ended(model("orders"), results={"orders": "error: deadlock"})
    assert run.ask("now", "model.shop.unknown") == []
    assert [request.token for request in run.handled] == ["now"]
    assert run.phase() is RunPhase.FAILED


def test_a_skipped_node_of_a_live_run_waits_for_what_it_needs() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert run.ask("now", "report") == []
    assert run.handled == []  # it may still come by itself
    run.later(seconds=10)
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.later(seconds=600) == []
    assert [request.token for request in run.handled] == ["now"]
    assert run.phase() is RunPhase.FAILED


def test_a_wish_waits_for_a_place_where_only_one_process_is_allowed() -> None:
    run = Story(model("orders"), model("other"), adapter="duckdb", limit=0)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.ask("now", "orders") == []
    assert run.handled == []
    run["Producer"].reports(other="success").ends()
    assert run.next() == ["Retry orders"]


def test_a_wish_waits_while_something_reads_what_it_would_build() -> None:
    tests = data_test("positive", "orders"), data_test("known", "orders", "stock")
    run = Story(model("orders"), model("stock"), *tests, limit=0)
    # The log has lost the line that says how `stock` ended, so that `known` is not among what can be executed anew.
    run["Producer"].starts().reports(orders="success", stock="running", positive="fail: 3 rows", known="running")
    assert run.ask("now", "orders") == []
    assert run.handled == []
    run["Producer"].reports(known="pass")
    assert run.next() == ["Retry orders positive"]


def test_several_nodes_that_are_asked_for_share_an_attempt() -> None:
    run = ended(model("orders"), model("stock"), results={"orders": "error: deadlock", "stock": "error: deadlock"})
    run.requests = (Request("a", ORDERS), Request("b", "model.shop.stock"))
    assert run.next() == ["Retry orders stock"]
    assert [request.token for request in run.handled] == ["a", "b"]


def test_an_answered_wish_is_not_answered_again_although_it_still_stands_there() -> None:
    run = ended(model("orders"), results={"orders": "error: deadlock"})
    run.ask("now", "orders")
    run["Retry orders"].builds(orders="error: deadlock")
    run.requests = (Request("now", ORDERS),)  # the controller died before it could note that it is handled
    assert run.later(seconds=600) == []
    assert len(run.attempts) == 2
    assert run.phase() is RunPhase.FAILED
    assert run.ask("again", "orders") == ["Retry orders"]


@pytest.mark.parametrize("wish", ["cancel", "suspend"])
def test_a_wish_that_another_wish_holds_back_is_told_of_until_it_can_be_answered(wish: str) -> None:
    run = ended(model("orders"), model("stock"), results={"orders": "error: deadlock"})
    run.change(**{wish: True})
    for name in ("orders", None):
        assert run.ask(f"now-{name}", name) == []
    assert run.handled == []
    assert run.plan().held_back == f"spec.{wish} is true; set it to false, and the retry follows"
    assert run.change(**{wish: False}) == ["Resume orders"]
    assert run.plan().held_back == ""


def test_a_wish_that_a_live_run_holds_back_while_it_is_cancelled_is_told_of() -> None:
    run = Story(model("orders"), model("stock"))
    run["Producer"].starts().reports(orders="error: deadlock", stock="running")
    run.change(cancel=True)
    run.ask("now", "orders")
    assert run.plan().held_back.startswith("spec.cancel is true")


# of a node, after the end


def test_a_failed_node_of_an_ended_run_is_retried_and_what_it_had_blocked_runs() -> None:
    run = ended(model("orders"), model("report", "orders"), results={"orders": "error: deadlock", "report": "skipped"})
    assert run.ask("now", "orders") == ["Retry orders"]
    assert run.phase() is RunPhase.RETRYING
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_node_whose_test_failed_is_built_and_tested_again() -> None:
    nodes = [model("orders"), data_test("positive", "orders"), model("report", "orders")]
    run = ended(*nodes, results={"positive": "fail: Got 3 results", "report": "skipped"})
    assert run.ask("now", "orders") == ["Retry orders positive"]
    run["Retry orders positive"].builds()
    assert run.next() == ["Resume report"]


def test_only_the_node_and_what_is_below_it_are_executed() -> None:
    run = ended(
        model("orders"),
        model("report", "orders"),
        model("stock"),
        model("list", "stock"),
        model("both", "orders", "stock"),
        limit=1,
        results={"orders": "error: Compilation Error", "stock": "error: Compilation Error"}
        | dict.fromkeys(("report", "list", "both"), "skipped"),
    )
    run.ask("now", "orders")
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "stock" in run.message()
    assert (run.shows("report"), run.shows("both")) == (NodePhase.SUCCEEDED, NodePhase.SKIPPED)


def test_what_the_run_left_elsewhere_is_not_taken_up_for_one_node() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"), limit=0, max_restarts=0)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", other="running").is_killed()
    run.next()
    assert run.ask("now", "orders") == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.FAILED
    assert run.ask("all") == ["Resume other"]


def test_the_tries_and_the_restarts_are_counted_anew() -> None:
    run = Story(model("orders"), limit=1, max_restarts=1)
    run["Producer"].starts().reports(orders="running").is_evicted()
    run.next()
    run["Resume orders"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].builds(orders="error: deadlock")
    run.next()
    assert run.phase() is RunPhase.FAILED
    run.ask("now", "orders")
    run["Retry orders"].builds(orders="error: deadlock")
    run.next()
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].starts().reports(orders="running").is_evicted()
    assert len(run.next()) == 1


def test_a_run_that_fails_fast_goes_on_below_the_node_that_was_asked_for() -> None:
    run = Story(model("orders"), model("report", "orders"), model("stock"), limit=0, fail_fast=True)
    run["Producer"].builds(orders="error: deadlock", report="skipped", stock="error: deadlock")
    run.next()
    run.ask("now", "orders")
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]


def test_a_green_node_of_an_ended_run_needs_nothing() -> None:
    run = ended(model("orders"), results={})
    assert run.ask("now", "orders") == []
    assert [request.token for request in run.handled] == ["now"]
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_skipped_node_whose_upstream_failed_cannot_be_executed() -> None:
    run = ended(model("orders"), model("report", "orders"), results={"orders": "error: deadlock", "report": "skipped"})
    assert run.ask("now", "report") == []
    assert [request.token for request in run.handled] == ["now"]
    assert run.phase() is RunPhase.FAILED


def test_a_node_that_was_lost_with_the_run_is_executed() -> None:
    run = Story(model("orders"), model("report", "orders"), max_restarts=0)
    run["Producer"].starts().reports(orders="success", report="running").is_killed()
    run.next()
    assert run.reason() is RunReason.POD_LOST
    assert run.ask("now", "report") == ["Retry report"]
    run["Retry report"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


# of the run


def test_everything_that_is_not_done_is_executed_in_one_attempt_after_the_end() -> None:
    nodes = [model("orders"), data_test("positive", "orders"), model("report", "orders"), model("stock"), model("ok")]
    failed = {"positive": "fail: Got 3 results", "report": "skipped", "stock": "error: Compilation Error"}
    run = ended(*nodes, results=failed)
    assert run.ask("now") == ["Resume orders positive report stock"]
    assert run.phase() is RunPhase.RETRYING
    run["Resume orders positive report stock"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert [request.token for request in run.handled] == ["now"]


def test_a_live_run_is_waited_for() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.ask("now") == []
    run["Producer"].reports(other="error: Compilation Error").ends()
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.handled == []
    assert run.next() == ["Resume orders other"]
    assert run.ended is None
    assert [request.token for request in run.handled] == ["now"]


def test_a_run_that_ends_well_by_itself_needs_nothing() -> None:
    run = Story(model("orders"))
    run["Producer"].starts().reports(orders="running")
    run.ask("now")
    run["Producer"].reports(orders="success").ends()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED
    assert [request.token for request in run.handled] == ["now"]


def test_a_run_that_never_came_to_its_graph_runs_the_whole_command_again() -> None:
    run = Story(model("orders"))
    run["Producer"].starts(loaded=False).gives_up("profile", "Could not find profile named 'x'")
    run.next()
    assert run.phase() is RunPhase.FAILED
    assert run.ask("now") == ["Producer"]
    run["Producer"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_nodes_that_a_failed_hook_kept_from_running_are_executed() -> None:
    run = Story(model("orders"))
    run["Producer"].starts().gives_up("other", "Database Error in on-run-start hook")
    run.next()
    assert run.phase() is RunPhase.FAILED
    assert run.ask("now") == ["Resume orders"]
    run["Resume orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


@pytest.mark.parametrize("released", [True, False])
def test_a_node_of_which_dbt_has_said_nothing_is_still_asked_for_when_its_attempt_is_stopped(released: bool) -> None:
    run = Story(model("orders"), model("report", "orders"), limit=0)
    run["Producer"].builds(orders="skipped", report="skipped")
    run.next()
    assert run.ask("now", "orders") == ["Retry orders"]
    if released:
        run["Retry orders"].starts().is_evicted()
        run.next()
    else:
        run.change(suspend=True)
        run.change(suspend=False)
    assert run["Resume orders"].decision.requests == ()
    run["Resume orders"].builds()
    assert run.later(seconds=600) == []  # why the other one was skipped is not known


def test_it_includes_what_is_asked_for_single_nodes() -> None:
    run = ended(model("orders"), model("stock"), results={"orders": "error: deadlock", "stock": "error: deadlock"})
    run.requests = (Request("a", ORDERS), Request("all"))
    assert run.next() == ["Resume orders stock"]
    assert {request.token for request in run.handled} == {"a", "all"}


def test_a_failure_before_it_is_forgiven() -> None:
    run = ended(model("orders"), limit=1, results={"orders": "error: Compilation Error"})
    run.ask("now")
    run["Resume orders"].builds(orders="error: deadlock")
    assert run.next() == []
    assert run.later(seconds=10) == ["Retry orders"]


def test_a_run_whose_spec_is_of_no_use_is_not_retried() -> None:
    run = Story(model("orders"), suspend=True)
    run.invalid = "spec.image is required."
    run.change(suspend=False)
    assert run.phase() is RunPhase.FAILED
    assert run.ask("now") == []
    assert run.attempts == []
    assert run.phase() is RunPhase.FAILED


# what stands against it


@pytest.mark.parametrize("name", ["orders", None])
def test_a_cancelled_run_executes_nothing_until_the_wish_to_cancel_is_taken_back(name: str | None) -> None:
    run = Story(model("orders"))
    run["Producer"].starts().reports(orders="running")
    run.change(cancel=True)
    run["Producer"].stops()
    run.next()
    assert run.phase() is RunPhase.CANCELLED
    assert run.ask("now", name) == []
    assert run.handled == []
    (decided,) = run.change(cancel=False)
    run[decided].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_suspended_run_answers_when_it_is_continued() -> None:
    run = Story(model("orders"), model("other"), limit=0)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    assert run.ask("now", "orders") == []
    assert run.handled == []
    assert run.change(suspend=False) == ["Retry orders", "Resume other"]


def test_an_ended_run_for_which_an_attempt_was_decided_on_is_live_again() -> None:
    run = ended(model("orders"), results={"orders": "error: deadlock"})
    run.change(ttl=timedelta(seconds=60))
    run.ask("now", "orders")
    run.now += timedelta(hours=1)
    # The controller dies here; the next one finds the record, and a Job that is not there.
    run["Retry orders"].job, run["Retry orders"].created = None, False
    plan = plan_run(settled(run.observation))
    assert plan.create == (run["Retry orders"].decision.name,)
    assert plan.phase is RunPhase.RETRYING
    assert not plan.done
    assert not plan.expire


def test_whoever_asks_for_a_retry_of_a_run_that_is_live_again_is_answered_too() -> None:
    run = ended(model("orders"), model("stock"), results={"orders": "error: deadlock", "stock": "error: deadlock"})
    run.ask("a", "orders")
    run["Retry orders"].starts().reports(orders="running")
    assert run.ask("b", "stock") == ["Retry stock"]
    run["Retry stock"].builds()
    run["Retry orders"].reports(orders="success").ends()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_second_node_that_is_asked_for_gets_what_it_had_blocked_as_well() -> None:
    run = ended(
        model("orders"),
        model("stock"),
        model("list", "stock"),
        results={"orders": "error: deadlock", "stock": "error: deadlock", "list": "skipped"},
    )
    run.ask("a", "orders")
    run["Retry orders"].starts().reports(orders="running")
    assert run.ask("b", "stock") == ["Retry stock"]
    run["Retry stock"].builds()
    run["Retry orders"].reports(orders="success").ends()
    assert run.next() == ["Resume list"]


def test_every_kind_of_failure_may_be_asked_for() -> None:
    for message in ("Compilation Error in model orders", "deadlock", "Connection refused"):
        run = ended(model("orders"), results={"orders": f"error: {message}"})
        assert RetryReason.COMPILE_ERROR not in run.rules.retry.reasons
        assert run.ask("now", "orders") == ["Retry orders"]
