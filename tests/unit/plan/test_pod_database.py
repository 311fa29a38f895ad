"""A database in the pod is gone with it: nothing is executed that needs what an attempt before has built."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.plan.attempt import Request
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story

FILE = "/tmp/shop.duckdb"  # noqa: S108 - a path in a pod


def shop(*, pod_database: str = FILE, **rules: Any) -> Story:
    nodes = (model("raw"), model("orders", "raw"), model("report", "orders"), model("other"))
    return Story(*nodes, adapter="duckdb", pod_database=pod_database, **rules)


def failed(**rules: Any) -> Story:
    """The run has ended with a node that failed."""
    run = shop(**rules)
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    return run


@pytest.mark.parametrize("where", [FILE, ":memory:"])
def test_what_failed_is_not_retried_and_the_run_says_why(where: str) -> None:
    run = failed(pod_database=where)
    assert run.reason() is RunReason.NODES_FAILED
    assert run.message().startswith("1 of 4 nodes failed: orders (deadlock); 1 was skipped because of it. Nothing is")
    assert where in run.message()
    assert "spec.podTemplate" in run.message()


def test_nor_is_it_while_dbt_goes_on() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="error: deadlock", report="skipped", other="running")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.RUNNING


@pytest.mark.parametrize(
    ("rules", "results"),
    [
        ({"limit": 0}, {"orders": "error: deadlock", "report": "skipped"}),
        ({}, {"orders": "error: Compilation Error", "report": "skipped"}),
        ({}, {}),
    ],
)
def test_where_nothing_would_be_retried_anyway_nothing_is_said_of_it(
    rules: dict[str, Any], results: dict[str, str]
) -> None:
    run = shop(**rules)
    run["Producer"].builds(**results)
    run.later(seconds=600)
    assert run.phase().terminal
    assert "again" not in run.message()


def test_the_work_of_a_pod_that_was_lost_is_not_taken_up() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="running").is_killed(reason="OOMKilled")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.OOM_KILLED)
    assert FILE in run.message()
    assert run.shows("raw") is NodePhase.SUCCEEDED


def test_without_a_restart_that_is_not_said_either() -> None:
    run = shop(max_restarts=0)
    run["Producer"].starts().reports(raw="success", orders="running").is_killed(reason="OOMKilled")
    assert run.later(seconds=600) == []
    assert FILE not in run.message()


def test_a_pod_that_is_lost_before_anything_was_built_is_replaced_by_one_for_the_whole_command() -> None:
    run = shop()
    run["Producer"].starts().is_evicted()
    assert run.later(seconds=600) == ["Producer"]
    run["Producer"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
    assert len(run.attempts) == 2


def test_after_a_suspension_the_whole_command_runs_again() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="running")
    run.change(suspend=True)
    run["Producer"].stops()
    run.later(seconds=600)
    assert run.phase() is RunPhase.SUSPENDED
    assert run.change(suspend=False) == ["Producer"]
    # What has succeeded is built anew, and nobody is to take it for there until it is.
    assert run.shows("raw") is NodePhase.PENDING
    run["Producer"].builds()
    run.next()
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_so_it_does_where_a_queue_has_taken_its_place_back() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="running").loses_its_place()
    assert run.later(seconds=600) == ["Producer"]


# retries that a person asks for


@pytest.mark.parametrize("name", [None, "orders", "report"])
def test_a_retry_that_is_asked_for_runs_the_whole_command_again(name: str | None) -> None:
    run = failed()
    assert run.ask("fixed", name) == ["Producer"]
    run["Producer"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert all(run.shows(each) is NodePhase.SUCCEEDED for each in run.ids)


@pytest.mark.parametrize("name", [None, "other"])
def test_one_for_what_has_succeeded_does_nothing(name: str | None) -> None:
    run = failed() if name else shop()
    if name is None:
        run["Producer"].builds()
    assert run.ask("again", name) == []
    assert [request.token for request in run.handled] == ["again"]


def test_one_for_a_node_whose_test_failed_does() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), adapter="duckdb", pod_database=FILE)
    run["Producer"].builds(positive="fail: Got 3 results")
    run.next()
    assert run.ask("fixed", "orders") == ["Producer"]


def test_one_for_a_live_run_waits_for_its_end() -> None:
    run = shop()
    run["Producer"].starts().reports(raw="success", orders="error: deadlock", report="skipped", other="running")
    assert run.ask("now", "orders") == []
    run["Producer"].builds()
    assert run.next() == ["Producer"]
    assert run.handled == [Request("now", run.ids["orders"])]


def test_after_it_failures_count_anew_and_nothing_is_retried_all_the_same() -> None:
    run = failed()
    run.ask("once more", "orders")
    run["Producer"].builds(other="error: deadlock")
    assert run.later(seconds=600) == []
    assert run.message().startswith("1 of 4 nodes failed: other (deadlock). Nothing is tried again")


def test_what_an_attempt_before_has_built_is_no_success_of_the_one_after_it() -> None:
    run = failed()
    run.ask("once more")
    run["Producer"].starts().reports(orders="success", report="success").gives_up("other", "no space left on device")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.DBT_ERROR)


def test_once_the_profile_names_a_file_that_is_kept_what_fails_is_retried() -> None:
    run = failed()
    run.pod_database = ""
    run.ask("on a volume")
    run["Producer"].builds(other="error: deadlock")
    assert run.later(seconds=600) == ["Retry other"]


def test_a_retry_that_finds_its_file_gone_is_the_last_one() -> None:
    # On a volume of the node, say, and it was another node.
    run = shop(pod_database="", limit=3)
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=600)
    retry = run["Retry orders"].starts(loaded=False)
    retry.log.add("DatabaseFile", {"file": "/data/shop.duckdb", "kept": False}, at=run.now)
    retry.gives_up("other", "the database file /data/shop.duckdb is not there in this pod")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.DBT_ERROR)
    assert run.message().count("/data/shop.duckdb") == 2
    assert run.node("orders").message == "deadlock"


def test_a_database_on_a_volume_is_like_any_other() -> None:
    run = shop(pod_database="")
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    assert run.later(seconds=600) == ["Retry orders"]
