"""A run that a newer one supersedes ends, and the newer one begins when it has."""

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from tests.unit.dbt.logs import model
from tests.unit.plan.story import Story


def test_a_superseded_run_stops_dbt_and_ends_when_its_process_has() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="success", report="running")
    run.newer = "pull-2"
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.STOPPING)
    run["Producer"].stops()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.CANCELLED, RunReason.SUPERSEDED)
    assert run.message().startswith("DbtRun pull-2 supersedes the run.")
    assert (run.shows("orders"), run.shows("report")) == (NodePhase.SUCCEEDED, NodePhase.CANCELLED)


def test_what_has_not_begun_never_does() -> None:
    run = Story(model("orders"), suspend=True)
    run.newer = "pull-2"
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.CANCELLED, RunReason.SUPERSEDED)
    assert run.attempts == []


def test_a_run_that_had_come_to_its_end_stays_what_it_was() -> None:
    run = Story(model("orders"))
    run["Producer"].builds()
    run.newer = "pull-2"
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_retry_of_a_superseded_run_waits_for_the_newer_one_to_be_deleted() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: boom")
    run.newer = "pull-2"
    run.next()
    assert run.ask("again") == []
    assert run.plan().held_back == "DbtRun pull-2 supersedes the run; delete it, and the retry follows"
    run.newer = ""
    assert run.next() == ["Resume orders"]


def test_a_run_begins_when_those_that_it_supersedes_have_ended() -> None:
    run = Story(model("orders"), older=("pull-1", "pull-2"))
    plan = run.plan()
    assert (plan.phase, plan.reason, plan.start) == (RunPhase.PENDING, RunReason.SUPERSEDING, False)
    assert plan.message == "The run waits for the end of what it supersedes: DbtRun pull-1, pull-2."
    assert run.later(seconds=3600) == []
    run.older = ()
    assert run.next() == ["Producer"]


def test_a_run_that_waits_can_be_cancelled() -> None:
    run = Story(model("orders"), older=("pull-1",))
    run.change(cancel=True)
    assert (run.phase(), run.attempts) == (RunPhase.CANCELLED, [])
