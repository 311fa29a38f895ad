"""Which views may differ between two states, so that only those are computed again."""

from itertools import zip_longest

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.history import History, history_of
from dbt_operator.dbt.node_types import TEST_TYPES
from dbt_operator.dbt.state import EMPTY, AttemptState, NodeState, changed_nodes


def affected(*, before: AttemptState | History, after: AttemptState | History) -> frozenset[str]:
    """The unique_ids of the nodes whose view may differ: rather some too many than one too few."""
    old, new = history_of(before), history_of(after)
    found = _by_attempts(old, new)
    found |= _of_later_stages(old, new, found)
    # The view of an ephemeral model depends on the nodes that contain it.
    return found if new.graph is None else found.union(*(new.graph.order.gates(one) for one in found))


def _by_attempts(old: History, new: History) -> frozenset[str]:
    if len(old.attempts) > len(new.attempts):
        return frozenset(old.unique_ids()) | frozenset(new.unique_ids()) | _listed(new)
    # Attempts are only ever added, at the end.
    pairs = zip_longest(old.attempts, new.attempts, fillvalue=EMPTY)
    found = frozenset().union(*(_affected(before=one, after=other) for one, other in pairs))
    if len(new.attempts) == 1 and old.pending == new.pending:
        return found
    found |= old.pending ^ new.pending
    graph = new.graph
    if graph is None:
        return found
    # A test result no longer counts once its node is built again, and a test that waits again changes what it tests.
    found = found.union(test for one in found for test in graph.tests_about(one))
    return found.union(tested for one in found for tested in graph.tested_nodes(one))


def _of_later_stages(old: History, new: History, found: frozenset[str]) -> frozenset[str]:
    """What no attempt has come to yet is shown by what is above it, and by how the attempt ended that has listed it."""
    if not found or not new.later or new.graph is None:
        return frozenset()
    ended = [each.closed for each in old.attempts] != [each.closed for each in new.attempts]
    tests = new.later if ended else new.later & new.graph.order.needing(*found)
    return tests.union(tested for one in tests for tested in new.graph.tested_nodes(one))


def _listed(history: History) -> frozenset[str]:
    return frozenset(node.unique_id for node in history.graph.model_nodes()) if history.graph else frozenset()


def _affected(*, before: AttemptState, after: AttemptState) -> frozenset[str]:
    if before is after:
        return frozenset()
    if _all_may_differ(before, after):
        return frozenset(after.nodes) | _model_nodes(after) | frozenset(before.nodes)
    changed = changed_nodes(before.nodes, after.nodes)
    found = set(changed)
    for unique_id in changed:
        node = after.nodes.get(unique_id) or before.nodes[unique_id]
        found.update(_touched_by(after, node))
    if before.failures != after.failures:
        # Whether a cancelled query was stopped by fail-fast depends on whether anything has failed.
        found.update(unique_id for unique_id in after.failures if after.nodes[unique_id].cancel_seen)
    found.update(_skipped_below(after, found, [one for one in changed if _stops_others(before, after, one)]))
    return frozenset(found)


def _all_may_differ(before: AttemptState, after: AttemptState) -> bool:
    return (
        before.graph is not after.graph
        or before.closed != after.closed
        or before.cancel_requested != after.cancel_requested
        or before.query_cancelled != after.query_cancelled
        or before.finished != after.finished
        or _hooks(before) != _hooks(after)
        or (after.closed is not None and _facts_of_the_end(before) != _facts_of_the_end(after))
    )


def _facts_of_the_end(state: AttemptState) -> tuple[object, ...]:
    return (state.error, state.executing, state.nothing_selected)


def _hooks(state: AttemptState) -> frozenset[str]:
    return frozenset(unique_id for unique_id in state.failures if unique_id.startswith("operation."))


def _model_nodes(state: AttemptState) -> frozenset[str]:
    return frozenset(node.unique_id for node in state.graph.model_nodes()) if state.graph else frozenset()


def _touched_by(state: AttemptState, node: NodeState) -> set[str]:
    """The nodes on which a test is listed: their counts change with it."""
    if node.resource_type not in TEST_TYPES:
        return set()
    tested = {node.attached_node} if node.attached_node else set()
    if state.graph is not None:
        tested.update(state.graph.tested_nodes(node.unique_id))
    return tested


def _stops_others(before: AttemptState, after: AttemptState, unique_id: str) -> bool:
    """Whether the node has reached a phase for which dbt skips others."""
    old, new = before.nodes.get(unique_id), after.nodes.get(unique_id)
    stopping = new is not None and new.phase in (NodePhase.FAILED, NodePhase.SKIPPED)
    return stopping and (old is None or new is None or old.phase is not new.phase)


def _skipped_below(state: AttemptState, found: set[str], changed: list[str]) -> set[str]:
    """The skipped nodes for which another node may be to blame now."""
    if not changed:
        return set()
    graph = state.graph
    if graph is None:
        return {unique_id for unique_id, node in state.nodes.items() if node.phase is NodePhase.SKIPPED}
    below: set[str] = set()
    stack = list(found)
    while stack:
        for other in graph.order.held_back(stack.pop()):
            node = state.nodes.get(other)
            if other not in below and node is not None and node.phase is NodePhase.SKIPPED:
                below.add(other)
                stack.append(other)
    return below
