"""A run that lists its nodes first, and executes each of them, or each group of them, by a pod of its own."""

from typing import Any

import pytest

from dbt_operator.api.commands import Command, Mode, Stage, WhenTested
from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.spec import Group, NodeOverride, PerNode, RetryReason
from dbt_operator.plan.groups import convex_parts
from tests.unit.dbt.logs import data_test, model, seed, unit_test
from tests.unit.plan.story import Story

ORDERS, REPORT = "Node orders keys", "Node report sums match logic"


def shop(*more: dict[str, Any], **given: Any) -> Story:
    """Two models, one built from the other, and one of its own; tests of each, one of both, and a unit test."""
    return Story(
        seed("raw"),
        model("orders", "seed.shop.raw"),
        model("report", "orders"),
        model("other"),
        data_test("keys", "orders", attached_node="model.shop.orders"),
        data_test("sums", "report", attached_node="model.shop.report"),
        data_test("match", "orders", "report", attached_node="model.shop.report"),
        unit_test("logic", "model.shop.report"),
        *more,
        mode=Mode.PER_NODE,
        **given,
    )


def listed(*more: dict[str, Any], **given: Any) -> Story:
    """The nodes are listed, and the first ones decided on."""
    run = shop(*more, **given)
    run["Producer"].builds()
    assert run.next() == ["Node raw", "Node other"]
    return run


def test_one_attempt_lists_the_nodes_and_each_is_executed_by_its_own_when_what_it_needs_is_done() -> None:
    run = shop()
    run["Producer"].starts()
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.RUNNING, RunReason.PARSING)
    assert {run.shows(name) for name in run.ids} == {NodePhase.PENDING}
    run["Producer"].builds()
    assert run.next() == ["Node raw", "Node other"]
    assert {run.shows(name) for name in run.ids} == {NodePhase.PENDING}
    assert (run.phase(), run.reason()) == (RunPhase.RUNNING, RunReason.SCHEDULING)
    run["Node raw"].builds()
    assert run.next() == [ORDERS]
    assert (run.shows("raw"), run.shows("orders")) == (NodePhase.SUCCEEDED, NodePhase.PENDING)
    run[ORDERS].starts().reports(orders="running")
    assert (run.phase(), run.reason(), run.shows("orders")) == (
        RunPhase.RUNNING,
        RunReason.EXECUTING,
        NodePhase.RUNNING,
    )
    run[ORDERS].builds()
    assert run.next() == [REPORT]
    run[REPORT].builds()
    run["Node other"].builds()
    assert run.next() == []
    assert (run.phase(), run.message()) == (RunPhase.SUCCEEDED, "4 nodes and 4 tests succeeded.")
    decisions = [one.decision for one in run.attempts]
    assert [one.kind for one in decisions] == [AttemptKind.PRODUCER, *[AttemptKind.NODE] * 4]
    assert [one.stage for one in decisions] == [Stage.LIST, *[Stage.EXECUTE] * 4]
    assert [one.name for one in decisions][:2] == ["nightly-producer-1", "nightly-node-1"]


def test_what_a_failure_holds_back_is_skipped_for_it_although_no_dbt_has_said_so() -> None:
    run = listed(limit=0)
    run["Node raw"].builds()
    run["Node other"].builds()
    assert run.next() == [ORDERS]
    run[ORDERS].builds(orders="error: boom", keys="skipped")
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert run.message() == "1 of 4 nodes failed: orders (boom); 1 was skipped because of it."
    report = run.node("report")
    assert (report.phase, report.reason, report.blocked_by) == (
        NodePhase.SKIPPED,
        NodeReason.UPSTREAM_FAILED,
        "model.shop.orders",
    )
    assert report.tests is not None
    assert (report.tests.total, report.tests.skipped) == (3, 3)
    assert run.shows("other") is NodePhase.SUCCEEDED


def test_a_test_that_fails_holds_back_what_is_built_from_its_node() -> None:
    run = listed(limit=0)
    run["Node raw"].builds()
    run.next()
    run["Node other"].builds()
    run[ORDERS].builds(keys="fail: Got 3 results")
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.TESTS_FAILED)
    assert (run.shows("report"), run.node("report").blocked_by) == (NodePhase.SKIPPED, "model.shop.orders")


