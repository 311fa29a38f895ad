"""What DbtModels are made of a graph, and what they show."""

from dbt_operator.api.phases import AttemptKind, NodePhase
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


def _state(phases: dict[str, NodePhase]) -> AttemptState:
    nodes = {one: NodeState(unique_id=one, phase=phase, status="fail") for one, phase in phases.items()}
    return AttemptState(graph=GRAPH, nodes=nodes)
