"""Which items of the run's `nodes` are about which nodes: the operator decides by what is said here of each node."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from dbt_operator.runner.output import Line

_FIELDS: Mapping[str, Callable[[Line], Iterable[str]]] = {
    "name": lambda node: (node["name"],),
    "tag": lambda node: node["tags"],
    "package": lambda node: (node["package"],),
    "path": lambda node: (node["path"],),
    "resourceType": lambda node: (node["resource_type"],),
}


@dataclass(frozen=True)
class Override:
    """One item: its criteria, each of which is a pattern for each of some fields, and the deadline of the nodes."""

    select: tuple[Mapping[str, re.Pattern[str]], ...]
    deadline_seconds: float | None = None

    def selects(self, node: Line) -> bool:
        """Whether the node meets one of the criteria."""
        return any(
            all(any(pattern.match(text) for text in _FIELDS[field](node)) for field, pattern in criterion.items())
            for criterion in self.select
        )


def parse_overrides(text: str) -> tuple[Override, ...]:
    """The items of the operator's argument, in their order."""
    items = json.loads(text) if text else []
    return tuple(
        Override(
            select=tuple(
                {field: re.compile(fnmatch.translate(pattern)) for field, pattern in criterion.items()}
                for criterion in item["select"]
            ),
            deadline_seconds=item.get("activeDeadlineSeconds"),
        )
        for item in items
    )


def with_overrides(*, known: dict[str, Line], overrides: Sequence[Override]) -> dict[str, Line]:
    """The nodes, each with the places of the items that are about it, and with what the project says of it.

    What is said of a node is said of its tests too, as far as it is not said of the test itself.
    """
    own = {one: [at for at, item in enumerate(overrides) if item.selects(node)] for one, node in known.items()}
    marked = {}
    for unique_id, node in known.items():
        tested = [known[one] for one in _tested(node) if one in known]
        found = sorted({at for one in (node, *tested) for at in own[one["unique_id"]]})
        settings: Line = {}
        for one in (*reversed(tested), node):
            settings.update(one.get("settings", {}))
        added = {"overrides": found, "settings": settings}
        marked[unique_id] = {**node, **{key: value for key, value in added.items() if value}}
    return marked


def deadlines(*, nodes: Iterable[Line], overrides: Sequence[Override]) -> dict[str, float]:
    """How long which of the nodes may take, in seconds.

    A later item of `nodes` goes before those before it, and all of them before what the project says.
    """
    found = {}
    for node in nodes:
        said = [node.get("settings", {}).get("timeout")]
        said += [overrides[at].deadline_seconds for at in node.get("overrides", ())]
        seconds = [each for each in said if each is not None]
        if seconds:
            found[node["unique_id"]] = seconds[-1]
    return found


def _tested(node: Line) -> Iterable[str]:
    """The nodes that a test is listed on; of a unit test its model, which comes first."""
    if node["resource_type"] == "unit_test":
        yield from node["depends_on"][:1]
    elif node["resource_type"] == "test":
        yield from (node["attached_node"],) if node["attached_node"] else node["depends_on"]
