"""Which node stands behind a skipped one."""

from collections.abc import Iterator
from typing import NamedTuple

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.state import AttemptState, NodeState

START_HOOK = "on-run-start"


class _Found(NamedTuple):
    distance: int
    unique_id: str


def start_hook(state: AttemptState) -> str | None:
    """The on-run-start hook that failed, when one did: dbt then skips every node."""
    hooks = (one for one in state.failures if one.startswith("operation.") and START_HOOK in one)
    return min(hooks, default=None)


def blocking(node: NodeState | None) -> bool:
    """Whether this is a test that ended in a way that stops what depends on the tested nodes."""
    return node is not None and node.phase is NodePhase.FAILED


class Blame:
    """Answers for one state, and remembers what it found on the way: skipped nodes share most of their ancestors."""

    def __init__(self, state: AttemptState) -> None:
        self._state = state
        self._known: dict[str, _Found | None] = {}

    def of(self, unique_id: str) -> str | None:
        """The node that really failed and because of which dbt skipped this one; None where that is not certain."""
        graph = self._state.graph
        if graph is not None and unique_id in graph.nodes:
            found = self._search(graph, unique_id)
            if found is not None:
                return found.unique_id
            return self._distant_test(graph, unique_id)
        return self._only_candidate(unique_id)

    def _search(self, graph: Graph, unique_id: str) -> _Found | None:
        # Depth first with a stack of its own: a chain of skipped nodes may be longer than Python's recursion allows.
        stack = [(unique_id, self._skipped_parents(graph, unique_id))]
        open_ids = {unique_id}
        while stack:
            current, pending = stack[-1]
            parent = next((one for one in pending if one not in self._known and one not in open_ids), None)
            if parent is not None:
                stack.append((parent, self._skipped_parents(graph, parent)))
                open_ids.add(parent)
                continue
            stack.pop()
            open_ids.discard(current)
            self._known[current] = self._nearest(graph, current)
        return self._known[unique_id]

    def _skipped_parents(self, graph: Graph, unique_id: str) -> Iterator[str]:
        return iter([one for one in graph.parents(unique_id) if self._phase(one) is NodePhase.SKIPPED])

    def _nearest(self, graph: Graph, unique_id: str) -> _Found | None:
        unit_test = self._failed_unit_test(graph, unique_id)
        if unit_test is not None:
            return _Found(0, unit_test)
        candidates = (self._through(graph, unique_id, parent) for parent in graph.parents(unique_id))
        return min(filter(None, candidates), key=lambda found: found.distance, default=None)

    def _through(self, graph: Graph, unique_id: str, parent: str) -> _Found | None:
        phase = self._phase(parent)
        if phase is NodePhase.FAILED:
            return _Found(1, parent)
        if phase is NodePhase.SKIPPED:
            found = self._known.get(parent)
            return _Found(found.distance + 1, found.unique_id) if found else None
        tests = [test.unique_id for test in graph.tests_of(parent) if blocking(self._state.nodes.get(test.unique_id))]
        return _Found(1, parent) if any(self._blocks(graph, test, unique_id) for test in tests) else None

    def _failed_unit_test(self, graph: Graph, unique_id: str) -> str | None:
        for test in graph.tests_of(unique_id):
            if test.resource_type == "unit_test" and blocking(self._state.nodes.get(test.unique_id)):
                return test.unique_id
        return None

    def _blocks(self, graph: Graph, test: str, unique_id: str) -> bool:
        # dbt lets a test of several nodes hold back only what depends on all of them.
        if unique_id == test or unique_id.startswith(("test.", "unit_test.")):
            return False
        tested = graph.parents(test)
        return len(tested) == 1 or set(tested) <= graph.ancestors(unique_id)

    def _distant_test(self, graph: Graph, unique_id: str) -> str | None:
        """A failed test of several nodes, none of whose other children are held back by it."""
        for test in sorted(self._state.failures):
            if not test.startswith("test.") or test not in graph.nodes or not self._blocks(graph, test, unique_id):
                continue
            if set(graph.parents(test)) <= graph.ancestors(unique_id):
                return next(iter(graph.tested_nodes(test)), test)
        return None

    def _only_candidate(self, unique_id: str) -> str | None:
        """Without a graph: the one node that had failed before this one was skipped, if it was the only one."""
        node = self._state.nodes.get(unique_id)
        if node is None or node.ended_ts is None:
            return None
        suspects = set()
        for suspect in self._state.failures:
            failed = self._state.nodes[suspect]
            if failed.resource_type in ("operation", "source"):
                continue
            if failed.ended_ts is None:
                return None
            if failed.ended_ts <= node.ended_ts:
                suspects.add(failed.attached_node or suspect)
                if len(suspects) > 1:
                    return None
        return next(iter(suspects), None)

    def _phase(self, unique_id: str) -> NodePhase | None:
        node = self._state.nodes.get(unique_id)
        return node.phase if node else None


def skipped_by_fail_fast(node: NodeState) -> bool:
    """Whether dbt gave fail-fast as the reason of a skip."""
    return node.status in ("skipped", "skip") and ("fail_fast" in node.message or "fail-fast" in node.message)
