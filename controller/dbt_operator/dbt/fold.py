"""Folding events into the state of an attempt. Pure, and safe to repeat.

Lines arrive twice after a reconnect, out of order between dbt's threads, or not at all. So each fact has a rule for
which of two reports wins, however often and however late they are read: a node's phase only moves forward, a gap is
filled and never overwritten, the text with more authority wins.
"""

from collections.abc import Iterable
from dataclasses import replace

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt import node_folding
from dbt_operator.dbt.decoding import Event, decode
from dbt_operator.dbt.folding import Folding
from dbt_operator.dbt.state import EMPTY, AttemptState, Closed, Ending

__all__ = ["EMPTY", "AttemptState", "Ending", "close", "fold", "fold_lines"]


def fold(*, state: AttemptState, events: Iterable[Event]) -> AttemptState:
    """The state after these events."""
    folding = Folding(state)
    for event in events:
        folding.take(event)
    return folding.result()


def fold_lines(*, state: AttemptState, lines: Iterable[bytes]) -> AttemptState:
    """The state after these lines; those that are no events are counted as ignored."""
    folding = Folding(state)
    for line in lines:
        event = decode(line)
        if event is not None:
            folding.take(event)
        elif line.strip():
            folding.ignore()
    return folding.result()


def close(*, state: AttemptState, ending: Ending) -> AttemptState:
    """The state once the container has ended and its log was read to the end.

    The runner's digest of all results fills in the nodes whose own result line was lost. The others stay as dbt
    reported them; the view calls them lost or cancelled.
    """
    nodes = dict(state.nodes)
    for entries in state.digest_parts.values():
        for entry in entries:
            known = nodes.get(entry.unique_id) or node_folding.new_node(entry.unique_id, graph=state.graph)
            nodes[entry.unique_id] = node_folding.recorded(known, entry)
    failures = frozenset(unique_id for unique_id, node in nodes.items() if node.phase is NodePhase.FAILED)
    return replace(state, nodes=nodes, failures=failures, closed=Closed(ending=ending))
