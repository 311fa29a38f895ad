"""The state of an attempt as it is stored once the log may be gone: gzip'd JSON.

Nodes are stored by column, and a column of which every value is the default is left out: thousands of nodes then take
a fraction of the room that rows would need. Those of very many nodes are stored in a denser form, which versions before
it cannot read. A closed state is stored without what only the fold reads.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, get_type_hints

import msgspec

from dbt_operator.api.commands import Command, Mode, WhenTested
from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.dense import Columns, dense, spread
from dbt_operator.dbt.graph import Graph, GraphNode
from dbt_operator.dbt.state import EMPTY, AttemptState, NodeState
from dbt_operator.dbt.values import shorten

# A version that cannot be read by those before it gets another number. A field that they may ignore needs none.
_FORMAT, _DENSE_FORMAT = 1, 2
_MANY = 2000  # nodes, from which on the denser form is taken
_LARGEST = 64 * 1024 * 1024  # decompressed: a small file can hold a thousand times its size
_HINTS = get_type_hints(AttemptState)
_TABLES = frozenset({"nodes", "graph"})
_DERIVED = frozenset({"failures"})  # the nodes whose phase says so
_PLAIN = tuple(one.name for one in fields(AttemptState) if one.name not in _TABLES | _DERIVED)
_DEFAULTS: Mapping[type[msgspec.Struct], Sequence[tuple[str, object]]] = {
    kind: tuple((one.name, one.default) for one in msgspec.structs.fields(kind)) for kind in (NodeState, GraphNode)
}
_Row = TypeVar("_Row", bound=msgspec.Struct)


def encode(state: AttemptState, *, limit: int | None = None) -> bytes:
    """The state as gzip'd JSON; equal states in the same order give the same bytes.

    If that is more than `limit` bytes, more and more is left out, until it fits: messages are cut to 200 bytes; to 40
    bytes, without times and figures; the graph is left out; then all but the first thousand of the nodes that did not
    succeed. The last form is returned whatever its size. No form shows a node or an attempt as better than it was.
    """
    state = replace(state, graph_parts={}, digest_parts={}, held_parts={}) if state.closed is not None else state
    data = _packed(state)
    for poorer in _POORER:
        if limit is None or len(data) <= limit:
            break
        state = poorer(state)
        data = _packed(state)
    return data


def decode(data: bytes) -> AttemptState | None:
    """The state that was stored; None when it cannot be read: damaged, or of a version that came after this one."""
    try:
        return _unpacked(data)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def intact(data: bytes) -> bool:
    """Whether it is what some version of the operator has stored: what cannot be decoded of it came after this one."""
    try:
        return msgspec.json.decode(_unzipped(data), type=_Versioned).format >= _FORMAT
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _packed(state: AttemptState) -> bytes:
    plain = {name: value for name in _PLAIN if (value := getattr(state, name)) != getattr(EMPTY, name)}
    for name, value in plain.items():
        if isinstance(value, dict):
            plain[name] = dict(sorted(value.items()))
    nodes = _columns(NodeState, state.nodes.values())
    graph = None if state.graph is None else _columns(GraphNode, state.graph.nodes.values())
    many = state.graph is not None and len(state.graph.nodes) > _MANY
    if graph is not None and many:
        graph, nodes = dense(graph, nodes)
    document = {
        "format": _DENSE_FORMAT if many else _FORMAT,
        "state": plain,
        "nodes": nodes,
        "graph": graph,
    }
    if state.graph is not None and state.graph.command is not Command.BUILD:
        document["command"] = state.graph.command
    if state.graph is not None and state.graph.tests is not WhenTested.BUILD:
        document["tests"] = state.graph.tests
    if state.graph is not None and state.graph.mode is not Mode.PRODUCER:
        document["mode"] = state.graph.mode
    return gzip.compress(msgspec.json.encode(document), compresslevel=6, mtime=0)  # 9 takes twice as long for 1 %


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    state: dict[str, Any]
    nodes: Columns
    graph: Columns | None
    command: Command = Command.BUILD
    tests: WhenTested = WhenTested.BUILD
    mode: Mode = Mode.PRODUCER


def _unpacked(data: bytes) -> AttemptState | None:
    text = _unzipped(data)
    if msgspec.json.decode(text, type=_Versioned).format not in (_FORMAT, _DENSE_FORMAT):
        return None
    document = _spread(msgspec.json.decode(text, type=_Document))
    nodes = _rows(NodeState, document.nodes)
    if not all(node.phase.known for node in nodes):
        return None
    listed = None if document.graph is None else _by_id(_rows(GraphNode, document.graph))
    graph = None
    if listed is not None:
        graph = Graph(nodes=listed, command=document.command, tests=document.tests, mode=document.mode)
    plain = {
        name: msgspec.convert(document.state[name], _HINTS[name], str_keys=True)
        for name in _PLAIN
        if name in document.state
    }
    failures = frozenset(node.unique_id for node in nodes if node.phase is NodePhase.FAILED)
    return AttemptState(nodes=_by_id(nodes), graph=graph, failures=failures, **plain)


def _spread(document: _Document) -> _Document:
    if document.format != _DENSE_FORMAT:
        return document
    try:
        graph, nodes = spread(document.graph or {}, document.nodes)
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise msgspec.ValidationError("columns that refer to what is not there") from error
    return msgspec.structs.replace(document, graph=graph, nodes=nodes)


def _unzipped(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)  # with the header and checksum of gzip
    text = stream.decompress(data, _LARGEST)
    if not stream.eof:
        raise zlib.error("the data is cut, or too large")
    return text


class _Versioned(msgspec.Struct, frozen=True):
    format: int


def _by_id(rows: Iterable[Any]) -> dict[str, Any]:
    return {row.unique_id: row for row in rows}


def _columns(kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> Columns:
    """The values of these rows by field; null stands for the field's default."""
    rows = list(rows)
    columns: Columns = {}
    for name, default in _DEFAULTS[kind]:
        column = [None if (value := getattr(row, name)) == default else value for row in rows]
        if any(value is not None for value in column):
            columns[name] = column
    return columns


