"""What the DbtModels of a run remember of an attempt whose log is gone."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import DbtInfo, DbtModelSpec, DbtModelStatus, ModelTest
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.state import EMPTY, AttemptState, Closed, Ending, NodeState
from dbt_operator.dbt.view import node_view
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Sealed, Shown
from dbt_operator.plan.outcome import Outcome
from dbt_operator.reconcile.memory import Memory, filled, restored_nodes

TESTS = [{"uniqueId": f"test.shop.t{number}", "name": f"t{number}"} for number in (1, 2, 3)]


def restored(
    *,
    tests: dict[str, Any] | None = None,
    listed: list[dict[str, Any]] = TESTS,
    node: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, NodeState]:
    spec = DbtModelSpec.parse(
        {
            "runName": "nightly",
            "uniqueId": "model.shop.orders",
            "name": "orders",
            "resourceType": "model",
            "tests": listed if tests else [],
            **(node or {}),
        }
    )
    stored = DbtModelStatus.parse(status | ({"tests": tests} if tests else {}))
    assert spec is not None
    assert stored is not None
    return {node.unique_id: node for _, node in restored_nodes(spec=spec, stored=stored, job="producer")}


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
        ("Succeeded", "AReasonOfALaterVersion", NodePhase.SUCCEEDED),
        ("Failed", "AReasonOfALaterVersion", NodePhase.FAILED),
        ("Skipped", "AReasonOfALaterVersion", NodePhase.SKIPPED),
    ],
)
def test_what_dbt_reported_is_remembered(phase: str, reason: str, expected: NodePhase) -> None:
    (node,) = restored(phase=phase, reason=reason).values()
    assert node.phase is expected


@pytest.mark.parametrize(
    ("phase", "reason", "word"),
    [
        ("Succeeded", "Success", "pass"),
        ("Succeeded", "Warned", "warn"),
        ("Failed", "TestsFailed", "fail"),
        ("Failed", "Error", "error"),
    ],
)
def test_how_a_test_with_a_model_of_its_own_ended_is_remembered_in_the_words_for_tests(
    phase: str, reason: str, word: str
) -> None:
    node = {"uniqueId": "test.shop.t", "name": "t", "resourceType": "test"}
    (found,) = restored(node=node, phase=phase, reason=reason).values()
    assert (found.phase, found.status) == (NodePhase(phase), word)


@pytest.mark.parametrize(("message", "word"), [("NO-OP", "success"), ("No new changes", "reused")])
def test_what_was_reused_is_remembered_in_the_word_that_dbt_had_for_it(message: str, word: str) -> None:
    remembered = restored(phase="Succeeded", reason="Reused", message=message)
    assert remembered["model.shop.orders"].status == word
    view = node_view(state=filled(EMPTY, nodes=remembered, graph=None), unique_id="model.shop.orders")
    assert view.reason is NodeReason.REUSED


@pytest.mark.parametrize("phase", ["Failed", "Pending"])
def test_of_a_node_that_dbt_does_not_execute_only_its_tests_are_remembered(phase: str) -> None:
    failing = [{"uniqueId": "test.shop.t2", "name": "t2", "message": "Got 3 results", "failures": 3}]
    nodes = restored(node={"selected": False}, phase=phase, tests=counts(passed=2, failed=1, failing=failing))
    words = {one: node.status for one, node in nodes.items()}
    assert words == {"test.shop.t1": "pass", "test.shop.t2": "fail", "test.shop.t3": "pass"}


@pytest.mark.parametrize(
    ("phase", "reason"),
    [("Failed", "Lost"), ("Skipped", "Lost"), ("Cancelled", "Cancelled"), ("Pending", None), ("Odd", "Odd")],
)
def test_what_dbt_did_not_report_stays_unknown(phase: str, reason: str | None) -> None:
    status: dict[str, Any] = {"phase": phase, "reason": reason} if reason else {"phase": phase}
    assert restored(**status) == {}


def test_tests_are_remembered_where_it_is_certain_how_each_ended() -> None:
    failing = [{"uniqueId": "test.shop.t2", "name": "t2", "message": "Got 3 results", "failures": 3}]
    failing[0]["finishedAt"] = "2026-11-20T03:00:00Z"
    nodes = restored(phase="Failed", reason="TestsFailed", tests=counts(passed=1, warned=1, failed=1, failing=failing))
    assert nodes["model.shop.orders"].phase is NodePhase.SUCCEEDED  # it was built
    assert (nodes["test.shop.t2"].status, nodes["test.shop.t2"].num_failures) == ("fail", 3)
    assert nodes["test.shop.t2"].finished_at == datetime(
        2026, 11, 20, 3, tzinfo=UTC
    )  # its backoff is counted from then
    assert sorted(nodes[test].status for test in ("test.shop.t1", "test.shop.t3")) == ["pass", "warn"]


def test_of_tests_some_of_which_did_not_run_only_the_failing_ones_are_known() -> None:
    failing = [{"uniqueId": "test.shop.t2", "name": "t2", "message": "boom"}]
    nodes = restored(phase="Failed", reason="TestsFailed", tests=counts(passed=1, errored=1, failing=failing))
    assert nodes.keys() == {"model.shop.orders", "test.shop.t2"}
    assert nodes["test.shop.t2"].status == "error"


def test_the_unit_tests_of_a_node_that_was_built_had_passed_before_it() -> None:
    tests = [{"uniqueId": "unit_test.shop.orders.counts", "name": "counts"}, *TESTS]
    begun = restored(phase="Running", tests=counts(total=4, passed=1), listed=tests)
    assert begun.keys() == {"model.shop.orders"}
    built = restored(phase="Succeeded", reason="Success", tests=counts(total=4, passed=2), listed=tests)
    assert built.keys() == {"model.shop.orders", "unit_test.shop.orders.counts"}
    warned = restored(phase="Succeeded", reason="Warned", tests=counts(total=4, passed=3, warned=1), listed=tests)
    assert warned["unit_test.shop.orders.counts"].status == "pass"


def test_the_log_knows_better_where_it_tells_the_end_of_a_node() -> None:
    told = NodeState(unique_id="model.shop.orders", phase=NodePhase.FAILED, status="error", message="of the log")
    remembered = restored(phase="Succeeded", reason="Success")
    state = filled(EMPTY, nodes=remembered, graph=None)
    assert state.nodes["model.shop.orders"].phase is NodePhase.SUCCEEDED
    logged = filled(EMPTY, nodes={told.unique_id: told}, graph=None)
    assert filled(logged, nodes=remembered, graph=None) is logged
    assert logged.failures == {"model.shop.orders"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("UpstreamFailed", {"blockedBy": "model.shop.items", "message": "model.shop.items failed."}),
        ("FailFast", {"message": "dbt had not started it when another node failed, and stopped as fail-fast asks."}),
        ("Skipped", {"message": "dbt skipped it without saying why."}),
    ],
)
def test_why_a_node_was_skipped_is_remembered_where_the_failure_is_not(reason: str, told: dict[str, Any]) -> None:
    remembered = restored(phase="Skipped", reason=reason, **told)
    state = replace(filled(EMPTY, nodes=remembered, graph=None), closed=Closed(ending=Ending.LOST))
    view = node_view(state=state, unique_id="model.shop.orders")
    assert (view.reason, view.message, view.blocked_by) == (NodeReason(reason), told["message"], told.get("blockedBy"))


def test_that_a_node_had_begun_is_remembered() -> None:
    (node,) = restored(phase="Running", startedAt="2026-11-20T03:00:00Z").values()
    assert (node.phase, node.status) == (NodePhase.RUNNING, "")
    assert node.started_at is not None


def test_with_the_graph_come_the_nodes_that_had_not_begun() -> None:
    graph = Graph.of([GraphNode(unique_id=f"model.shop.{name}", resource_type="model") for name in ("orders", "items")])
    remembered = restored(phase="Succeeded", reason="Success")
    dbt = DbtInfo(version="1.11.16", adapter="duckdb", on_run_end_hooks=0, pod_database=":memory:")
    state = filled(EMPTY, nodes=remembered, graph=graph, dbt=dbt)
    assert {one: node.phase for one, node in state.nodes.items()} == {
        "model.shop.orders": NodePhase.SUCCEEDED,
        "model.shop.items": NodePhase.PENDING,
    }
    assert (state.adapter, state.dbt_version, state.end_hooks) == ("duckdb", "1.11.16", 0)
    assert state.pod_database == ":memory:"


# A test that was executed again without the node that it tests

ORDERS, ITEMS, TEST = "model.shop.orders", "model.shop.items", "test.shop.t1"
GRAPH = Graph.of(
    [
        *(GraphNode(unique_id=one, resource_type="model") for one in (ORDERS, ITEMS)),
        GraphNode(unique_id=TEST, resource_type="test", attached_node=ORDERS, depends_on=(ORDERS, ITEMS)),
    ]
)


def attempt(name: str, *nodes: str, known: dict[str, NodePhase] | None, sealed: bool = True) -> Attempt:
    """One that executes these nodes, or everything; that these came so far is known of it, if anything is."""
    states = {one: NodeState(unique_id=one, phase=phase) for one, phase in (known or {}).items()}
    state = AttemptState(graph=GRAPH if known is not None else None, nodes=states)
    kind = AttemptKind.RETRY if nodes else AttemptKind.PRODUCER
    lost = Outcome(phase=RunPhase.FAILED, reason=RunReason.POD_LOST, message="")
    end = Sealed(outcome=lost, state=state, ended_at=datetime(2026, 11, 20, 3, tzinfo=UTC), gone=True)
    return Attempt(
        decision=Decision(index=1, kind=kind, name=name, nodes=frozenset(nodes) or None),
        shown=Shown(created=True),
        log=LogFacts() if sealed else LogFacts(state=state),
        sealed=end if sealed else None,
    )


def shown(*, passed: bool, built_by: str, tested_by: str | None = None) -> Memory:
    """A DbtModel that says how its one test has ended."""
    spec = DbtModelSpec(
        run_name="nightly",
        unique_id=ORDERS,
        name="orders",
        resource_type="model",
        tests=(ModelTest(unique_id=TEST, name="t1"),),
    )
    failing = {"uniqueId": TEST, "name": "t1", "message": "Got 3 results", "failures": 3, "job": tested_by}
    stored = DbtModelStatus.parse(
        {
            "phase": "Succeeded" if passed else "Failed",
            "reason": "Success" if passed else "TestsFailed",
            "attempts": [{"kind": "Producer", "job": built_by, "phase": "Succeeded"}],
            "tests": counts(total=1, passed=int(passed), failed=int(not passed), failing=[] if passed else [failing]),
        }
    )
    assert stored is not None
    return Memory.of([(spec, stored)], graph=None, first_job="producer")


GOOD, BAD = NodePhase.SUCCEEDED, NodePhase.FAILED
BUILT = {ORDERS: GOOD, ITEMS: GOOD}


def test_a_pass_that_no_attempt_before_says_is_of_the_one_that_executed_the_test_by_itself() -> None:
    producer = attempt("producer", known=BUILT | {TEST: BAD})
    retry = attempt("retry", TEST, known=None, sealed=False)
    node = shown(passed=True, built_by="producer").completed([producer, retry])[-1].known.nodes[TEST]
    assert (node.phase, node.status) == (GOOD, "pass")


def test_nor_is_it_of_those_that_executed_the_test_before_it() -> None:
    """Neither of the attempt that built what it reads, whose log is gone as well."""
    producer, first, last = (
        attempt(name, *nodes, known=None, sealed=False)
        for name, nodes in (("producer", ()), ("first", (TEST,)), ("last", (TEST,)))
    )
    memory = replace(shown(passed=True, built_by="producer"), graph=GRAPH)
    states = [each.known for each in memory.completed([producer, first, last])]
    assert states[0].nodes[ORDERS].phase is GOOD
    told = [state.nodes[TEST].phase if TEST in state.nodes else None for state in states]
    assert told == [NodePhase.PENDING, None, GOOD]


def test_a_failure_is_of_the_attempt_that_the_model_names() -> None:
    producer = attempt("producer", known=BUILT | {TEST: BAD})
    retry = attempt("retry", TEST, known=None, sealed=False)
    memory = shown(passed=False, built_by="producer", tested_by="retry")
    node = memory.completed([producer, retry])[-1].known.nodes[TEST]
    assert (node.phase, node.num_failures) == (BAD, 3)
    memory = shown(passed=False, built_by="producer", tested_by="producer")
    assert memory.completed([producer, retry])[-1] == retry


def test_a_pass_is_not_of_an_attempt_that_is_to_build_what_the_test_reads() -> None:
    producer = attempt("producer", known=BUILT | {TEST: BAD})
    retry = attempt("retry", TEST, ITEMS, known=None, sealed=False)
    assert shown(passed=True, built_by="producer").completed([producer, retry])[-1] == retry


@pytest.mark.parametrize("node", [ORDERS, ITEMS])
def test_a_pass_that_was_shown_before_what_the_test_reads_was_built_again_is_over(node: str) -> None:
    producer, again = attempt("producer", known=BUILT | {TEST: GOOD}), attempt("again", node, TEST, known={node: GOOD})
    retry = attempt("retry", TEST, known=None, sealed=False)
    memory = shown(passed=True, built_by="producer")
    assert memory.completed([producer, again, retry])[-1] == retry


def test_a_pass_that_no_attempt_before_has_said_is_of_the_last_one_wherever_it_is_listed() -> None:
    # The test is listed on a node that was not built again, and reads one that was.
    producer = attempt("producer", known=BUILT | {TEST: NodePhase.SKIPPED})
    again = attempt("again", ITEMS, TEST, known={ITEMS: GOOD, TEST: BAD})
    retry = attempt("retry", TEST, known=None, sealed=False)
    found = shown(passed=True, built_by="producer").completed([producer, again, retry])[-1]
    assert found.known.nodes[TEST].phase is NodePhase.SUCCEEDED


def test_the_log_of_a_retry_knows_better_how_its_test_has_ended() -> None:
    producer = attempt("producer", known=BUILT)
    retry = attempt("retry", TEST, known={TEST: BAD}, sealed=False)
    assert shown(passed=True, built_by="producer").completed([producer, retry])[-1] == retry


def test_nothing_is_added_to_what_was_stored_or_never_begun() -> None:
    producer = attempt("producer", known=BUILT | {TEST: BAD})
    memory = shown(passed=True, built_by="producer")
    sealed = attempt("retry", TEST, known={})
    unborn = replace(attempt("retry", TEST, known=None, sealed=False), shown=Shown())
    assert memory.completed([producer, sealed])[-1] == sealed
    assert memory.completed([producer, unborn])[-1] == unborn
