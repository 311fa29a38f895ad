"""A run of several attempts that is cancelled, or takes too long."""

from datetime import timedelta

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from tests.unit.dbt.logs import model
from tests.unit.plan.story import Story

MINUTE = timedelta(seconds=60)


def retrying() -> Story:
    """A run whose producer and whose retry are at work."""
    run = Story(model("orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    return run


def test_cancelling_stops_all_attempts_and_waits_for_them() -> None:
    run = retrying()
    run.change(cancel=True)
    assert all(one.stopping for one in run.attempts)
    run["Producer"].stops()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.STOPPING)
    run["Retry orders"].stops()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.CANCELLED, RunReason.CANCELLED)
    assert (run.shows("orders"), run.shows("other")) == (NodePhase.CANCELLED, NodePhase.CANCELLED)


def test_a_run_that_backs_off_is_cancelled_at_once() -> None:
    run = Story(model("orders"), model("report", "orders"), model("other"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.next()
    run.change(cancel=True)
    assert (run.phase(), run.reason()) == (RunPhase.CANCELLED, RunReason.CANCELLED)
    assert "1 of 3 nodes had succeeded, 1 had failed" in run.message()
    assert run.later(seconds=600) == []


def test_a_run_whose_last_node_succeeds_while_it_is_told_to_stop_has_succeeded() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    run.change(cancel=True)
    run["Retry orders"].reports(orders="success").ends()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_what_a_retry_had_blocked_is_not_run_in_a_cancelled_run() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].starts()
    run.change(cancel=True)
    run["Retry orders"].reports(orders="success").ends()
    assert run.next() == []
    assert run.phase() is RunPhase.CANCELLED


def test_the_deadline_counts_the_time_at_work_over_all_attempts() -> None:
    run = Story(model("orders"), active_deadline=MINUTE)
    run["Producer"].starts()
    run.later(seconds=20)
    run["Producer"].builds(orders="error: deadlock")
    run.next()
    run.later(seconds=10)
    run["Retry orders"].starts().reports(orders="running")
    run.later(seconds=39)
    assert run.reason() is RunReason.RETRYING_NODES
    assert run.plan().wake_at <= run.now + timedelta(seconds=1)
    run.later(seconds=1)
    assert run.reason() is RunReason.STOPPING
    run["Retry orders"].stops()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.DEADLINE_EXCEEDED)
    assert "60 s" in run.message()


def test_waiting_for_a_retry_does_not_count() -> None:
    run = Story(model("orders"), active_deadline=MINUTE, backoff={"duration": "60s"})
    run["Producer"].starts()
    run["Producer"].builds(orders="error: deadlock")
    assert run.later(seconds=60) == ["Retry orders"]


def test_time_in_a_queue_does_not_count() -> None:
    run = Story(model("orders"), active_deadline=MINUTE)
    run["Producer"].gets_a_pod()
    run.later(seconds=120)
    run["Producer"].starts().reports(orders="running")
    run.later(seconds=59)
    assert run.reason() is RunReason.EXECUTING


def test_a_suspension_does_not_count_towards_the_deadline() -> None:
    run = Story(model("orders"), active_deadline=MINUTE)
    run["Producer"].starts().reports(orders="running")
    run.later(seconds=50)
    run.change(suspend=True)
    run["Producer"].stops()
    run.later(seconds=600)
    assert run.phase() is RunPhase.SUSPENDED
    run.change(suspend=False)
    run["Resume orders"].starts().reports(orders="running")
    run.later(seconds=9)
    assert run.reason() is RunReason.RESUMING
    run.later(seconds=1)
    assert run.reason() is RunReason.STOPPING


def test_attempts_side_by_side_count_once_towards_the_deadline() -> None:
    run = Story(model("orders"), model("other"), active_deadline=MINUTE)
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run.next()
    run.change(suspend=True)
    run["Producer"].stops()
    run.later(seconds=600)
    assert run.phase() is RunPhase.SUSPENDED
    run.change(suspend=False)
    run["Resume other"].starts().reports(other="running")
    run.later(seconds=49)
    assert run.reason() is RunReason.RESUMING
    run.later(seconds=1)
    assert run.reason() is RunReason.STOPPING


def test_a_run_does_not_run_out_of_time_while_it_is_suspended_between_two_attempts() -> None:
    run = Story(model("orders"), active_deadline=MINUTE)
    run["Producer"].builds(orders="error: deadlock")
    run.next()
    run.change(suspend=True)
    run.later(seconds=600)
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Retry orders"]


def test_a_retry_that_a_person_asks_for_has_all_the_time_again() -> None:
    run = Story(model("orders"), limit=0, active_deadline=MINUTE)
    run["Producer"].builds(orders="error: deadlock")
    run.later(seconds=600)
    assert run.phase() is RunPhase.FAILED
    assert run.ask("now", "orders") == ["Retry orders"]
    run["Retry orders"].starts().reports(orders="running")
    run.later(seconds=59)
    assert run.reason() is RunReason.RETRYING_NODES
    run.later(seconds=1)
    assert run.reason() is RunReason.STOPPING


def test_a_run_that_can_go_on_after_all_before_its_end_is_stored_goes_on() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="running")
    run.invalid = "spec.flags is no field."
    assert run.next() == []
    run["Producer"].stops()
    run.invalid = None
    assert run.next() == ["Resume orders report"]
