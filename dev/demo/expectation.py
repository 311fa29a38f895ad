"""How the runs of the demo have to end. No input or output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbt_operator.local.picture import Picture, essence, graph_order


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a run has to end. Every node that is not named has to succeed."""

    phase: str
    failed: Mapping[str, str] = field(default_factory=dict)
    """Nodes that fail, and what their error text has to say."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Nodes that are skipped, and the node that kept them from being executed."""


def differences(picture: Picture, *, expected: Expectation) -> list[str]:
    """What is not as expected, as sentences; empty when all is."""
    run, found = picture.run, []
    if run.phase != expected.phase:
        found.append(
            f"The run {run.name} is {run.phase}, not {expected.phase}: {run.message or 'it does not say why.'}"
        )
    if not picture.nodes:
        found.append(f"The run {run.name} has no DbtModels.")
    names = {node.name for node in picture.nodes.values()}
    found += [f"There is no DbtModel of {name}." for name in sorted({*expected.failed, *expected.blocked} - names)]
    return found + list(_node_differences(picture, expected=expected))


def _node_differences(picture: Picture, *, expected: Expectation) -> Iterable[str]:
    for node in graph_order(picture.nodes):
        wanted = (
            "Failed" if node.name in expected.failed else "Skipped" if node.name in expected.blocked else "Succeeded"
        )
        if node.phase != wanted:
            yield f"{node.name} is {node.phase}, not {wanted}: {essence(node.message) or 'it does not say why.'}"
        elif node.phase == "Failed" and expected.failed[node.name] not in node.message:
            yield f"The message of {node.name} does not contain {expected.failed[node.name]!r}: {node.message!r}"
        elif node.phase == "Skipped" and picture.name_of(node.blocked_by) != expected.blocked[node.name]:
            culprit = picture.name_of(node.blocked_by) or "nothing"
            yield f"{node.name} is blocked by {culprit}, not by {expected.blocked[node.name]}."
