"""Walks over edges between nodes: for each node, by unique id, those that its edges lead to."""

from collections.abc import Container, Iterable, Iterator, Mapping

Edges = Mapping[str, tuple[str, ...]]


def nearest(start: str, edges: Edges, wanted: Container[str]) -> Iterator[str]:
    """The first wanted nodes that the edges lead to on each way from `start`."""
    # A stack instead of recursion: chains of such models may be long, and a damaged list may hold a circle.
    stack = list(reversed(edges.get(start, ())))
    visited = {start}
    while stack:
        one = stack.pop()
        if one in visited:
            continue
        visited.add(one)
        if one in wanted:
            yield one
        else:
            stack.extend(reversed(edges.get(one, ())))


def closure(unique_ids: Iterable[str], edges: Edges) -> frozenset[str]:
    """All that the edges lead to from these nodes, directly or not, without the nodes."""
    unique_ids = tuple(unique_ids)
    found: set[str] = set()
    stack = [other for unique_id in unique_ids for other in edges.get(unique_id, ())]
    while stack:
        other = stack.pop()
        if other not in found:
            found.add(other)
            stack.extend(edges.get(other, ()))
    return frozenset(found.difference(unique_ids))


def inverse(edges: Edges) -> dict[str, tuple[str, ...]]:
    """The same edges in the other direction."""
    found: dict[str, list[str]] = {}
    for one, others in edges.items():
        for other in others:
            found.setdefault(other, []).append(one)
    return {other: tuple(ones) for other, ones in found.items()}
