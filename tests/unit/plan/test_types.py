"""What nodes that no attempt executes by itself mean for a run, exposures and ephemeral models among them."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import Ending
from dbt_operator.dbt.view import affected, node_counts, node_views, views_of
from dbt_operator.plan.attempt import Request
from tests.unit.dbt.logs import RunnerLog, data_test, ephemeral, model
from tests.unit.plan.story import Story

EPHEMERAL = "model.shop.clean"


def no_op(resource_type: str, *parents: str) -> dict[str, Any]:
    """A node for which dbt has nothing to do."""
    unique_id = f"{resource_type}.shop.board"
    depends_on = [f"model.shop.{parent}" for parent in parents]
    return {"unique_id": unique_id, "name": "board", "resource_type": resource_type, "depends_on": depends_on}


@pytest.mark.parametrize("resource_type", ["exposure", "saved_query", "a_type_of_tomorrow"])
@pytest.mark.parametrize("below", ["orders", "report"])
def test_what_dbt_skipped_and_nobody_executes_does_not_keep_a_mended_run_from_success(
    resource_type: str, below: str
) -> None:
    run = Story(model("orders"), model("report", "orders"), no_op(resource_type, below))
    run["Producer"].builds(orders="error: deadlock", report="skipped", board="skipped")
    assert run.node("board").blocked_by == "model.shop.orders"
    assert run.later(seconds=10) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason(), run.message()) == (
        RunPhase.SUCCEEDED,
        RunReason.ALL_SUCCEEDED,
        "2 nodes succeeded.",
    )


def test_nor_does_one_that_a_lost_pod_did_not_come_to() -> None:
    run = Story(model("orders"), no_op("exposure", "orders"))
    run["Producer"].starts().reports(orders="running").is_evicted()
    assert run.next() == ["Resume orders"]
    run["Resume orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_retry_of_the_run_that_is_asked_for_executes_what_an_exposure_was_skipped_for() -> None:
    run = Story(model("orders"), no_op("exposure", "orders"), limit=0)
    run["Producer"].builds(orders="error: deadlock", board="skipped")
    run.next()
    assert run.phase() is RunPhase.FAILED
    assert run.ask("again") == ["Resume orders"]
    run["Resume orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_ephemeral_model_that_was_skipped_is_good_once_what_uses_it_is_built() -> None:
    nodes = (model("orders"), ephemeral("clean", "orders"), data_test("t", "clean", attached_node=EPHEMERAL))
    run = Story(*nodes, model("report", "clean"))
    run["Producer"].builds(orders="error: deadlock", clean="skipped", t="skipped", report="skipped")
    assert (run.shows("clean"), run.node("clean").blocked_by) == (NodePhase.SKIPPED, "model.shop.orders")
    while (decided := run.later(seconds=10)) != []:
        for label in decided:
            run[label].builds()
    assert (run.phase(), run.node("clean").reason) == (RunPhase.SUCCEEDED, NodeReason.INLINED)


def test_it_waits_with_them_while_another_attempt_is_to_execute_them() -> None:
    run = Story(ephemeral("clean"), data_test("t", "clean", attached_node=EPHEMERAL), model("report", "clean"))
    run["Producer"].starts().is_evicted()
    run.next()
    assert run.shows("clean") is NodePhase.PENDING
    counts = node_counts(views=node_views(state=run.plan().history))
    assert (counts.total, counts.pending) == (2, 2)


def test_one_that_dbt_said_nothing_of_is_good_once_what_contains_it_has_begun() -> None:
    log = RunnerLog().select(ephemeral("clean"), ephemeral("more", "clean"), model("report", "more"))
    lost = close(state=log.state, ending=Ending.LOST)
    again = RunnerLog().select({**ephemeral("more", "clean"), "selected": False}, model("report", "more"))
    before = History(attempts=(lost, again.state), parts={1: frozenset()})
    after = History(attempts=(lost, again.start("model.shop.report").state), parts={1: frozenset()})
    assert node_views(state=before)["model.shop.more"].phase is NodePhase.SKIPPED
    views = dict(node_views(state=before)) | dict(
        views_of(state=after, unique_ids=affected(before=before, after=after))
    )
    assert views == node_views(state=after)
    assert views["model.shop.more"].reason is NodeReason.INLINED


@pytest.mark.parametrize(
    "node",
    [
        {**model("elsewhere"), "selected": False},
        {"unique_id": "source.shop.raw.elsewhere", "name": "elsewhere", "resource_type": "source", "selected": False},
    ],
)
def test_a_retry_of_a_node_that_is_here_for_its_tests_executes_those(node: dict[str, Any]) -> None:
    # The test reads two nodes and is listed on this one.
    test = data_test("t", "orders", node["unique_id"], attached_node=node["unique_id"])
    run = Story(model("orders"), node, test, model("other"), limit=0)
    run["Producer"].starts().reports(orders="success", other="success", t="error: deadlock").ends()
    run.next()
    assert run.shows("elsewhere") is NodePhase.FAILED
    assert run.ask("again", "elsewhere") == ["Retry t"]
    run["Retry t"].starts().is_killed()
    run.next()


def test_a_retry_of_a_node_whose_tests_did_not_run_executes_them() -> None:
    source = {"unique_id": "source.shop.raw.s", "name": "s", "resource_type": "source", "selected": False}
    run = Story(source, data_test("t", "source.shop.raw.s"), max_restarts=0)
    run["Producer"].starts().is_evicted()
    run.next()
    assert (run.phase(), run.shows("s")) == (RunPhase.FAILED, NodePhase.SKIPPED)
    assert run.ask("again", "s") == ["Retry t"]
    run["Retry t"].builds()
    run.next()
    assert run.shows("s") is NodePhase.SUCCEEDED
    assert run.handled == [Request("again", "source.shop.raw.s")]


def test_a_test_of_nothing_is_retried_like_any_other_and_shows_it() -> None:
    run = Story(data_test("t"))
    run["Producer"].builds(t="error: deadlock")
    assert run.shows("t") is NodePhase.FAILED
    assert run.later(seconds=10) == ["Retry t"]
    run["Retry t"].builds()
    run.next()
    assert (run.phase(), run.shows("t")) == (RunPhase.SUCCEEDED, NodePhase.SUCCEEDED)
