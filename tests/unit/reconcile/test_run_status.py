"""What the status of a DbtRun says of its attempts, and what it carries on when pods and Jobs are gone."""

from datetime import timedelta
from typing import Any

from dbt_operator.api.commands import WhenTested
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.api.status import DbtInfo
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.dbt.view import Tally, node_views
from dbt_operator.plan.attempt import Assessment, Decision, Life, Sealed
from dbt_operator.plan.observation import Plan
from dbt_operator.plan.outcome import Outcome
from dbt_operator.reconcile.run_status import dbt_info, run_record, run_status
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan import given
from tests.unit.plan.story import Story

FAILED = Outcome(phase=RunPhase.FAILED, reason=RunReason.NODES_FAILED, message="1 of 2 nodes failed.")


def attempt(index: int, *, live: bool, created: bool = True, **facts: Any) -> Assessment:
    kind = AttemptKind.PRODUCER if index == 1 else AttemptKind.RETRY
    decision = Decision(index=index, kind=kind, name=f"nightly-{index}", nodes=None if index == 1 else frozenset("a"))
    if live:
        known = given.known(decision, created=created, **facts)
        return Assessment(known, Life.RUNNING, RunReason.EXECUTING, "dbt is executing nodes.")
    sealed = Sealed(outcome=FAILED, state=EMPTY, ended_at=given.NOW, gone=True)
    known = given.known(decision, created=True, sealed=sealed, **facts)
    return Assessment(known, Life.ENDED, FAILED.reason, FAILED.message, FAILED)


def status(
    *assessments: Assessment, before: dict[str, Any] | None = None, phase: RunPhase = RunPhase.RETRYING
) -> dict[str, Any]:
    plan = Plan(
        start=False,
        assessments=assessments,
        history=History(attempts=tuple(each.state for each in assessments)),
        phase=phase,
        reason=RunReason.RETRYING_NODES,
        message="dbt tries orders again.",
        wake_at=given.NOW + timedelta(seconds=30),
    )
    return status_of(plan, before=before)


def status_of(plan: Plan, *, before: dict[str, Any] | None = None) -> dict[str, Any]:
    return run_status(
        plan=plan,
        record=run_record({"status": before or {}}),
        conditions=(),
        tally=Tally(node_views(state=plan.history).values()),
        artifacts=None,
        output=None,
        handled_retry=None,
        generation=1,
        now=given.NOW,
    ).to_dict()


def test_attempts_are_listed_in_the_order_in_which_they_were_decided_on() -> None:
    listed = status(attempt(1, live=True), attempt(2, live=False), attempt(3, live=True))["attempts"]
    assert [(each["name"], each["state"]) for each in listed] == [
        ("nightly-1", "Running"),
        ("nightly-2", "Failed"),
        ("nightly-3", "Running"),
    ]


def test_an_attempt_that_lives_is_never_dropped_from_a_long_list() -> None:
    listed = status(attempt(1, live=True), *(attempt(index, live=False) for index in range(2, 90)))["attempts"]
    assert len(listed) == 50
    assert [each["name"] for each in listed][:2] == ["nightly-1", "nightly-41"]
    assert listed[-1]["name"] == "nightly-89"


def at_work(index: int, *, since: timedelta, seconds: float) -> Assessment:
    """An attempt whose container was at work for so long, and began so long ago."""
    begun = given.NOW - since
    sealed = Sealed(outcome=FAILED, state=EMPTY, ended_at=begun + timedelta(seconds=seconds), gone=True, started=begun)
    decision = Decision(index=index, kind=AttemptKind.PRODUCER, name=f"nightly-{index}")
    known = given.known(decision, created=True, sealed=sealed)
    return Assessment(known, Life.ENDED, FAILED.reason, FAILED.message, FAILED)


def test_the_duration_is_that_of_work_and_not_of_days_before_a_retry_that_somebody_asks_for() -> None:
    days, hours = timedelta(days=3), timedelta(hours=2)
    attempts = (
        at_work(1, since=days, seconds=90),
        # At the same time as the first one for half of its own.
        at_work(2, since=days - timedelta(seconds=60), seconds=60),
        at_work(3, since=hours, seconds=30),
    )
    before = {"startTime": "2026-11-17T01:00:00Z"}  # it had waited in a queue, too
    assert status(*attempts, before=before, phase=RunPhase.FAILED)["duration"] == "2m30s"
    assert "duration" not in status(*attempts, before=before)
    assert status(before=before, phase=RunPhase.FAILED)["duration"] == "0s"


def test_an_attempt_is_listed_by_its_pod_also_when_its_job_is_gone() -> None:
    """An attempt that is not listed, and of which nothing is left, would be created a second time."""
    assert "attempts" not in status(attempt(1, live=True, created=False))
    (listed,) = status(attempt(1, live=True, created=False, pod=given.RUNNING))["attempts"]
    assert listed["name"] == "nightly-1"


