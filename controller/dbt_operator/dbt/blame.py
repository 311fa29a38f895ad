"""Which node was the cause for which dbt skipped another one."""

from dataclasses import replace
from typing import NamedTuple

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import History, Report
from dbt_operator.dbt.state import AttemptState, Ending, NodeState
from dbt_operator.dbt.statuses import STALE

START_HOOK = "on-run-start"


class _Found(NamedTuple):
    """What holds a skipped node back: the nearest node that failed, how far it is away, and all of them."""

    distance: int
    nearest: str | None
    failed: frozenset[str]


_NOTHING = _Found(0, None, frozenset())


def start_hook(state: AttemptState) -> str | None:
    """The on-run-start hook that failed, when one did: dbt then skips every node."""
    hooks = (one for one in state.failures if one.startswith("operation.") and START_HOOK in one)
    return min(hooks, default=None)


class Blame:
    """Answers for one state. Keeps what it found on the way, as skipped nodes share most of their ancestors."""

    def __init__(self, state: AttemptState) -> None:
        self._state = state
        self._known: dict[str, _Found] = {}

    def of(self, unique_id: str) -> str | None:
        """The node that is shown as the cause for which dbt skipped this one; None where that is not certain.

        Of a failed test it is the node that the test is listed on, as that is not fit for use.
        """
        graph = self._state.graph
        if graph is None or unique_id not in graph.nodes:
            return self._only_candidate(unique_id)
        nearest = self._search(graph, unique_id).nearest
        if nearest is None or graph.nodes[nearest].resource_type != "test":
            return nearest
        return next((one for one in graph.tested_nodes(nearest) if graph.has_object(one)), nearest)

    def causes(self, unique_id: str) -> frozenset[str]:
        """All nodes and tests that failed in this attempt and hold the node back; none where that is not known.

        dbt executes it again once all of these have succeeded, and not before.
        """
        graph = self._state.graph
        if graph is None or unique_id not in graph.nodes:
            only = self._only_candidate(unique_id)
            return frozenset() if only is None else frozenset({only})
        return self._search(graph, unique_id).failed

    def _search(self, graph: Graph, unique_id: str) -> _Found:
        # Depth first with a stack of its own: a chain of skipped nodes may be longer than Python's recursion allows.
        stack = [] if unique_id in self._known else [unique_id]
        open_ids = set(stack)
        while stack:
            current = stack[-1]
            skipped = self._skipped(graph, current)
            above = next((one for one in skipped if one not in self._known and one not in open_ids), None)
            if above is not None:
                stack.append(above)
                open_ids.add(above)
                continue
            stack.pop()
            open_ids.discard(current)
            self._known[current] = self._joined(graph, current)
        return self._known[unique_id]

    def _skipped(self, graph: Graph, unique_id: str) -> list[str]:
        """The gates that were skipped themselves. dbt does not report that of an ephemeral model."""
        unreported = (NodePhase.PENDING, None)
        phases = {one: self._phase(one) for one in graph.order.gates(unique_id)}
        return [
            one
            for one, phase in phases.items()
            if phase is NodePhase.SKIPPED or (phase in unreported and graph.nodes[one].ephemeral)
        ]

    def _joined(self, graph: Graph, unique_id: str) -> _Found:
        gates = graph.order.gates(unique_id)
        found = [_Found(1, one, frozenset({one})) for one in gates if self._phase(one) is NodePhase.FAILED]
        skipped = (self._known.get(one, _NOTHING) for one in self._skipped(graph, unique_id))
        found += [each._replace(distance=each.distance + 1) for each in skipped if each.nearest is not None]
        if not found:
            return _NOTHING
        nearest = min(found, key=lambda each: each.distance)
        return nearest._replace(failed=frozenset[str]().union(*(each.failed for each in found)))

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


class Skips:
    """What dbt skipped nodes for, in the attempts whose report of them counts."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._blames: dict[int, Blame] = {}

    def attempt(self, unique_id: str) -> int:
        """The attempt, from 0, in which dbt skipped the node. Raises: KeyError where no attempt mentions it."""
        report = self._history.report(unique_id)
        if report is None:
            raise KeyError(unique_id)
        return report.attempt

    def causes(self, unique_id: str) -> frozenset[str]:
        """The nodes and tests that had failed; none where dbt did not skip the node, or the cause is not known."""
        report = self._history.report(unique_id)
        if report is None:
            return frozenset()
        if report.node.stopped:
            # By itself dbt cancels queries only to fail fast. Otherwise somebody told it to stop.
            by_itself = report.state.closed is not None and report.state.closed.ending is Ending.COMPLETED
            return _failed_first(report.state) if by_itself and not report.state.cancel_requested else frozenset()
        if report.node.phase is not NodePhase.SKIPPED:
            return frozenset()
        if report.node.blocked_by and report.node.status != STALE:  # by the runner, together with all others
            return frozenset(one for one in report.state.failures if one.startswith("source."))
        if skipped_by_fail_fast(report.node):
            return _failed_first(report.state)
        return self._blame(report).causes(unique_id)

    def _blame(self, report: Report) -> Blame:
        found = self._blames.get(report.attempt)
        if found is None:
            graph = report.state.graph or self._history.graph
            found = self._blames[report.attempt] = Blame(replace(report.state, graph=graph))
        return found


def _failed_first(state: AttemptState) -> frozenset[str]:
    """What failed in the attempt, by itself and not because dbt cancelled its query."""
    failed = (one for one in state.failures if not one.startswith("operation."))
    return frozenset(one for one in failed if not state.nodes[one].stopped)
