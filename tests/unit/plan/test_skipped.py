"""What dbt skipped: it is executed again once all that it was skipped for has succeeded in a later attempt."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, ephemeral, model, unit_test
from tests.unit.plan.story import Story

FAST = "skipped: Skipping due to fail_fast"


def unselected(node: dict[str, Any]) -> dict[str, Any]:
    """A node that is listed because it connects others."""
    return {**node, "selected": False}


@pytest.mark.parametrize("limit", [0, 2])
@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param((ephemeral("e"), data_test("t", "e"), model("orders", "e")), id="ephemeral without parents"),
        pytest.param(
            (unselected(model("raw")), ephemeral("e", "raw"), data_test("t", "e"), model("orders", "e")),
            id="ephemeral, its parent not selected",
        ),
        pytest.param(
            (unselected(model("raw")), data_test("t", "raw"), model("orders", "raw")), id="tested model not selected"
        ),
        pytest.param(
            (unselected(model("raw")), unselected(model("mid", "raw")), data_test("t", "raw"), model("orders", "mid")),
            id="by way of another one that is not selected",
        ),
        pytest.param((model("raw"), data_test("t", "raw"), model("orders", "raw")), id="ordinary"),
    ],
)
def test_a_failed_test_gates_what_dbt_skipped_for_it(nodes: tuple[dict[str, Any], ...], limit: int) -> None:
    run = Story(*nodes, limit=limit)
    others = {node["name"]: "success" for node in nodes if node.get("selected", True)}
    run["Producer"].starts().reports(**(others | {"t": "fail: Got 1 result", "orders": "skipped"})).ends()
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED
    assert run.shows("orders") is NodePhase.SKIPPED


def test_what_was_skipped_for_a_failed_test_follows_once_the_test_has_passed() -> None:
    run = Story(
        ephemeral("e"), data_test("t", "e"), model("orders", "e"), reasons=frozenset({RetryReason.TESTS_FAILED})
    )
    run["Producer"].starts().reports(e="success", t="fail: Got 1 result", orders="skipped").ends()
    assert run.later(seconds=10) == ["Retry t"]
    run["Retry t"].builds()
    assert run.next() == ["Resume orders"]
    run["Resume orders"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_an_ephemeral_model_that_fails_is_a_failed_node_with_what_it_holds_back() -> None:
    nodes = (ephemeral("e"), data_test("t", "e"), model("a", "e"), model("b", "a"), model("other"))
    run = Story(*nodes, limit=0)
    run["Producer"].starts().reports(
        e="error: Compilation Error in model e\n  no such region", t="skipped", a="skipped", b="skipped"
    ).reports(other="success").ends()
    assert run.later(seconds=600) == []
    assert run.shows("e") is NodePhase.FAILED
    assert {name: run.node(name).blocked_by for name in "ab"} == dict.fromkeys("ab", "model.shop.e")


def test_an_ephemeral_model_that_works_when_it_is_tried_again_lets_the_run_end_green() -> None:
    run = Story(ephemeral("e"), model("a", "e"), model("b", "a"))
    run["Producer"].starts().reports(e="error: Runtime Error\n  busy", a="skipped", b="skipped").ends()
    assert run.later(seconds=10) == ["Retry e"]
    run["Retry e"].builds()
    assert run.next() == ["Resume a b"]
    run["Resume a b"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_each_of_two_failing_ephemeral_models_is_to_blame_for_what_it_holds_back() -> None:
    run = Story(ephemeral("e1"), ephemeral("e2"), model("a", "e1"), model("b", "e2"), model("c", "b"))
    run["Producer"].starts().reports(e1="error: one", e2="error: two", a="skipped", b="skipped", c="skipped").ends()
    blamed = {name: run.node(name).blocked_by for name in "abc"}
    assert blamed == {"a": "model.shop.e1", "b": "model.shop.e2", "c": "model.shop.e2"}


def test_what_is_below_two_failures_waits_for_both() -> None:
    run = Story(model("a"), model("b"), model("below", "a", "b"))
    run["Producer"].starts().reports(
        a="error: Database Error\n  one", b="error: Compilation Error in model b", below="skipped"
    ).ends()
    assert run.later(seconds=10) == ["Retry a"]  # a compilation error is not retried
    run["Retry a"].builds()
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


def test_a_node_that_dbt_skipped_without_saying_why_stays_skipped() -> None:
    run = Story(model("a"), model("b"))
    run["Producer"].starts().reports(a="error: boom", b="skipped").ends()
    assert run.later(seconds=10) == ["Retry a"]
    run["Retry a"].builds()
    assert run.later(seconds=600) == []
    assert (run.phase(), run.shows("b")) == (RunPhase.FAILED, NodePhase.SKIPPED)


def test_what_the_project_s_own_fail_fast_kept_back_waits_for_what_had_failed() -> None:
    nodes = (model("bad"), model("m1"), model("m2"))
    run = Story(*nodes, limit=0)
    run["Producer"].starts().reports(bad="error: boom", m1=FAST, m2=FAST).ends()
    assert run.later(seconds=600) == []
    assert run.shows("m1") is NodePhase.SKIPPED
    run = Story(*nodes)
    run["Producer"].starts().reports(bad="error: boom", m1=FAST, m2=FAST).ends()
    assert run.later(seconds=10) == ["Retry bad"]
    run["Retry bad"].builds()
    assert run.next() == ["Resume m1 m2"]


def test_a_query_that_the_project_s_own_fail_fast_stopped_waits_for_what_had_failed_too() -> None:
    run = Story(model("bad"), model("m1"), limit=0)
    run["Producer"].starts().reports(m1="running", bad="error: boom").cancels("m1", returned=True).ends()
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param((model("a"), data_test("same", "a", "elsewhere"), model("below", "a")), id="not listed"),
        pytest.param(
            (model("a"), unselected(model("b")), data_test("same", "a", "b"), model("below", "a")), id="listed"
        ),
        pytest.param(
            (model("a"), model("b"), ephemeral("e", "a", "b"), data_test("same", "e"), model("below", "a")),
            id="ephemeral of two parents",
        ),
    ],
)
def test_a_failed_test_that_reads_something_else_too_does_not_hold_back_a_retry(
    nodes: tuple[dict[str, Any], ...],
) -> None:
    run = Story(*nodes)
    good = {node["name"]: "success" for node in nodes if node.get("selected", True)}
    bad = {"same": "fail: Got 1 result", "below": "error: Database Error\n  locked"}
    run["Producer"].starts().reports(**(good | bad)).ends()
    assert run.later(seconds=10) == ["Retry below"]


def test_a_unit_test_that_fails_holds_its_model_and_all_below_it_back() -> None:
    run = Story(model("a"), unit_test("u", "a"), model("b", "a"), limit=0)
    run["Producer"].starts().reports(u="fail: differs", a="skipped", b="skipped").ends()
    assert run.later(seconds=600) == []
    assert {name: run.node(name).blocked_by for name in "ab"} == dict.fromkeys("ab", "unit_test.shop.a.u")