def test_what_was_seen_of_a_pod_stays_when_it_is_gone() -> None:
    pod = given.ended(exit_code=1)
    seen = status(attempt(1, live=False, pod=pod))
    gone = status(attempt(1, live=False), before=seen)
    assert gone["attempts"] == seen["attempts"]
    assert gone["attempts"][0]["exitCode"] == 1


def test_the_attempts_of_a_run_with_stages_tell_theirs_and_the_first_of_each_is_no_retry() -> None:
    run = Story(model("orders"), data_test("keys", "orders"), data_test("sums", "orders"), tests=WhenTested.AFTER_ALL)
    run["Producer"].builds()
    run.next()
    run["Tests keys sums"].starts().reports(keys="pass", sums="running")
    shown = status_of(run.plan())
    assert shown["message"] == "1 of 2 tests are done, 1 running."
    assert (shown["nodes"]["succeeded"], shown["tests"]["succeeded"], shown["retries"]) == (1, 1, 0)
    assert [(each["stage"], each.get("nodes")) for each in shown["attempts"]] == [("Build", None), ("Test", 2)]
    run["Tests keys sums"].is_killed()
    run.later(seconds=61)
    assert status_of(run.plan())["retries"] == 1


def test_retries_count_the_attempts_after_the_first() -> None:
    assert status(attempt(1, live=True))["retries"] == 0
    assert status(attempt(1, live=True), attempt(2, live=True))["retries"] == 1


def test_where_artifacts_are_kept_is_carried_on_by_a_controller_that_has_stored_none() -> None:
    kept = {"configMap": "nightly-artifacts", "runResults": False, "manifest": True}
    assert status(attempt(1, live=True), before={"artifacts": kept})["artifacts"] == kept
    assert "artifacts" not in status(attempt(1, live=True))


def test_which_dbt_it_is_is_told_by_whichever_attempt_has_come_so_far() -> None:
    early = AttemptState(dbt_version="1.11.16", invocation_id="i1")  # lost before it had said more
    late = AttemptState(dbt_version="1.11.16", invocation_id="i2", adapter="postgres", target="prod", end_hooks=0)
    assert dbt_info([early, late]) == DbtInfo(
        version="1.11.16", invocation_id="i1", adapter="postgres", target="prod", on_run_end_hooks=0
    )


def test_where_the_database_was_is_told_by_the_last_attempt_that_knows() -> None:
    graph = Graph.of([])
    here, kept = AttemptState(graph=graph, pod_database=":memory:"), AttemptState(graph=graph)
    assert dbt_info([here, EMPTY]).pod_database == ":memory:"
    assert dbt_info([here, kept]).pod_database is None  # the Secret with the profile was changed between them


# failures


def failures(run: Story) -> dict[str, tuple[str, str | None]]:
    """The message of each failure, and that of the first one."""
    return {each["name"]: (each["message"], each.get("firstMessage")) for each in status_of(run.plan())["failures"]}


GONE = "Runtime Error in model orders\n  Catalog Error: Schema with name shop does not exist!"


def test_a_failure_that_hides_the_cause_is_shown_beside_it() -> None:
    run = Story(model("orders"), model("other"))
    run["Producer"].builds(orders="error: Runtime Error in model orders\n  no such column", other="error: deadlock")
    run.later(seconds=600)
    run["Retry orders"].builds(orders=f"error: {GONE}")
    run["Retry other"].builds(other="error: deadlock")
    run.later(seconds=600)
    cause = "Runtime Error in model orders\n  no such column"
    assert failures(run) == {"orders": (GONE, cause), "other": ("deadlock", None)}


def test_it_is_the_first_of_several_and_not_what_was_lost_on_the_way() -> None:
    run = Story(model("orders"), limit=3)
    run["Producer"].starts().reports(orders="running").is_killed()
    run.later(seconds=600)
    for said in ("deadlock", "disk full", "disk full"):
        run.attempts[-1].builds(orders=f"error: {said}")
        run.later(seconds=600)
    assert failures(run) == {"orders": ("disk full", "deadlock")}


def test_where_only_the_place_of_the_compiled_code_differs_it_is_the_same_failure() -> None:
    run = Story(model("orders"))
    for index in (1, 2):
        said = f"Runtime Error in model orders (orders.sql)\n  boom\n  compiled code at /tmp/{index}/orders.sql"
        run.attempts[-1].builds(orders=f"error: {said}")
        run.later(seconds=600)
    assert run.phase() is RunPhase.FAILED
    assert failures(run)["orders"][1] is None


def test_a_node_that_failed_by_its_test_first_and_by_itself_then_shows_both() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), reasons={RetryReason.TESTS_FAILED})
    run["Producer"].builds(positive="fail: Got 3 results")
    run.later(seconds=600)
    run["Retry orders positive"].builds(orders=f"error: {GONE}", positive="skipped")
    run.later(seconds=600)
    message, first = failures(run)["orders"]
    assert (message, first) == (GONE, "1 of 1 tests failed: positive (Got 3 results)")