def test_what_failed_is_tried_again_and_what_it_held_back_waits_for_that() -> None:
    run = listed()
    run["Node raw"].builds()
    run.next()
    run["Node other"].builds()
    run[ORDERS].builds(orders="error: boom", keys="skipped")
    assert run.next() == []
    assert (run.phase(), run.reason(), run.shows("report")) == (
        RunPhase.RETRYING,
        RunReason.BACKING_OFF,
        NodePhase.SKIPPED,
    )
    assert run.later(seconds=20) == ["Retry orders keys"]
    assert run.shows("report") is NodePhase.PENDING
    run["Retry orders keys"].builds()
    assert run.next() == [REPORT]
    run[REPORT].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_however_many_fail_for_one_cause_each_is_tried_again_by_its_own_pod() -> None:
    models = [model(f"m{number}") for number in range(4)]
    run = Story(*models, mode=Mode.PER_NODE, together=1)
    run["Producer"].builds()
    for one in run.next():
        run[one].builds(**{one.split()[1]: "error: relation x does not exist"})
    run.next()
    assert run.later(seconds=20) == [f"Retry m{number}" for number in range(4)]


@pytest.mark.parametrize("parallelism", [1, 2])
def test_so_many_pods_live_at_once_whatever_they_are_for(parallelism: int) -> None:
    run = Story(
        model("a"),
        model("b"),
        model("c"),
        mode=Mode.PER_NODE,
        per_node=PerNode(parallelism=parallelism),
        parallelism=20,
    )
    run["Producer"].builds()
    first = run.next()
    assert first == ["Node a", "Node b"][:parallelism]
    run["Node a"].builds(a="error: boom")
    then = run.next() + run.later(seconds=20)
    assert len(then) == 1


def test_the_file_of_a_database_is_opened_by_one_pod_at_a_time() -> None:
    run = Story(model("a"), model("b"), mode=Mode.PER_NODE, adapter="duckdb")
    run["Producer"].builds()
    assert run.next() == ["Node a"]
    run["Node a"].builds()
    assert run.next() == ["Node b"]


# losses


def test_a_node_that_was_lost_with_its_pod_is_taken_up_again_as_often_as_it_may_be_whatever_becomes_of_others() -> None:
    run = listed(max_restarts=1)
    run["Node raw"].starts().is_evicted()
    assert run.next() == ["Resume raw"]
    run["Node other"].starts().is_evicted()
    assert run.next() == ["Resume other"]  # each counts for itself
    run["Resume raw"].starts().reports(raw="running").is_evicted()
    assert (run.next(), run.phase()) == ([], RunPhase.RETRYING)
    run["Resume other"].builds()
    assert run.next() == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.EVICTED)
    assert run.message().startswith(
        "The pod of raw was lost 2 times, and spec.producer.maxRestarts (1) allows no further one. 1 of 4 nodes"
    )
    assert (run.shows("raw"), run.node("raw").reason) == (NodePhase.FAILED, NodeReason.LOST)
    assert run.shows("other") is NodePhase.SUCCEEDED


def test_after_the_second_loss_of_a_node_there_is_a_pause() -> None:
    run = listed()
    run["Node raw"].starts().is_evicted()
    assert run.next() == ["Resume raw"]
    run["Resume raw"].starts().is_evicted()
    assert run.next() == []
    assert run.later(seconds=30) == ["Resume raw"]


def test_a_pod_that_never_started_leaves_its_node_unknown_and_not_skipped() -> None:
    run = listed(max_restarts=0)
    run["Node raw"].gets_a_pod()
    run["Node other"].builds()
    assert run.later(seconds=600) == []
    assert run.later(seconds=120) == []
    assert (run.node("raw").phase, run.node("raw").reason) == (NodePhase.SKIPPED, NodeReason.LOST)
    assert run.phase() is RunPhase.FAILED


def test_a_list_that_was_lost_is_made_again() -> None:
    run = shop()
    run["Producer"].starts().is_killed()
    assert run.next() == ["Producer"]
    assert {run.shows(name) for name in run.ids} == {NodePhase.PENDING}
    run["Producer"].builds()
    assert run.next() == ["Node raw", "Node other"]


def test_a_list_that_cannot_be_made_ends_the_run() -> None:
    run = shop()
    run["Producer"].starts().gives_up("spec", "spec.mode is PerNode, and the database is inside the pod")
    assert run.next() == []
    assert (run.phase(), run.message()) == (
        RunPhase.FAILED,
        "spec.mode is PerNode, and the database is inside the pod.",
    )
    assert run.node("raw").reason is NodeReason.LOST


