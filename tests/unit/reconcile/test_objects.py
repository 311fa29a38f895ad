"""What DbtModels are made of a graph, and what they show."""

from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import AttemptState, NodeState
from dbt_operator.dbt.view import node_view
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.objects import model_spec, model_status

RUN = RunRef(namespace="data", name="nightly", uid="u1", labels={})
RAW, STAGED, ORDERS, ITEMS = "seed.shop.raw", "model.shop.staged", "model.shop.orders", "model.shop.items"
FUNCTION = "function.shop.rounded"
OWN, RELATION = "test.shop.not_null.1", "test.shop.relationships.2"
SINGULAR, UNIT = "test.shop.totals_agree", "unit_test.shop.orders.counts"

GRAPH = Graph.of(
    [
        GraphNode(unique_id=RAW, resource_type="seed"),
        GraphNode(unique_id=STAGED, resource_type="model", materialized="ephemeral", depends_on=(RAW,)),
        GraphNode(unique_id=ORDERS, resource_type="model", materialized="table", depends_on=(STAGED,)),
        GraphNode(unique_id=ITEMS, resource_type="model", materialized="view", depends_on=(ORDERS, FUNCTION)),
        GraphNode(unique_id=FUNCTION, resource_type="function"),
        GraphNode(unique_id=OWN, resource_type="test", attached_node=ORDERS, depends_on=(ORDERS,), severity="warn"),
        GraphNode(unique_id=RELATION, resource_type="test", attached_node=ITEMS, depends_on=(RAW, ITEMS)),
        GraphNode(unique_id=SINGULAR, resource_type="test", depends_on=(ORDERS, ITEMS)),
        GraphNode(unique_id=UNIT, resource_type="unit_test", depends_on=(ORDERS, RAW)),
    ]
)


def test_nodes_that_are_only_here_for_their_tests_have_models_and_tests_of_nothing_too() -> None:
    inlined, elsewhere, source = "model.shop.inlined", "model.shop.elsewhere", "source.shop.raw.events"
    tests = [
        GraphNode(unique_id="test.shop.of_inlined", resource_type="test", attached_node=inlined, depends_on=(inlined,)),
        GraphNode(
            unique_id="test.shop.of_elsewhere",
            resource_type="test",
            attached_node=elsewhere,
            depends_on=(elsewhere, ORDERS),
        ),
        GraphNode(unique_id="test.shop.of_source", resource_type="test", depends_on=(source,)),
        GraphNode(unique_id="test.shop.of_nothing", resource_type="test"),
    ]
    graph = Graph.of(
        [
            GraphNode(unique_id=source, resource_type="source", selected=False),
            GraphNode(unique_id=inlined, resource_type="model", materialized="ephemeral", depends_on=(source,)),
            GraphNode(unique_id=elsewhere, resource_type="model", selected=False),
            GraphNode(unique_id=ORDERS, resource_type="model", depends_on=(inlined,)),
            *tests,
        ]
    )
    specs = [model_spec(run=RUN, node=node, graph=graph) for node in graph.model_nodes()]
    assert {spec.unique_id: spec.selected for spec in specs} == {
        source: False,
        elsewhere: False,
        inlined: None,
        ORDERS: None,
        "test.shop.of_nothing": None,
    }


def test_a_model_tells_what_else_its_tests_read() -> None:
    spec = model_spec(run=RUN, node=GRAPH.nodes[ITEMS], graph=GRAPH)
    assert {test.unique_id: test.depends_on for test in spec.tests} == {RELATION: (RAW,), SINGULAR: (ORDERS,)}
    spec = model_spec(run=RUN, node=GRAPH.nodes[ORDERS], graph=GRAPH)
    assert {test.unique_id: test.depends_on for test in spec.tests} == {OWN: (), SINGULAR: (ITEMS,), UNIT: (RAW,)}


def test_a_test_that_failed_names_the_job_that_executed_it_last() -> None:
    built = {RAW: NodePhase.SUCCEEDED, ORDERS: NodePhase.SUCCEEDED, OWN: NodePhase.FAILED, SINGULAR: NodePhase.FAILED}
    history = History(attempts=(_state(built), _state({OWN: NodePhase.FAILED})))
    jobs = [(AttemptKind.PRODUCER, "nightly-producer-1"), (AttemptKind.RETRY, "nightly-retry-1")]
    view = node_view(state=history, unique_id=ORDERS)
    status = model_status(view=view, tried=[], jobs=jobs, handled_retry=None)
    assert status.tests is not None
    assert {test.unique_id: test.job for test in status.tests.failing} == {
        OWN: "nightly-retry-1",
        SINGULAR: "nightly-producer-1",
    }


def test_what_tests_have_found_is_told_with_its_threshold_and_where_it_is_kept() -> None:
    found = {
        OWN: ("warn", NodePhase.SUCCEEDED, "Got 2 results, configured to warn if >0", '"db"."audit"."not_null"'),
        SINGULAR: ("fail", NodePhase.FAILED, "Got 3 results, configured to fail if >1", '"db"."audit"."agree"'),
        UNIT: ("pass", NodePhase.SUCCEEDED, "", ""),
    }
    nodes = {
        one: NodeState(
            unique_id=one,
            name=one.split(".")[2],
            resource_type=one.partition(".")[0],
            phase=phase,
            status=status,
            message=message,
            num_failures=int(message[4:5] or 0),
            relation=relation,
        )
        for one, (status, phase, message, relation) in found.items()
    }
    nodes |= {one: NodeState(unique_id=one, phase=NodePhase.SUCCEEDED, status="success") for one in (ORDERS, ITEMS)}
    history = History(attempts=(AttemptState(graph=GRAPH, nodes=nodes),))
    jobs = [(AttemptKind.PRODUCER, "nightly-producer-1")]
    shown = {
        one: model_status(view=node_view(state=history, unique_id=one), tried=[], jobs=jobs, handled_retry=None)
        for one in (ORDERS, ITEMS)
    }
    tests = shown[ORDERS].tests
    assert tests is not None
    assert [(each.failures, each.relation) for each in tests.failing] == [(3, '"db"."audit"."agree"')]
    assert [(each.message, each.failures, each.relation) for each in tests.warning] == [
        ("Got 2 results, configured to warn if >0", 2, '"db"."audit"."not_null"')
    ]
    # The test of both is counted on each of them.
    assert [(one.phase, one.tests.failed if one.tests else 0) for one in shown.values()] == [(NodePhase.FAILED, 1)] * 2


def test_a_node_whose_tests_only_warned_says_which_and_is_not_red() -> None:
    message = "Got 2 results, configured to warn if >0"
    nodes = {
        ORDERS: NodeState(unique_id=ORDERS, phase=NodePhase.SUCCEEDED, status="success"),
        OWN: NodeState(unique_id=OWN, name="not_null", phase=NodePhase.SUCCEEDED, status="warn", message=message),
        SINGULAR: NodeState(unique_id=SINGULAR, phase=NodePhase.SUCCEEDED, status="pass"),
    }
    view = node_view(state=History(attempts=(AttemptState(graph=GRAPH, nodes=nodes),)), unique_id=ORDERS)
    assert (view.phase, view.reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)
    assert view.message == f"1 of 3 tests warned: not_null ({message})"


def _state(phases: dict[str, NodePhase]) -> AttemptState:
    nodes = {one: NodeState(unique_id=one, phase=phase, status="fail") for one, phase in phases.items()}
    return AttemptState(graph=GRAPH, nodes=nodes)
