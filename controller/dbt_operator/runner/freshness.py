"""Which sources the nodes of a build read, and what is not executed because of those that are stale."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dbt_operator.runner import selection
from dbt_operator.runner.arguments import Argument, Command, asking, take_apart
from dbt_operator.runner.output import Line

WARN, SKIP_STALE, FAIL = MODES = ("Warn", "SkipStale", "Fail")
ANY, ALL = STALE_PARENTS = ("Any", "All")
# Not a word of dbt's: of a source that dbt calls "error" where that is no failure of the run, and of a node that is
# not executed because of such a source. Where it is one, the node is skipped as those below a failure are.
STALE, SKIPPED = "stale", "skipped"
TOO_OLD, UNREADABLE = FAILURES = ("error", "runtime error")
EVENTS = frozenset(("LogStartLine", "NodeFinished"))
_WORDS = ("source", "freshness")


class Held(NamedTuple):
    """A node that is not executed: because of which source, and what it is called for that."""

    source: str
    status: str


def words(mode: str) -> dict[str, str]:
    """What a status of dbt's is called in this mode: to be too old makes the run fail in one of them only."""
    return {} if mode == FAIL else {TOO_OLD: STALE}


def with_freshness(node: Line) -> bool:
    """Whether it is a source that dbt can look at."""
    return bool(node.get("freshness"))


def sources_of(*, known: Mapping[str, Line], nodes: Iterable[str]) -> frozenset[str]:
    """The sources with freshness that the nodes read, also through views and ephemeral models.

    A table between them that is not among the nodes stays as it is: what is read is that table.
    """
    nodes = frozenset(nodes)
    found: set[str] = set()
    seen, stack = set(nodes), list(nodes)
    while stack:
        for one in _parents(known, stack.pop()):
            if with_freshness(known[one]):
                found.add(one)
            elif one not in seen and _without_data(known[one]):
                seen.add(one)
                stack.append(one)
    return frozenset(found)


def among(*, known: Mapping[str, Line], wanted: Iterable[str]) -> frozenset[str]:
    """The sources among the wanted nodes."""
    return frozenset(one for one in wanted if known[one]["resource_type"] == "source")


def question(*, cli: Any, command: Command, state: Path, environ: Mapping[str, str]) -> Command:
    """`dbt source freshness` of the sources in the state, with the arguments that it shares with the command.

    It comes to its end whatever it finds.
    """
    alike = take_apart(cli=cli, args=(*_WORDS, *asking(cli=cli, command=command, other=_WORDS)))
    kept = [one for one in alike.arguments if one.parameter not in ("fail_fast", "write_json", "output")]
    added = [Argument(parameter="fail_fast", option="--no-fail-fast", tokens=("--no-fail-fast",))]
    added.append(Argument(parameter="write_json", option="--no-write-json", tokens=("--no-write-json",)))
    asked = replace(alike, arguments=(*kept, *added))
    return selection.selecting(cli=cli, command=asked, state=state, environ=environ)


@contextlib.contextmanager
def without_hooks(manifest: Any) -> Iterator[None]:
    """Have dbt execute no hooks: those of the project belong to the command, and run once."""
    nodes = manifest.nodes
    hooks = {key: node for key, node in nodes.items() if key.startswith("operation.")}
    for key in hooks:
        del nodes[key]
    try:
        yield
    finally:
        nodes.update(hooks)


def with_all(
    *, results: Iterable[Line], sources: Iterable[str], known: Mapping[str, Line], mode: str
) -> dict[str, Line]:
    """The results by source, in the words of the mode. One of which dbt says nothing was not read."""
    found = {one["unique_id"]: {**one, "status": words(mode).get(one["status"], one["status"])} for one in results}
    return {one: found.get(one) or _without_result(one, known[one]) for one in sorted(sources)}


def _without_result(unique_id: str, node: Line) -> Line:
    if not with_freshness(node):  # the project was corrected
        return {"unique_id": unique_id, "status": "no-op", "message": "It has no freshness any more."}
    message = "dbt ended without a word about its freshness."
    return {"unique_id": unique_id, "status": UNREADABLE, "message": message}


def held_back(
    *, known: Mapping[str, Line], nodes: Iterable[str], statuses: Mapping[str, str], mode: str, parents: str
) -> dict[str, Held]:
    """The nodes that are not executed, given the statuses of the sources.

    Fail: none is, unless all sources could be read and are young enough. SkipStale: those below a stale source are not.
    """
    nodes = frozenset(nodes)
    if mode == FAIL:
        bad = {one: status == TOO_OLD for one, status in statuses.items() if status in (TOO_OLD, UNREADABLE)}
        if not bad:
            return {}
        first = next((one for one in sorted(bad) if bad[one]), min(bad))
        below = _below(known, nodes, bad, every=False)
        return {one: Held(below.get(one, first), SKIPPED) for one in sorted(nodes)}
    stale = [one for one, status in statuses.items() if status == STALE]
    if mode != SKIP_STALE or not stale:
        return {}
    return {one: Held(source, STALE) for one, source in _below(known, nodes, stale, every=parents == ALL).items()}


def entries(*, held: Mapping[str, Held]) -> list[Line]:
    """The nodes that are not executed, as HeldBack lists them."""
    return [{"unique_id": one, "blocked_by": why.source, "status": why.status} for one, why in held.items()]


def skipped(*, held: Mapping[str, Held]) -> list[Line]:
    """The same nodes as results."""
    return [{"unique_id": one, "status": why.status} for one, why in held.items()]


def _below(known: Mapping[str, Line], nodes: frozenset[str], bad: Iterable[str], *, every: bool) -> dict[str, str]:
    """The nodes below the bad sources, and one of these for each.

    every: a node is below them only if all of its parents are.
    """
    found: dict[str, str] = {one: one for one in bad}
    done = set(found)
    for start in sorted(nodes):
        stack = [start]
        while stack:
            one = stack[-1]
            parents = _parents(known, one)
            above = [each for each in parents if each not in done and (each in nodes or _without_data(known[each]))]
            if above:
                stack += above
                continue
            stack.pop()
            hit = [found[each] for each in parents if each in found]
            whole = len(hit) == len(parents) or known[one].get("attached_node") in found
            if hit and one not in done and (whole or not every):
                found[one] = hit[0]
            done.add(one)
    return {one: found[one] for one in sorted(nodes) if one in found}


def _parents(known: Mapping[str, Line], unique_id: str) -> list[str]:
    node = known[unique_id]
    # A unit test reads no data. It is executed with its model, the first that it names.
    read = node["depends_on"][:1] if node["resource_type"] == "unit_test" else node["depends_on"]
    return [one for one in dict.fromkeys(read) if one in known]


def _without_data(node: Line) -> bool:
    return node["resource_type"] == "model" and node["materialized"] in ("ephemeral", "view")