# what people ask for


def test_a_run_that_was_suspended_goes_on_node_by_node() -> None:
    run = listed()
    run["Node raw"].starts().reports(raw="running")
    run["Node other"].builds()
    run.next()
    run.change(suspend=True)
    run["Node raw"].stops()
    assert (run.next(), run.phase()) == ([], RunPhase.SUSPENDED)
    assert run.change(suspend=False) == ["Resume raw"]
    run["Resume raw"].builds()
    assert run.next() == [ORDERS]


def test_what_was_not_begun_when_the_run_was_cancelled_was_cancelled() -> None:
    run = listed()
    run["Node raw"].starts().reports(raw="running")
    run["Node other"].builds()
    run.next()
    run.change(cancel=True)
    run["Node raw"].stops()
    assert (run.next(), run.phase()) == ([], RunPhase.CANCELLED)
    assert [run.shows(name) for name in ("raw", "orders", "other")] == [
        NodePhase.CANCELLED,
        NodePhase.CANCELLED,
        NodePhase.SUCCEEDED,
    ]


def test_with_fail_fast_nothing_is_begun_after_a_failure_that_stays() -> None:
    run = listed(limit=0, fail_fast=True)
    run["Node other"].builds(other="error: boom")
    assert run.next() == []
    run["Node raw"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    assert (run.shows("raw"), run.shows("orders")) == (NodePhase.SUCCEEDED, NodePhase.SKIPPED)
    assert run.node("orders").reason is NodeReason.FAIL_FAST


def test_a_retry_of_the_run_goes_on_node_by_node() -> None:
    run = listed(limit=0)
    run["Node raw"].builds(raw="error: boom")
    run["Node other"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    assert run.ask("again") == ["Resume raw"]
    run["Resume raw"].builds()
    assert run.next() == [ORDERS]
    run[ORDERS].builds()
    assert run.next() == [REPORT]


def crossed(**given: Any) -> Story:
    """A test of two models, and a model that only reads one of these, so that it does not wait for the test."""
    models = (model("a"), model("b"), model("c", "a"))
    run = Story(*models, data_test("both", "a", "b"), mode=Mode.PER_NODE, **given)
    run["Producer"].builds()
    run.next()
    run["Node a"].builds()
    run["Node b"].builds()
    assert run.next() == ["Node c", "Node both"]
    return run


def test_what_a_retry_of_the_run_builds_again_is_not_read_meanwhile() -> None:
    run = crossed(limit=0)
    run["Node c"].builds(c="error: boom")
    run["Node both"].builds(both="fail: Got 1")
    assert (run.next(), run.phase()) == ([], RunPhase.FAILED)
    assert run.ask("again") == ["Resume a", "Resume b"]
    run["Resume a"].builds()
    assert run.next() == ["Retry c"]
    run["Resume b"].builds()
    assert run.next() == ["Resume both"]
    run["Resume both"].builds()
    run["Retry c"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_what_a_retry_builds_again_is_not_read_meanwhile() -> None:
    run = crossed(reasons=(RetryReason.TESTS_FAILED,), backoff={"duration": "0s"})
    run["Node c"].starts().reports(c="running").is_evicted()
    run["Node both"].builds(both="fail: Got 1")
    assert run.later(seconds=1) == ["Retry a b both"]
    run["Retry a b both"].builds()
    assert run.next() == ["Resume c"]


def test_a_hook_that_failed_at_the_start_is_the_reason_of_what_no_pod_came_to() -> None:
    run = listed(limit=0)
    run["Node other"].builds()
    raw = run["Node raw"].starts()
    raw.log.add(
        "NodeResult",
        {
            "unique_id": "operation.shop.shop-on-run-start-0",
            "resource_type": "operation",
            "status": "error",
            "message": "no",
        },
        at=run.now,
    )
    raw.reports(raw="skipped")
    raw.log.finishes(1, at=run.now)
    raw._exits(exit_code=1)
    assert (run.next(), run.phase(), run.reason()) == ([], RunPhase.FAILED, RunReason.HOOK_FAILED)
    assert run.node("orders").reason is NodeReason.HOOK_FAILED


# tests, and what is like tests


def test_a_test_of_nodes_of_several_pods_has_one_of_its_own() -> None:
    run = Story(model("a"), model("b"), data_test("both", "a", "b", attached_node="model.shop.a"), mode=Mode.PER_NODE)
    run["Producer"].builds()
    assert run.next() == ["Node a", "Node b"]
    run["Node a"].builds()
    assert run.next() == []
    run["Node b"].builds()
    assert run.next() == ["Node both"]


def test_tests_may_come_after_all_else_a_pod_for_those_of_each_node() -> None:
    run = listed(tests=WhenTested.AFTER_ALL)
    run["Node raw"].builds()
    run["Node other"].builds()
    assert run.next() == ["Node orders"]
    run["Node orders"].builds()
    assert run.next() == ["Node report"]
    run["Node report"].builds()
    assert run.next() == ["Node keys", "Node sums match logic"]
    assert [one.decision.stage for one in run.attempts][-2:] == [Stage.TEST, Stage.TEST]
    run["Node keys"].builds()
    run["Node sums match logic"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)


def test_for_the_command_test_those_of_a_node_share_a_pod() -> None:
    run = shop(command=Command.TEST)
    run["Producer"].builds()
    assert run.next() == ["Node keys", "Node sums match logic"]


def test_an_ephemeral_model_goes_with_what_it_is_a_part_of() -> None:
    run = Story(model("base", materialized="ephemeral"), model("a", "base"), model("b", "base"), mode=Mode.PER_NODE)
    run["Producer"].builds()
    assert run.next() == ["Node base a"]
    run["Node base a"].starts().reports(a="success").ends()
    assert run.next() == ["Node b"]
    run["Node b"].builds()
    assert (run.next(), run.phase()) == ([], RunPhase.SUCCEEDED)
    assert run.node("base").reason is NodeReason.INLINED


# groups


def tagged(name: str, *reads: str, tag: str = "", folder: str = "") -> dict[str, Any]:
    return {**model(name, *reads), "tags": [tag] if tag else [], "path": f"models/{folder}/{name}.sql"}


@pytest.mark.parametrize("group", [Group.TAG, Group.PATH])
def test_a_group_is_executed_by_one_pod_and_begins_when_all_that_it_needs_is_done(group: Group) -> None:
    run = Story(
        tagged("a", tag="x", folder="x"),
        tagged("b", "a", tag="x", folder="x"),
        tagged("c", "b", tag="y", folder="y"),
        tagged("d", tag="y", folder="y"),
        data_test("keys", "b", attached_node="model.shop.b"),
        mode=Mode.PER_NODE,
        per_node=PerNode(group=group),
    )
    run["Producer"].builds()
    assert run.next() == ["Node a b keys"]
    run["Node a b keys"].builds()
    assert run.next() == ["Node c d"]


def test_what_a_failure_holds_back_does_not_hold_back_the_rest_of_its_group() -> None:
    run = Story(
        tagged("a", folder="x"),
        tagged("b", "a", folder="y"),
        tagged("c", folder="y"),
        mode=Mode.PER_NODE,
        per_node=PerNode(group=Group.PATH),
        limit=0,
    )
    run["Producer"].builds()
    assert run.next() == ["Node a"]
    run["Node a"].builds(a="error: boom")
    assert run.next() == ["Node c"]
    run["Node c"].builds()
    assert (run.next(), run.node("b").blocked_by) == ([], "model.shop.a")


def test_a_group_that_needs_what_needs_it_is_executed_in_parts() -> None:
    needs = {"m1": (), "s1": ("m1",), "m2": ("s1", "m1"), "m3": (), "s2": ()}
    keys = {"m1": "m", "m2": "m", "m3": "m", "s1": "s", "s2": "s"}
    assert [sorted(part) for part in convex_parts(needs, keys)] == [["m1", "m3"], ["s1", "s2"], ["m2"]]


def test_nodes_that_are_to_have_different_pods_share_none() -> None:
    run = Story(
        {**tagged("a", folder="x"), "overrides": [0]},
        tagged("b", folder="x"),
        tagged("c", folder="x"),
        mode=Mode.PER_NODE,
        per_node=PerNode(group=Group.PATH),
        nodes=(_large(),),
    )
    run["Producer"].builds()
    assert run.next() == ["Node a", "Node b c"]
    assert [one.decision.pod.overrides for one in run.attempts] == [(), (0,), ()]


def _large() -> NodeOverride:
    return NodeOverride.model_validate({"select": [{"name": "a"}], "podTemplate": {"spec": {"priorityClassName": "x"}}})