def _rows(kind: type[_Row], columns: Mapping[str, Sequence[object]]) -> list[_Row]:
    names = list(columns)
    try:
        rows = [
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in zip(*columns.values(), strict=True)
        ]
    except ValueError as error:
        raise msgspec.ValidationError("columns of different lengths") from error
    return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]  # a type that is known only at run time


def _short_messages(state: AttemptState) -> AttemptState:
    return _with_nodes(state, lambda node: _short_message(node))


def _short_message(node: NodeState) -> NodeState:
    return msgspec.structs.replace(node, message=shorten(node.message, limit=200), excerpt="")


def _without_figures(state: AttemptState) -> AttemptState:
    return _with_nodes(state, _outline)


def _outline(node: NodeState) -> NodeState:
    return NodeState(
        unique_id=node.unique_id,
        name=node.name,
        resource_type=node.resource_type,
        phase=node.phase,
        status=node.status,
        message=shorten(node.message, limit=40),
        message_authority=node.message_authority,
        num_failures=node.num_failures,
        attached_node=node.attached_node,
        deadline_seconds=node.deadline_seconds,
        materialized=node.materialized,
        package=node.package,
        blocked_by=node.blocked_by,
        cancel_seen=node.cancelled,  # which of the two times came first is decided here, as both are gone
    )


def _with_nodes(state: AttemptState, change: Callable[[NodeState], NodeState]) -> AttemptState:
    return replace(state, nodes={unique_id: change(node) for unique_id, node in state.nodes.items()})


def _without_graph(state: AttemptState) -> AttemptState:
    if state.graph is None:
        return state
    # Which tests a node has is known from the graph. That has to stay: a failed test must count for its node.
    attached = dict(state.attached)
    for unique_id in state.graph.nodes:
        tests = tuple(test.unique_id for test in state.graph.tests_of(unique_id))
        if tests:
            attached[unique_id] = tuple(dict.fromkeys((*attached.get(unique_id, ()), *tests)))
    return replace(state, graph=None, graph_parts={}, attached=attached)


def _without_most_nodes(state: AttemptState) -> AttemptState:
    unsuccessful = (node for node in state.nodes.values() if node.phase is not NodePhase.SUCCEEDED)
    failed_first = sorted(unsuccessful, key=lambda node: node.phase is not NodePhase.FAILED)
    nodes = _by_id(failed_first[:_FEW])
    return replace(state, nodes=nodes, failures=state.failures & nodes.keys(), attached={}, digest_parts={})


_FEW = 1000
_POORER = (_short_messages, _without_figures, _without_graph, _without_most_nodes)
