"""How a run of several attempts ends."""

from dataclasses import replace

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Dbt, Story


def after_the_last_node(*, end_hooks: int | None) -> Story:
    """A run whose pod is lost after dbt has reported the end of its last node."""
    run = Story(model("orders"), data_test("positive", "orders"), end_hooks=end_hooks)
    run["Producer"].starts().reports(orders="success", positive="pass").is_evicted()
    return run


def test_a_pod_that_is_lost_after_its_last_node_makes_no_difference_without_hooks_at_the_end() -> None:
    run = after_the_last_node(end_hooks=0)
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert "after that" in run.message()


@pytest.mark.parametrize("end_hooks", [2, None])
def test_where_hooks_may_have_been_lost_with_the_pod_the_run_is_not_called_successful(end_hooks: int | None) -> None:
    run = after_the_last_node(end_hooks=end_hooks)
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)
    assert "on-run-end" in run.message()
    assert run.shows("orders") is NodePhase.SUCCEEDED


@pytest.mark.parametrize("end_hooks", [0, 1, None])
def test_where_nothing_is_executed_no_node_stands_for_the_end_of_dbt(end_hooks: int | None) -> None:
    run = Story({"unique_id": "exposure.shop.board", "name": "board", "resource_type": "exposure"}, end_hooks=end_hooks)
    run["Producer"].starts(loaded=False).is_evicted()
    run.next()
    run["Producer"].starts().is_evicted()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)
    assert run.message().startswith(
        "No node was to run, but dbt did not come to say that the project's hooks have run."
    )


def cut_off_after_the_last_node(*, end_hooks: int | None) -> Story:
    """A run whose dbt does not reach the warehouse any more after its last node, with or without hooks there."""
    run = Story(model("orders"), model("report", "orders"), end_hooks=end_hooks)
    run["Producer"].starts().reports(orders="success", report="success").gives_up("connection", "Connection refused")
    return run


def test_a_warehouse_that_is_lost_after_the_last_node_makes_no_difference_without_hooks_at_the_end() -> None:
    run = cut_off_after_the_last_node(end_hooks=0)
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert run.message() == "2 nodes succeeded. The warehouse was lost after that."


@pytest.mark.parametrize("end_hooks", [2, None])
def test_where_it_was_lost_before_the_hooks_at_the_end_the_run_failed_for_that(end_hooks: int | None) -> None:
    run = cut_off_after_the_last_node(end_hooks=end_hooks)
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)
    assert "on-run-end" in run.message()
    assert "Connection refused" in run.message()


@pytest.mark.parametrize("end_hooks", [0, 1])
def test_nor_does_it_make_one_where_a_later_attempt_has_run_to_its_end(end_hooks: int) -> None:
    run = Story(model("orders"), model("report", "orders"), end_hooks=end_hooks)
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="success").gives_up("connection", "Connection refused")
    assert run.later(seconds=10) == ["Resume report"]
    run["Resume report"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_what_a_failed_node_holds_back_is_not_left_for_the_sake_of_a_warehouse_that_was_lost_after_it() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"), end_hooks=0)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", other="running")
    run.later(seconds=10)
    run["Producer"].reports(other="success").gives_up("connection", "Connection refused")
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)


def test_nor_is_the_node_that_failed_by_itself_before_it() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), end_hooks=0)
    run["Producer"].builds(orders="error: deadlock", positive="skipped")
    run.later(seconds=10)
    retry = run["Retry orders positive"].starts()
    retry.reports(orders="error: deadlock", positive="skipped").gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "deadlock" in run.message()


def test_what_the_last_attempt_at_it_did_not_come_to_is_left_for_the_sake_of_the_warehouse() -> None:
    run = Story(model("orders"), model("report", "orders"), end_hooks=0)
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].starts().gives_up("connection", "Connection refused")
    run.later(seconds=10)
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)


def test_hooks_that_a_retry_has_run_before_are_not_those_of_the_producer() -> None:
    run = Story(model("orders"), model("other"), end_hooks=1)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run.next()
    run["Producer"].reports(other="success").is_evicted()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)


