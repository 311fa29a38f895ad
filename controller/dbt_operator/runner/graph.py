"""The graph of a run: what `ls` selected, with the manifest's knowledge of it, as SelectedNodes events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable

from dbt_operator.runner.arguments import Rules
from dbt_operator.runner.node_settings import settings_of
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


# When a test warns or fails whose project says nothing else: it counts the rows that it finds.
_ANYTHING = "!= 0"


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
    found = hooks_by_kind(manifest=manifest)
    return {"on_run_start": len(found["on-run-start"]), "on_run_end": len(found["on-run-end"])}


def hooks_by_kind(*, manifest: Any) -> dict[str, list[str]]:
    """The unique_ids of the hooks of each kind, in the order in which dbt executes them."""
    nodes = [node for node in manifest.nodes.values() if _word(node.resource_type) == "operation"]
    nodes.sort(key=lambda node: getattr(node, "index", None) or 0)
    # dbt 2 gives them no tags. Their ids say it too: operation.shop.shop-on-run-start-0.
    return {
        kind: [n.unique_id for n in nodes if kind in n.tags or f"-{kind}-" in n.unique_id]
        for kind in ("on-run-start", "on-run-end")
    }


def runnable(*, known: dict[str, Line], selected: Iterable[str], rules: Rules) -> frozenset[str]:
    """Those of the selected nodes that a command executes.

    Of a source only the freshness can be looked at. What has no text at all dbt passes over, although `ls` lists it.
    """
    types = rules.types
    of_types = (one for one in selected if one in known and known[one]["resource_type"] in types)
    found = frozenset(one for one in of_types if known[one].get("freshness", True) and not known[one].get("empty"))
    return found - without_model(known=known, chosen=found) if rules.unit_tests_with_model else found


def without_model(*, known: Mapping[str, Line], chosen: frozenset[str]) -> frozenset[str]:
    """The unit tests without their model among the nodes, which a command never comes to that executes both."""
    tests = (one for one in chosen if known[one]["resource_type"] == "unit_test")
    return frozenset(one for one in tests if chosen.isdisjoint(known[one]["depends_on"][:1]))


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
    settings, problem = settings_of(getattr(config, "meta", None) or getattr(node, "meta", None))
    if settings:
        described["settings"] = settings
    if problem:
        described["settings_ignored"] = problem
    if resource_type in ("test", "unit_test"):
        # A failing unit test is always an error.
        severity = _word(getattr(config, "severity", "")) if resource_type == "test" else ""
        described["severity"] = (severity or "ERROR").upper()
        described["attached_node"] = getattr(node, "attached_node", None)
        for threshold in ("warn_if", "error_if"):
            condition = str(getattr(config, threshold, "") or "")
            if condition not in ("", _ANYTHING):
                described[threshold] = condition
    if resource_type == "source":
        described["freshness"] = bool(getattr(node, "has_freshness", False))
    if getattr(node, "empty", False):
        described["empty"] = True
    return described


def _word(value: Any) -> str:
    return str(getattr(value, "value", value) or "")


def graph_nodes(*, known: dict[str, Line], chosen: Iterable[str]) -> list[Line]:
    """The chosen nodes, the sources and ephemeral models that they read, and what connects them."""
    listed = {unique_id: known[unique_id] for unique_id in sorted(chosen)}

    def read_as_it_is(unique_id: str) -> list[str]:
        # dbt builds no ephemeral model: it is part of the text of its children, whose parents are its parents.
        return [
            one
            for one in known[unique_id]["depends_on"]
            if one in known and (known[one]["materialized"] == "ephemeral" or known[one]["resource_type"] == "source")
        ]

    others = _closure(listed, read_as_it_is) | _connecting(known, frozenset(listed))
    for unique_id in sorted(others - listed.keys()):
        listed[unique_id] = {**known[unique_id], "selected": False}
    return list(listed.values())


def relations_read(*, known: dict[str, Line], chosen: Iterable[str]) -> frozenset[str]:
    """What the chosen nodes read in the database: what an ephemeral model among it reads, in its place."""

    def reads(unique_id: str) -> list[str]:
        return [one for one in known[unique_id]["depends_on"] if one in known]

    def ephemeral(unique_id: str) -> list[str]:
        return [one for one in reads(unique_id) if known[one]["materialized"] == "ephemeral"]

    chosen = frozenset(chosen)
    return frozenset(one for reader in chosen | _closure(chosen, ephemeral) for one in reads(reader))


def _connecting(known: dict[str, Line], chosen: frozenset[str]) -> frozenset[str]:
    """What lies between chosen nodes, or between what a chosen test reads and a chosen node, without being chosen.

    Where b reads a by way of such a node, dbt waits for a, and `build` for the tests of a, before it executes b.
    """

    def reads(unique_id: str) -> list[str]:
        return [one for one in known[unique_id]["depends_on"] if one in known]

    tested = {read for one in chosen if known[one]["resource_type"] in ("test", "unit_test") for read in reads(one)}
    above = _closure(chosen, reads)
    read_by: dict[str, list[str]] = {}
    for unique_id in above | chosen:
        for one in reads(unique_id):
            read_by.setdefault(one, []).append(unique_id)
    return (_closure(chosen | tested, lambda one: read_by.get(one, [])) & above) | tested


def _closure(unique_ids: Iterable[str], edges: Callable[[str], list[str]]) -> frozenset[str]:
    """All that the edges lead to from these nodes, which are only in it where they lead back to them."""
    found: set[str] = set()
    waiting = list(unique_ids)
    while waiting:
        for one in edges(waiting.pop()):
            if one not in found:
                found.add(one)
                waiting.append(one)
    return frozenset(found)


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
