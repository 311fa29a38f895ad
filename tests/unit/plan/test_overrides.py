"""Nodes that are retried in another way than the others, or executed in pods of another kind."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.spec import Downstream, NodeOverride
from tests.unit.dbt.logs import data_test, ephemeral, model, unit_test
from tests.unit.plan.story import Story

LARGE = {"spec": {"nodeSelector": {"size": "large"}}}
SELECT = [{"name": "any"}]  # which nodes an item is about, the listing says


def items(*fields: dict[str, Any]) -> tuple[NodeOverride, ...]:
    """Items of spec.nodes."""
    return tuple(NodeOverride.model_validate({"select": SELECT, **each}) for each in fields)


NEEDS = {"resources": {"limits": {"memory": "4Gi"}}}
"""What the project says of a node, as the runner has understood it."""


def pods(run: Story) -> dict[str, tuple[int, ...]]:
    """The items of spec.nodes that the pod of each attempt has, by what the attempt executes."""
    return {run._words(each.decision): each.decision.pod.overrides for each in run.attempts}


def test_a_node_is_retried_as_often_as_is_said_for_it() -> None:
    nodes = items({"retry": {"limit": 2, "backoff": {"duration": "1s"}}})
    run = Story(model("orders", overrides=[0]), model("other"), nodes=nodes, limit=0)
    run["Producer"].builds(orders="error: deadlock", other="error: timeout")
    assert run.later(seconds=1) == ["Retry orders"]
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.later(seconds=1.9) == []  # the factor is that of the run
    assert run.later(seconds=0.1) == ["Retry orders"]
    run["Retry orders"].builds()
    assert run.later(seconds=600) == []
    assert (run.shows("orders"), run.shows("other")) == (NodePhase.SUCCEEDED, NodePhase.FAILED)


def test_a_node_is_not_retried_although_all_others_are() -> None:
    nodes = items({"retry": {"limit": 0}})
    run = Story(model("orders", overrides=[0]), model("other"), nodes=nodes, limit=1)
    run["Producer"].builds(orders="error: deadlock", other="error: timeout")
    assert run.later(seconds=10) == ["Retry other"]


def test_which_failures_are_retried_is_said_for_a_node_and_its_tests() -> None:
    nodes = items({"retry": {"reasons": ["TestsFailed"]}})
    run = Story(
        *(model("orders", overrides=[0]), data_test("unique", "orders", overrides=[0])),
        *(model("other"), data_test("not_null", "other")),
        nodes=nodes,
    )
    run["Producer"].builds(orders="success", unique="fail", other="success", not_null="fail")
    assert run.later(seconds=10) == ["Retry orders unique"]


def test_a_later_item_goes_before_an_earlier_one_field_by_field() -> None:
    nodes = items({"retry": {"limit": 3, "backoff": {"duration": "1s"}}}, {"retry": {"limit": 1}})
    run = Story(model("orders", overrides=[0, 1]), nodes=nodes)
    run["Producer"].builds(orders="error: deadlock")
    assert run.later(seconds=1) == ["Retry orders"]
    run["Retry orders"].builds(orders="error: deadlock")
    assert run.later(seconds=600) == []
    assert run.phase() is RunPhase.FAILED


def test_a_retry_has_the_pod_of_its_node() -> None:
    nodes = items({"podTemplate": LARGE}, {"retry": {"limit": 1}}, {"podTemplate": LARGE})
    run = Story(model("orders", overrides=[0, 1, 2]), model("other", overrides=[1]), nodes=nodes)
    run["Producer"].builds(orders="error: deadlock", other="error: timeout")
    run.later(seconds=10)
    assert pods(run) == {"Producer": (), "Retry orders": (0, 2), "Retry other": ()}


def test_many_retries_share_a_pod_with_those_that_want_the_same() -> None:
    large, run = [model(name, overrides=[0]) for name in ("a", "b")], None
    run = Story(*large, model("c"), model("d"), nodes=items({"podTemplate": LARGE}), together=1)
    run["Producer"].builds(**dict.fromkeys("abcd", "error: deadlock"))
    assert run.later(seconds=10) == ["Retry a b", "Retry c d"]
    assert pods(run) == {"Producer": (), "Retry a b": (0,), "Retry c d": ()}
    assert len({each.decision.name for each in run.attempts}) == 3


@pytest.mark.parametrize("downstream", Downstream)
def test_what_is_left_is_resumed_in_the_pods_that_are_said_for_it(downstream: Downstream) -> None:
    run = Story(
        model("orders"),
        *(model("large", "orders", overrides=[0]), model("small", "orders"), model("report", "large")),
        nodes=items({"podTemplate": LARGE}),
        downstream=downstream,
    )
    run["Producer"].builds(orders="error: deadlock", large="skipped", small="skipped", report="skipped")
    run.later(seconds=10)
    run["Retry orders"].builds()
    assert set(run.next()) == {"Resume large", "Resume small"}
    run["Resume large"].builds()
    run["Resume small"].builds()
    assert run.next() == ["Resume report"]
    assert pods(run)["Resume large"] == (0,)
    assert pods(run)["Resume small"] == pods(run)["Resume report"] == ()
    run["Resume report"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_lost_pod_is_made_up_for_by_one_pod_of_each_kind_and_one_after_the_other_on_duckdb() -> None:
    run = Story(model("large", overrides=[0]), model("small"), nodes=items({"podTemplate": LARGE}), adapter="duckdb")
    run["Producer"].starts().reports(large="running", small="running").is_killed()
    assert run.next() == ["Resume small"]
    run["Resume small"].builds()
    assert run.next() == ["Resume large"]
    assert pods(run) == {"Producer": (), "Resume small": (), "Resume large": (0,)}


def test_tests_and_ephemeral_models_go_with_their_nodes() -> None:
    run = Story(
        *(model("small"), ephemeral("inlined", "small"), model("large", "inlined", overrides=[0])),
        *(unit_test("logic", "large"), data_test("unique", "large"), data_test("both", "small", "large")),
        nodes=items({"podTemplate": LARGE}),
    )
    run["Producer"].starts().reports(small="running").is_killed()
    assert run.next() == ["Resume small"]
    run["Resume small"].builds()
    assert run.next() == ["Resume inlined large logic unique both"]


def test_a_person_who_asks_for_all_gets_it_in_pods_of_each_kind() -> None:
    run = Story(
        *(model("large", overrides=[0]), model("small")), nodes=items({"podTemplate": LARGE}), limit=0, adapter="duckdb"
    )
    run["Producer"].builds(large="skipped", small="error: deadlock")  # for which nobody knows why
    run.next()
    assert run.phase() is RunPhase.FAILED
    assert run.ask("now") == ["Resume small"]
    run["Resume small"].builds()
    assert run.next() == ["Resume large"]
    assert pods(run)["Resume large"] == (0,)
    run["Resume large"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_people_who_ask_for_nodes_that_want_different_pods_are_answered_one_by_one() -> None:
    run = Story(model("large", overrides=[0]), model("small"), nodes=items({"podTemplate": LARGE}), limit=0)
    run["Producer"].builds(large="error: out of memory", small="error: deadlock")
    run.next()
    assert run.ask("now", "large") + run.ask("now", "small") == ["Retry large", "Retry small"]
    assert pods(run) == {"Producer": (), "Retry large": (0,), "Retry small": ()}


def test_what_the_project_says_of_a_node_goes_before_what_is_said_of_all_and_after_what_the_run_says_of_it() -> None:
    project = {"retry": {"limit": 2, "backoff": {"duration": "1s"}}}
    nodes = items({"retry": {"limit": 1}})
    run = Story(
        *(model("orders", settings=project), model("other"), model("both", settings=project, overrides=[0])),
        nodes=nodes,
        limit=0,
    )
    run["Producer"].builds(orders="error: deadlock", other="error: timeout", both="error: disk full")
    assert run.later(seconds=1) == ["Retry orders", "Retry both"]
    run["Retry orders"].builds(orders="error: deadlock")
    run["Retry both"].builds(both="error: disk full")
    assert run.later(seconds=600) == ["Retry orders"]


def test_what_an_operator_of_another_version_has_understood_is_left_alone() -> None:
    run = Story(model("orders", settings={"retry": {"limit": "often", "pause": 3}}), limit=0)
    run["Producer"].builds(orders="error: deadlock")
    assert run.later(seconds=600) == []


def test_a_node_is_executed_in_a_pod_with_what_the_project_says_it_needs() -> None:
    run = Story(model("a", settings=NEEDS), model("b"), model("c", settings=NEEDS))
    run["Producer"].starts().is_killed()
    assert run.next() == ["Resume b", "Resume a c"]
    needs = [each.decision.pod.resources for each in run.attempts]
    assert needs == [(), (), (("limits", (("memory", "4Gi"),)),)]


def test_what_is_wrong_in_the_project_is_told_and_nothing_fails_for_it() -> None:
    run = Story(model("a", settings_ignored="timeout is wrong"), model("b", settings_ignored="x"))
    run["Producer"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED
    assert run.message() == (
        "2 nodes succeeded. meta.dbt_operator of model.shop.a (and 1 more) is not honoured where it is wrong:"
        " timeout is wrong."
    )


def test_a_test_does_not_follow_into_the_pod_of_a_node_that_it_only_reads() -> None:
    """With `downstream: PerNode`."""
    run = Story(
        *(model("raw"), model("large", "raw", overrides=[0])),
        data_test("both", "raw", "large", attached_node="model.shop.raw"),
        nodes=items({"podTemplate": LARGE}),
        downstream=Downstream.PER_NODE,
    )
    run["Producer"].builds(raw="error: deadlock", large="skipped", both="skipped")
    run.later(seconds=10)
    run["Retry raw"].builds()
    assert run.next() == ["Resume large"]
    run["Resume large"].builds()
    assert run.next() == ["Resume both"]
    assert (pods(run)["Resume large"], pods(run)["Resume both"]) == ((0,), ())


def test_what_is_built_again_after_a_node_of_another_pod_stays_as_it_was_until_then() -> None:
    """dbt has said nothing of the end of the first one, and built the other one from it."""
    nodes = items({"podTemplate": LARGE})
    run = Story(model("orders"), model("report", "orders", overrides=[0]), nodes=nodes)
    run["Producer"].starts().reports(orders="running", report="success").is_evicted()
    assert run.shows("report") is NodePhase.SUCCEEDED  # before any decision
    assert run.next() == ["Resume orders"]
    assert run.shows("report") is NodePhase.SUCCEEDED
    run["Resume orders"].builds()
    assert run.next() == ["Resume report"]
    assert run.shows("report") is NodePhase.SUCCEEDED
    run["Resume report"].starts().reports(report="running")
    assert run.shows("report") is NodePhase.RUNNING
