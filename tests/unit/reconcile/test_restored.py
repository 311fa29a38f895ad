"""What the DbtModels of a run remember of an attempt whose log is gone."""

from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.status import DbtInfo, DbtModelSpec, DbtModelStatus
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.state import EMPTY, NodeState
from dbt_operator.reconcile.restored import filled, restored_nodes

TESTS = [{"uniqueId": f"test.shop.t{number}", "name": f"t{number}"} for number in (1, 2, 3)]


def restored(*, tests: dict[str, Any] | None = None, **status: Any) -> dict[str, NodeState]:
    spec = DbtModelSpec.parse(
        {
            "runName": "nightly",
            "uniqueId": "model.shop.orders",
            "name": "orders",
            "resourceType": "model",
            "tests": TESTS if tests else [],
        }
    )
    stored = DbtModelStatus.parse(status | ({"tests": tests} if tests else {}))
    assert spec is not None
    assert stored is not None
    return {node.unique_id: node for node in restored_nodes(spec=spec, stored=stored)}


def counts(*, failing: list[dict[str, Any]] | None = None, **numbers: int) -> dict[str, Any]:
    base = {"total": 3, "passed": 0, "warned": 0, "failed": 0, "errored": 0, "skipped": 0}
    return base | numbers | {"failing": failing or []}


@pytest.mark.parametrize(
    ("phase", "reason", "expected"),
    [
        ("Succeeded", "Success", NodePhase.SUCCEEDED),
        ("Succeeded", "NoOp", NodePhase.SUCCEEDED),
        ("Failed", "Error", NodePhase.FAILED),
        ("Skipped", "UpstreamFailed", NodePhase.SKIPPED),
    ],
)
def test_what_dbt_reported_is_remembered(phase: str, reason: str, expected: NodePhase) -> None:
    (node,) = restored(phase=phase, reason=reason).values()
    assert node.phase is expected


@pytest.mark.parametrize(
    ("phase", "reason"), [("Failed", "Lost"), ("Skipped", "Lost"), ("Cancelled", "Cancelled"), ("Pending", None)]
)
def test_what_dbt_did_not_report_stays_unknown(phase: str, reason: str | None) -> None:
    status: dict[str, Any] = {"phase": phase, "reason": reason} if reason else {"phase": phase}
    assert restored(**status) == {}


def test_tests_are_remembered_where_it_is_certain_how_each_ended() -> None:
    failing = [{"uniqueId": "test.shop.t2", "name": "t2", "message": "Got 3 results", "failures": 3}]
    nodes = restored(phase="Failed", reason="TestsFailed", tests=counts(passed=1, warned=1, failed=1, failing=failing))
    assert nodes["model.shop.orders"].phase is NodePhase.SUCCEEDED  # it was built
    assert (nodes["test.shop.t2"].status, nodes["test.shop.t2"].num_failures) == ("fail", 3)
    assert sorted(nodes[test].status for test in ("test.shop.t1", "test.shop.t3")) == ["pass", "warn"]


def test_of_tests_some_of_which_did_not_run_only_the_failing_ones_are_known() -> None:
    failing = [{"uniqueId": "test.shop.t2", "name": "t2", "message": "boom"}]
    nodes = restored(phase="Failed", reason="TestsFailed", tests=counts(passed=1, errored=1, failing=failing))
    assert nodes.keys() == {"model.shop.orders", "test.shop.t2"}
    assert nodes["test.shop.t2"].status == "error"


def test_the_log_knows_better_where_it_tells_the_end_of_a_node() -> None:
    told = NodeState(unique_id="model.shop.orders", phase=NodePhase.FAILED, status="error", message="of the log")
    remembered = restored(phase="Succeeded", reason="Success")
    state = filled(EMPTY, nodes=remembered, graph=None)
    assert state.nodes["model.shop.orders"].phase is NodePhase.SUCCEEDED
    logged = filled(EMPTY, nodes={told.unique_id: told}, graph=None)
    assert filled(logged, nodes=remembered, graph=None) is logged
    assert logged.failures == {"model.shop.orders"}


def test_that_a_node_had_begun_is_remembered() -> None:
    (node,) = restored(phase="Running", startedAt="2026-11-20T03:00:00Z").values()
    assert (node.phase, node.status) == (NodePhase.RUNNING, "")
    assert node.started_at is not None


def test_with_the_graph_come_the_nodes_that_had_not_begun() -> None:
    graph = Graph.of([GraphNode(unique_id=f"model.shop.{name}", resource_type="model") for name in ("orders", "items")])
    remembered = restored(phase="Succeeded", reason="Success")
    dbt = DbtInfo(version="1.11.16", adapter="duckdb")
    state = filled(EMPTY, nodes=remembered, graph=graph, dbt=dbt)
    assert {one: node.phase for one, node in state.nodes.items()} == {
        "model.shop.orders": NodePhase.SUCCEEDED,
        "model.shop.items": NodePhase.PENDING,
    }
    assert (state.adapter, state.dbt_version) == ("duckdb", "1.11.16")