@pytest.mark.parametrize(("end_hooks", "phase"), [(0, RunPhase.SUCCEEDED), (1, RunPhase.FAILED)])
def test_a_suspension_before_makes_no_difference_to_that(end_hooks: int, phase: RunPhase) -> None:
    run = Story(model("orders"), model("report", "orders"), end_hooks=end_hooks, max_restarts=0)
    run["Producer"].starts().reports(orders="success", report="running")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    run.change(suspend=False)
    run["Resume report"].starts().reports(report="success").is_evicted()
    run.next()
    assert run.phase() is phase


def test_of_two_attempts_that_ended_in_the_same_moment_the_newer_one_ended_last() -> None:
    run = Story(model("orders"), model("report", "orders"), max_restarts=0, backoff={"duration": "0s"})
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.next()
    run["Retry orders"].builds()
    run.next()
    run["Resume report"].starts().reports(report="success").is_evicted()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_failure_before_the_loss_is_what_the_run_failed_for() -> None:
    run = Story(model("orders"), model("report", "orders"), limit=0)
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped").is_evicted()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "deadlock" in run.message()


def test_one_attempt_speaks_for_itself() -> None:
    run = Story(model("orders"))
    run["Producer"].starts(loaded=False).gives_up("parse", "Compilation Error in macro x")
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.PARSE_ERROR)


def test_a_resume_that_cannot_do_its_work_says_why() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="success", report="running").is_evicted()
    run.next()
    run["Resume report"].starts(loaded=False).gives_up("selector", "model.shop.report is not in the project any more")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.SELECTOR_ERROR)
    assert "not in the project any more" in run.message()


def test_a_warehouse_that_was_reached_after_all_is_not_what_the_run_failed_for() -> None:
    run = Story(
        model("orders"),
        model("other"),
        reasons=frozenset({RetryReason.CONNECTION_FAILED, RetryReason.ERROR}),
        limit=1,
        max_restarts=5,
    )
    run["Producer"].starts().reports(other="running").is_evicted()
    run.next()
    run["Resume orders other"].starts(loaded=False).gives_up("connection", "Connection refused")
    assert run.later(seconds=10) == ["Resume orders other"]
    run["Resume orders other"].builds(orders="error: boom")
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds(orders="error: boom")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert "boom" in run.message()


def test_nor_where_the_attempt_that_reached_it_was_lost() -> None:
    run = Story(
        model("orders"), model("list", "orders"), model("z"), reasons=frozenset({RetryReason.CONNECTION_FAILED})
    )
    run["Producer"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=10) == ["Resume orders list z"]
    run["Resume orders list z"].starts().reports(orders="error: boom", list="skipped", z="running").is_evicted()
    assert run.next() == ["Resume z"]
    run["Resume z"].builds()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)


def test_what_the_last_attempt_says_of_its_part_is_not_said_of_the_run() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="success", other="running").is_evicted()
    assert run.next() == ["Resume other"]
    run["Resume other"].starts().gives_up("connection", "Connection refused")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.CONNECTION_FAILED)
    assert run.message().startswith("nightly-resume-1: dbt could not connect to the warehouse")
    assert run.message().endswith("In the run as a whole 1 of 2 nodes had succeeded, 1 had failed.")


def test_a_failure_that_no_node_explains_is_not_forgotten_because_of_a_later_success() -> None:
    run = Story(model("orders"), model("other"))
    producer = run["Producer"].starts().reports(orders="error: deadlock", other="success")
    producer.ends()
    run.later(seconds=10)
    retry = run["Retry orders"].starts().reports(orders="success")
    retry.log.finishes(1, at=run.now)
    retry._exits(exit_code=1)
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    assert "exit code 1" in run.message()


def test_a_warning_of_any_attempt_is_one_of_the_run() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("stock"), model("list", "stock"))
    run["Producer"].builds(positive="warn: Got 1 result", stock="error: deadlock", list="skipped")
    run.later(seconds=10)
    run["Retry stock"].builds()
    run.next()
    run["Resume list"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.SUCCEEDED_WITH_WARNINGS)


