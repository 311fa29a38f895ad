"""What the DbtModels of a run remember of an attempt whose log is gone, or has lost its beginning.

The log is the better source, and what was sealed the best. This is for the rest: a pod that was taken away while no
controller was there, and a log so long that the kubelet has rotated its beginning away. What dbt reported and we
stored stays; that it cannot be found any more does not make it untrue.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dbt_operator.api import status
from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.state import AttemptState, NodeState

# dbt's word for what is stored; reasons that are missing here say that dbt had not ended the node.
_WORDS: dict[NodeReason, tuple[NodePhase, str]] = {
    NodeReason.SUCCESS: (NodePhase.SUCCEEDED, "success"),
    NodeReason.WARNED: (NodePhase.SUCCEEDED, "success"),
    NodeReason.TESTS_FAILED: (NodePhase.SUCCEEDED, "success"),  # it was built; its tests are restored with it
    NodeReason.NO_OP: (NodePhase.SUCCEEDED, "no-op"),
    NodeReason.ERROR: (NodePhase.FAILED, "error"),
    NodeReason.PARTIAL_SUCCESS: (NodePhase.FAILED, "partial success"),
    NodeReason.UPSTREAM_FAILED: (NodePhase.SKIPPED, "skipped"),
    NodeReason.FAIL_FAST: (NodePhase.SKIPPED, "skipped"),
    NodeReason.SKIPPED: (NodePhase.SKIPPED, "skipped"),
}


def restored_nodes(*, spec: status.DbtModelSpec, stored: status.DbtModelStatus) -> Iterable[NodeState]:
    """The node of a DbtModel and its tests, as far as its status tells how they ended."""
    word = _WORDS.get(stored.reason) if stored.reason is not None else None
    if word is None or not stored.phase.terminal:
        return
    phase, said = word
    yield NodeState(
        unique_id=spec.unique_id,
        name=spec.name,
        resource_type=spec.resource_type,
        phase=phase,
        status=said,
        message=stored.message or "" if phase is NodePhase.FAILED else "",
        message_authority=0,
        started_at=stored.started_at,
        finished_at=stored.finished_at,
        execution_seconds=stored.execution_seconds,
        rows_affected=stored.rows_affected,
        bytes_processed=stored.bytes_processed,
        job_id=stored.job_id or "",
        relation=spec.relation or "",
        materialized=spec.materialized or "",
        package=spec.package or "",
        path=spec.path or "",
    )
    yield from _tests(spec, stored.tests)


def _tests(spec: status.DbtModelSpec, counts: status.ModelTests | None) -> Iterable[NodeState]:
    if counts is None:
        return
    failing = {test.unique_id: test for test in counts.failing}
    # Which test passed is told only where all did that are not listed as failing; the others are run once more.
    all_ended = counts.passed + counts.warned + len(failing) == counts.total
    warned = counts.warned
    for test in spec.tests:
        failed = failing.get(test.unique_id)
        if failed is None and not all_ended:
            continue
        word = "pass"
        if failed is not None:
            word = "fail" if failed.failures else "error"
        elif warned:
            word, warned = "warn", warned - 1
        yield NodeState(
            unique_id=test.unique_id,
            name=test.name,
            resource_type=test.unique_id.partition(".")[0],
            phase=NodePhase.SUCCEEDED if failed is None else NodePhase.FAILED,
            status=word,
            message=(failed.message or "") if failed is not None else "",
            message_authority=0,
            num_failures=failed.failures if failed is not None else None,
            attached_node=spec.unique_id,
        )


def filled(state: AttemptState, *, nodes: Mapping[str, NodeState], graph: Graph | None) -> AttemptState:
    """The state with what is remembered where it knows less."""
    graph = state.graph if state.graph is not None else graph
    better = {one: node for one, node in nodes.items() if not _ended(state.nodes.get(one))}
    if not better and graph is state.graph:
        return state
    merged = {**state.nodes, **better}
    failures = frozenset(one for one, node in merged.items() if node.phase is NodePhase.FAILED)
    return replace(state, graph=graph, nodes=merged, failures=failures)


def _ended(node: NodeState | None) -> bool:
    return node is not None and node.phase.terminal
