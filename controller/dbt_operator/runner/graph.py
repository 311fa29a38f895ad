"""The graph of a run: what `ls` selected, with the manifest's knowledge of it, as SelectedNodes events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from dbt_operator.runner.output import LARGEST_LINE, Line, size

# Room for the envelope around the nodes of one line.
_ROOM = LARGEST_LINE - 512
_COLLECTIONS = (
    "nodes",
    "sources",
    "unit_tests",
    "exposures",
    "saved_queries",
    "functions",
    "metrics",
    "semantic_models",
)


def selected_ids(*, listed: Iterable[Any]) -> list[str]:
    """The unique ids in what `ls --output json --output-keys unique_id` returned."""
    return [json.loads(line)["unique_id"] for line in listed]


def known_nodes(*, manifest: Any) -> dict[str, Line]:
    """What the manifest knows of each node that can have a result."""
    known = {unique_id: describe(node=node) for unique_id, node in _all_nodes(manifest)}
    return {
        unique_id: node
        for unique_id, node in known.items()
        if node["resource_type"] not in ("metric", "semantic_model")
    }


def _all_nodes(manifest: Any) -> Iterator[Any]:
    for collection in _COLLECTIONS:
        yield from (getattr(manifest, collection, None) or {}).items()


def hooks(*, manifest: Any) -> dict[str, int]:
    """How many hooks of each kind the project has, with those of its packages."""
    tags = [tag for node in manifest.nodes.values() if _word(node.resource_type) == "operation" for tag in node.tags]
    return {"on_run_start": tags.count("on-run-start"), "on_run_end": tags.count("on-run-end")}


def runnable(*, known: dict[str, Line], selected: Iterable[str], types: frozenset[str]) -> frozenset[str]:
    """Those of the selected nodes that a command for these types executes."""
    return frozenset(one for one in selected if one in known and known[one]["resource_type"] in types)


def describe(*, node: Any) -> Line:
    """One node of the manifest in the form of SelectedNodes."""
    config = getattr(node, "config", None)
    resource_type = _word(node.resource_type)
    described = {
        "unique_id": node.unique_id,
        "name": node.name,
        "resource_type": resource_type,
        "package": node.package_name,
        "path": getattr(node, "original_file_path", "") or "",
        "materialized": _word(getattr(config, "materialized", "")),
        "relation": getattr(node, "relation_name", None),
        "tags": list(getattr(node, "tags", None) or ()),
        "depends_on": list(getattr(getattr(node, "depends_on", None), "nodes", None) or ()),
        "fqn": list(getattr(node, "fqn", None) or ()),
    }
    if resource_type in ("test", "unit_test"):
        # A failing unit test is always an error.
        severity = _word(getattr(config, "severity", "")) if resource_type == "test" else ""
        described["severity"] = (severity or "ERROR").upper()
        described["attached_node"] = getattr(node, "attached_node", None)
    if resource_type == "source":
        described["freshness"] = bool(getattr(node, "has_freshness", False))
    return described


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")


def graph_nodes(*, known: dict[str, Line], chosen: Iterable[str]) -> list[Line]:
    """The chosen nodes, and the ephemeral models and sources among their ancestors."""
    listed = {unique_id: known[unique_id] for unique_id in sorted(chosen)}
    waiting = list(listed)
    while waiting:
        for parent in known[waiting.pop()]["depends_on"]:
            node = known.get(parent)
            if node is None or parent in listed:
                continue
            # dbt builds no ephemeral model: it is part of the text of its children, whose parents are its parents.
            ephemeral = node["materialized"] == "ephemeral"
            if ephemeral or node["resource_type"] == "source":
                listed[parent] = {**node, "selected": False}
                waiting.append(parent)
    return list(listed.values())


def parts(*, items: Iterable[Line], key: str, split: Callable[[Line], Iterator[Line]] | None = None) -> list[Line]:
    """The data of events that list these items, as many in each as fit into a line."""
    pages: list[list[Line]] = [[]]
    room = _ROOM
    total = 0
    for item in items:
        total += 1
        for piece in split(item) if split is not None and size(item) > _ROOM else (item,):
            cost = size(piece)
            if cost > room and pages[-1]:
                pages.append([])
                room = _ROOM
            pages[-1].append(piece)
            room -= cost
    return [{"part": at, "parts": len(pages), "total": total, key: page} for at, page in enumerate(pages, start=1)]


def split_node(node: Line) -> Iterator[Line]:
    """A node too large for a line as several entries with parts of its lists: a reader takes their union."""
    small = {**node, "tags": [], "depends_on": []}
    lists = [(key, value) for key in ("depends_on", "tags") for value in node[key]]
    page: dict[str, list[str]] = {"depends_on": [], "tags": []}
    room = _ROOM - size(small)
    for key, value in lists:
        if size(value) > room and any(page.values()):
            yield {**small, **page}
            page = {"depends_on": [], "tags": []}
            room = _ROOM - size(small)
        page[key].append(value)
        room -= size(value)
    yield {**small, **page}
