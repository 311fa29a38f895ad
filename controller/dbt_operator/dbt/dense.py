"""A denser form of the columns in which the nodes of an attempt are stored, for thousands of them.

gzip finds again what was said less than 32 KiB before. The columns of ten thousand nodes are longer than that, so that
each name would be stored a dozen times. Here it is stored once: ids that a node refers to become numbers, what the
graph has said of a node already becomes `true`, and where a node's own name is a part of a text there is a mark. Of
times the distances are stored. It is a third of what the columns are otherwise.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

Columns = dict[str, list[Any]]
"""The values of rows by field; None stands for the field's default."""

_MARK = "\x7f"  # in the place of the node's name: no text of a log has this character, see `values.clean`
_MARKED = ("unique_id", "path", "relation")
_REFERRING = ("attached_node", "blocked_by")
_DESCRIBING = ("name", "resource_type", "package", "path", "materialized", "relation", "attached_node")
_TIMES = ("started_at", "finished_at", "ended_ts", "message_ts")
_EPOCH, _UNIT = datetime(2020, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def dense(graph: Columns, nodes: Columns) -> tuple[Columns, Columns]:
    """The denser columns."""
    names = graph.get("name") or []
    place = {unique_id: at for at, unique_id in enumerate(graph.get("unique_id", ()))}
    new_graph = {**graph, **{field: _marked(graph[field], names) for field in _MARKED if field in graph}}
    if "depends_on" in graph:
        new_graph["depends_on"] = [each and [place.get(one, one) for one in each] for each in graph["depends_on"]]
    at = [place.get(unique_id) for unique_id in nodes.get("unique_id", ())]
    new_nodes = {**nodes, "unique_id": list(_steps(nodes.get("unique_id", ()), at))}
    for field in _DESCRIBING:
        if field in nodes and field in graph:
            said = [None if one is None else graph[field][one] for one in at]
            new_nodes[field] = [_same(value, other) for value, other in zip(nodes[field], said, strict=True)]
    for columns in (new_graph, new_nodes):
        for field in (one for one in _REFERRING if one in columns):
            columns[field] = [place.get(one, one) if isinstance(one, str) else one for one in columns[field]]
    return new_graph, new_nodes | _distances(nodes)


def spread(graph: Columns, nodes: Columns) -> tuple[Columns, Columns]:
    """The columns as they were before.

    Raises: AttributeError, IndexError, TypeError, ValueError, OverflowError where they are damaged.
    """
    names = graph.get("name") or []
    graph = {**graph, **{field: _unmarked(graph[field], names) for field in _MARKED if field in graph}}
    ids = graph.get("unique_id", [])
    if "depends_on" in graph:
        graph["depends_on"] = [each and [_id(one, ids) for one in each] for each in graph["depends_on"]]
    for columns in (graph, nodes := dict(nodes)):
        for field in (one for one in _REFERRING if one in columns):
            columns[field] = [_id(one, ids) for one in columns[field]]
    at = list(_places_of_steps(nodes.get("unique_id", ())))
    nodes["unique_id"] = [_id(one, ids) for one in at]
    for field in (one for one in _DESCRIBING if one in nodes and one in graph):
        said = graph[field]
        nodes[field] = [said[one] if value is True else value for value, one in zip(nodes[field], at, strict=True)]
    return graph, nodes | _times(nodes)


def _id(value: Any, ids: list[str]) -> Any:
    return ids[value] if isinstance(value, int) and not isinstance(value, bool) else value


def _same(value: Any, other: Any) -> Any:
    return True if value is not None and value == other else value


def _marked(texts: list[Any], names: list[Any]) -> list[Any]:
    return [text and text.replace(name, _MARK) if name else text for text, name in _pairs(texts, names)]


def _unmarked(texts: list[Any], names: list[Any]) -> list[Any]:
    return [text and text.replace(_MARK, name) if name else text for text, name in _pairs(texts, names)]


def _pairs(texts: list[Any], names: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(texts, names or [None] * len(texts), strict=True)


def _steps(ids: Iterable[str], at: Iterable[int | None]) -> Iterator[str | int]:
    """How much further in the graph each node is than the one before; the id of one that is not there."""
    last = -1
    for unique_id, place in zip(ids, at, strict=True):
        yield unique_id if place is None else place - last
        last = last if place is None else place


def _places_of_steps(steps: Iterable[Any]) -> Iterator[Any]:
    last = -1
    for step in steps:
        if isinstance(step, int):
            last += step
            yield last
        else:
            yield step


def _distances(nodes: Columns) -> Columns:
    """Of each time how many microseconds it is after the one before: of the same node, else of a node before it."""
    fields = [field for field in _TIMES if field in nodes]
    found: Columns = {field: [] for field in fields}
    last = _EPOCH
    for row in zip(*(nodes[field] for field in fields), strict=True):
        for field, value in zip(fields, row, strict=True):
            found[field].append(None if value is None else (value - last) // _UNIT)
            last = last if value is None else value
    return found


def _times(nodes: Columns) -> Columns:
    fields = [field for field in _TIMES if field in nodes]
    found: Columns = {field: [] for field in fields}
    last = _EPOCH
    for row in zip(*(nodes[field] for field in fields), strict=True):
        for field, value in zip(fields, row, strict=True):
            last = last if value is None else last + value * _UNIT
            found[field].append(None if value is None else last)
    return found