def test_the_message_counts_the_nodes_of_the_whole_run() -> None:
    run = Story(model("orders"), model("stock"), model("other"))
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run["Retry stock"].builds(stock="error: still locked")
    run.next()
    assert "1 of 3 nodes failed: stock" in run.message()
    assert "still locked" in run.message()


def test_the_run_ends_only_when_all_its_attempts_have() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run.next()
    assert run.phase() is RunPhase.RUNNING
    run["Producer"].reports(other="success").ends()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def forgets_its_graph(dbt: Dbt) -> None:
    """What the attempt did was too much for its record."""
    assert dbt.sealed is not None
    dbt.sealed = replace(dbt.sealed, state=replace(dbt.sealed.state, graph=None))


def test_what_parts_of_an_unknown_graph_say_does_not_make_the_run_a_success() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped", other="running")
    run.later(seconds=10)
    run["Producer"].reports(other="success").ends()
    run.next()
    forgets_its_graph(run["Producer"])
    run["Retry orders"].builds()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)


def test_a_lost_producer_whose_graph_was_too_large_to_be_stored_is_started_again_as_a_whole() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    first = run["Producer"]
    first.is_evicted()
    run.plan()
    forgets_its_graph(first)
    run["Retry orders"].builds()
    assert run.next() == ["Producer"]
    run["Producer"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_retry_that_nobody_could_create_leaves_the_failure_as_it_was() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    retry = run["Retry orders"].gets_a_pod()
    retry.is_killed(exit_code=128, reason="StartError")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    assert run.shows("orders") is NodePhase.FAILED
    assert run.reason() is RunReason.CONTAINER_START_FAILED


def with_hook(dbt: Dbt, status: str, which: str = "start") -> Dbt:
    """dbt says how a hook of the attempt ended."""
    dbt.log.ends(
        f"operation.shop.shop-on-run-{which}-0", status, "no lock" if status == "error" else "", at=dbt.run.now
    )
    return dbt


@pytest.mark.parametrize("which", ["start", "end"])
@pytest.mark.parametrize("last", [True, False])
def test_a_hook_that_fails_in_a_retry_is_what_the_run_fails_for_whatever_follows(last: bool, which: str) -> None:
    run = Story(model("a"), model("b"), parallelism=1)
    run["Producer"].starts().reports(a="error: x\n  one", b="error: y\n  two").ends()
    assert run.later(seconds=10) == ["Retry a"]
    with_hook(run["Retry a"].starts(), "success" if last else "error", which).builds()
    assert run.next() == ["Retry b"]
    with_hook(run["Retry b"].starts(), "error" if last else "success", which).builds()
    assert run.later(seconds=600) == []
    assert (run.shows("a"), run.shows("b")) == (NodePhase.SUCCEEDED, NodePhase.SUCCEEDED)
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.HOOK_FAILED)


def test_a_hook_that_does_not_compile_in_a_retry_has_failed_as_any_other() -> None:
    run = Story(model("a"), model("b"), parallelism=1)
    run["Producer"].starts().reports(a="error: x\n  one", b="error: y\n  two").ends()
    assert run.later(seconds=10) == ["Retry a"]
    text = "Compilation Error in operation shop-on-run-end-0 (./dbt_project.yml)\n  no grant"
    run["Retry a"].starts().reports(a="success").gives_up("project", text)
    assert run.next() == ["Retry b"]
    with_hook(run["Retry b"].starts(), "success", "end").builds()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.HOOK_FAILED)
    assert "no grant" in run.message()


def test_a_person_who_asks_for_a_retry_forgives_a_hook_that_failed_before() -> None:
    run = Story(model("a"), model("b"), limit=0)
    with_hook(run["Producer"].starts(), "error").reports(a="success", b="error: x").ends()
    assert run.next() == []
    assert run.ask("again") == ["Resume b"]
    with_hook(run["Resume b"].starts(), "success").builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
