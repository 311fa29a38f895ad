"""Which items of the run's `nodes` are about which nodes of the project."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dbt_operator.runner.overrides import parse_overrides, with_overrides
from tests.unit.pods.test_pod_template import pod_of
from tests.unit.runner.conftest import Project

MODEL: dict[str, Any] = {
    "unique_id": "model.shop.orders",
    "name": "orders",
    "resource_type": "model",
    "package": "shop",
    "path": "models/marts/core/orders.sql",
    "tags": ["nightly", "large"],
    "depends_on": ["model.shop.raw"],
}
TEST: dict[str, Any] = {
    "unique_id": "test.shop.unique_orders.1",
    "name": "unique_orders",
    "resource_type": "test",
    "package": "shop",
    "path": "models/schema.yml",
    "tags": [],
    "depends_on": ["model.shop.orders"],
    "attached_node": "model.shop.orders",
}
NODES: dict[str, dict[str, Any]] = {node["unique_id"]: node for node in (MODEL, TEST)}


def about(*criteria: dict[str, str]) -> list[str]:
    """The names of the nodes that an item with these criteria is about."""
    overrides = parse_overrides(json.dumps([{"select": criteria}]))
    marked = with_overrides(known=dict(NODES), overrides=overrides)
    return [node["name"] for node in marked.values() if node.get("overrides") == [0]]


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ([{"name": "orders"}], True),
        ([{"name": "ord*"}], True),
        ([{"name": "order"}], False),
        ([{"name": "ORDERS"}], False),
        ([{"tag": "large"}], True),
        ([{"tag": "small"}], False),
        ([{"path": "models/marts/*"}], True),
        ([{"path": "models/staging/*"}], False),
        ([{"package": "shop"}], True),
        ([{"resourceType": "model"}], True),
        ([{"resourceType": "seed"}], False),
        ([{"tag": "large", "name": "cust*"}], False),
        ([{"tag": "large", "name": "o[qr]ders"}], True),
        ([{"name": "cust*"}, {"tag": "night??"}], True),
        ([{"name": "a.c"}], False),
    ],
)
def test_a_node_is_meant_if_all_of_one_criterion_is_true(criteria: list[dict[str, str]], found: bool) -> None:
    assert about(*criteria) == (["orders", "unique_orders"] if found or "package" in criteria[0] else [])


def test_a_test_has_what_is_said_of_its_node_and_of_itself() -> None:
    overrides = parse_overrides('[{"select":[{"resourceType":"test"}]},{"select":[{"name":"orders"}]}]')
    marked = with_overrides(known=dict(NODES), overrides=overrides)
    assert marked[TEST["unique_id"]]["overrides"] == [0, 1]
    assert marked[MODEL["unique_id"]]["overrides"] == [1]


def test_the_runner_says_it_in_its_listing_from_what_the_operator_tells_it(
    make_project: Callable[[], Project],
) -> None:
    select: list[dict[str, Any]] = [{"name": "$(ok)*"}, {"name": "ok_*", "resourceType": "model"}]
    nodes = [{"select": [{"tag": "no-such"}], "retry": {}}, {"select": select, "retry": {"limit": 3}}]
    arguments = pod_of(nodes=nodes)["spec"]["containers"][0]["args"]
    (told,) = [argument for argument in arguments if argument.startswith("--overrides=")]
    assert "$(" not in told  # which Kubernetes would replace
    graph = make_project().run("build", "--select", "ok_model", options=[told]).graph
    marked = {one for one, node in graph.items() if node.get("overrides") == [1]}
    assert "model.torture.ok_model" in marked
    assert "unit_test.torture.ok_model.ut_upper_ok" in marked
    assert all(node.get("overrides") is None for one, node in graph.items() if one not in marked)
