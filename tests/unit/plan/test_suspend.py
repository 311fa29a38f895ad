"""A run can be suspended at any moment, and goes on with what is left."""

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story


def test_a_run_that_is_suspended_from_the_start_begins_when_it_is_continued() -> None:
    run = Story(model("orders"), suspend=True)
    assert run.attempts == []
    assert (run.phase(), run.reason()) == (RunPhase.SUSPENDED, RunReason.SUSPENDED)
    assert "nothing has been executed" in run.message()
    assert run.change(suspend=False) == ["Producer"]
    run["Producer"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_attempt_that_was_only_decided_on_is_not_created_while_the_run_is_suspended() -> None:
    run = Story(model("orders"), suspend=True)
    run.change(suspend=False)
    run["Producer"].job, run["Producer"].created = None, False
    run.change(suspend=True)
    assert run["Producer"].job is None
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Producer"]
    assert run["Producer"].job is not None


def test_a_run_that_waits_for_its_pod_gives_its_place_back() -> None:
    run = Story(model("orders"))
    first = run["Producer"].gets_a_pod()
    assert run.change(suspend=True) == []
    assert (first.job, first.pod) == (None, None)
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) + run.later(seconds=60) == ["Producer"]
    assert run["Producer"] is not first


@pytest.mark.parametrize("returns", [(), ("report",)])
def test_dbt_is_stopped_and_later_goes_on_with_what_is_left(returns: tuple[str, ...]) -> None:
    run = Story(model("orders"), model("report", "orders"), data_test("positive", "report"), model("list", "orders"))
    run["Producer"].starts().reports(orders="success", report="running")
    assert run.change(suspend=True) == []
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.STOPPING)
    run["Producer"].stops(returns=returns)  # the cancelled query may come back as an error
    assert run.later(seconds=3600) == []
    assert (run.phase(), run.reason()) == (RunPhase.SUSPENDED, RunReason.SUSPENDED)
    assert "1 of 3 nodes have succeeded" in run.message()
    assert [run.shows(name) for name in ("orders", "report", "list")] == [
        NodePhase.SUCCEEDED,
        NodePhase.PENDING,
        NodePhase.PENDING,
    ]
    assert run.change(suspend=False) == ["Resume report positive list"]
    run["Resume report positive list"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_run_that_is_continued_before_dbt_has_stopped_goes_on_as_well() -> None:
    run = Story(model("orders"))
    run["Producer"].starts().reports(orders="running")
    run.change(suspend=True)
    assert run.change(suspend=False) == []
    run["Producer"].stops()
    assert run.next() == ["Resume orders"]
    run["Resume orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_suspending_is_no_try_of_the_nodes_and_no_restart() -> None:
    run = Story(model("orders"), limit=0, max_restarts=0)
    for label in ("Producer", "Resume orders", "Resume orders", "Resume orders"):
        run[label].starts().reports(orders="running")
        run.change(suspend=True)
        run[label].stops()
        run.next()
        assert run.change(suspend=False) == ["Resume orders"]


def test_a_run_that_backs_off_makes_no_retry_while_it_is_suspended() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.next()
    assert run.change(suspend=True) == []
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.SUSPENDED
    assert run.shows("orders") is NodePhase.FAILED
    assert run.change(suspend=False) == ["Retry orders"]


def test_a_retry_that_was_stopped_before_its_node_began_is_made_again() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].starts()
    run.change(suspend=True)
    run["Retry orders"].stops()
    assert run.next() == []
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Retry orders"]


def test_a_node_that_was_stopped_in_its_retry_is_taken_up_again() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    run.change(suspend=True)
    run["Retry orders"].stops()
    run.next()
    decided = run.change(suspend=False)
    assert len(decided) == 1
    run[decided[0]].builds()
    for label in run.next():
        run[label].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_all_attempts_are_stopped() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    run.change(suspend=True)
    run["Retry orders"].stops()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.STOPPING)
    run["Producer"].stops()
    run.next()
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Resume orders other"]


def test_a_run_that_came_to_its_end_before_the_wish_reached_it_has_ended() -> None:
    run = Story(model("orders"))
    run["Producer"].builds()
    run.change(suspend=True)
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_dbt_that_came_to_its_end_although_it_was_told_to_stop_counts_as_it_was() -> None:
    run = Story(model("orders"), limit=0)
    run["Producer"].starts().reports(orders="running")
    run.change(suspend=True)
    run["Producer"].reports(orders="error: deadlock").ends()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)


def test_what_is_left_when_dbt_came_to_its_end_waits_for_the_continuation() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="error: deadlock", report="skipped")
    run.change(suspend=True)
    run["Producer"].ends()
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Retry orders"]


def test_an_ended_run_is_not_suspended() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: Compilation Error")
    run.next()
    run.change(suspend=True)
    assert run.phase() is RunPhase.FAILED


def test_a_suspended_run_can_be_cancelled() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="success", report="running")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    run.change(cancel=True)
    assert (run.phase(), run.reason()) == (RunPhase.CANCELLED, RunReason.CANCELLED)
    assert "1 of 2 nodes had succeeded" in run.message()
    assert run.shows("report") is NodePhase.CANCELLED


def test_a_pod_that_is_lost_while_it_stops_is_taken_up_as_suspended_work() -> None:
    run = Story(model("orders"), max_restarts=0)
    run["Producer"].starts().reports(orders="running")
    run.change(suspend=True)
    run["Producer"].is_killed()
    run.next()
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Resume orders"]


def test_nothing_is_started_while_a_pod_that_was_not_to_start_may_still_do_so() -> None:
    run = Story(model("orders"))
    first = run["Producer"].gets_a_pod()
    first.lingers = True
    run.change(suspend=True)
    assert run.change(suspend=False) == []
    assert run.later(seconds=3600) == []
    first.pod = None
    assert run.next() == ["Producer"]


def test_a_run_that_was_suspended_after_its_last_node_has_nothing_left_to_do() -> None:
    run = Story(model("orders"), end_hooks=0)
    run["Producer"].starts().reports(orders="success")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    run.change(suspend=False)
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


@pytest.mark.parametrize("end_hooks", [1, None])
def test_where_hooks_at_the_end_may_not_have_run_such_a_run_is_not_called_successful(end_hooks: int | None) -> None:
    run = Story(model("orders"), end_hooks=end_hooks)
    run["Producer"].starts().reports(orders="success")
    run.change(suspend=True)
    run["Producer"].stops()
    run.next()
    run.change(suspend=False)
    assert run.phase() in (RunPhase.FAILED, RunPhase.CANCELLED)
    assert "on-run-end" in run.message()
