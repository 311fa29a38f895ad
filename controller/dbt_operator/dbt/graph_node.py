"""One node of the graph of a run, as dbt describes it."""

from collections.abc import Container
from typing import Any

import msgspec

from dbt_operator.dbt.node_types import TEST_TYPES, NodeType, node_type


def is_test(unique_id: str) -> bool:
    """Whether the node is a test, by the id alone: dbt's ids begin with the resource type."""
    return unique_id.partition(".")[0] in TEST_TYPES


Resources = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Requests and limits by these words, with the amounts by the names of the resources, all in the order of the names."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the project says of a node for the operator, as the runner has understood it.

    retry: fields of spec.retry, as they stand there. Its deadline the runner keeps to by itself.
    """

    retry: dict[str, Any] = {}
    resources: Resources = ()


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node, in dbt's terms."""

    unique_id: str
    name: str = ""
    resource_type: str = ""
    package: str = ""
    path: str = ""
    materialized: str = ""
    relation: str | None = None
    tags: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    fqn: tuple[str, ...] = ()
    severity: str = ""
    warn_if: str = ""  # the condition for the number of rows that a test finds; "": any row
    error_if: str = ""
    attached_node: str | None = None
    freshness: bool = False
    selected: bool = True
    overrides: tuple[int, ...] = ()  # the items of spec.nodes, from 0, that are about it
    settings: NodeSettings | None = None
    settings_ignored: str = ""  # what is wrong with what the project says of it for the operator

    @property
    def ephemeral(self) -> bool:
        """Whether the node is compiled into others and has no relation of its own."""
        return self.resource_type == "model" and self.materialized == "ephemeral"

    @property
    def without_data(self) -> bool:
        """Whether the node is a query and nothing else: whoever reads it reads what it reads."""
        return self.resource_type == "model" and self.materialized in ("ephemeral", "view")

    @property
    def type(self) -> NodeType:
        """The row of the table of types."""
        return node_type(self.resource_type)

    @property
    def executed(self) -> bool:
        """Whether the run executes the node, and an attempt can be asked to execute it alone."""
        return self.selected and self.type.executed

    @property
    def built(self) -> bool:
        """Whether the run builds it: others read something else afterwards. Nobody reads an ephemeral model."""
        return self.executed and self.type.built and not self.ephemeral

    @property
    def test(self) -> bool:
        """Whether the node is a test of another one."""
        return self.resource_type in TEST_TYPES

    def merged(self, other: "GraphNode") -> "GraphNode":
        """This node with the lists of another entry of the same node: long lists are split over several entries."""
        return msgspec.structs.replace(
            self,
            depends_on=_union(self.depends_on, other.depends_on),
            tags=_union(self.tags, other.tags),
        )


def unit_tested(node: GraphNode, listed: Container[str]) -> tuple[str, ...]:
    """The model of a unit test, if that is listed."""
    # unit_test.<package>.<model>.<name>: the id names the model. Mocked inputs may be listed after it.
    known = [unique_id for unique_id in node.depends_on if unique_id in listed]
    model = node.unique_id.split(".")[2:3]
    named = [unique_id for unique_id in known if unique_id.split(".")[2:3] == model]
    return tuple((named or known)[:1])


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
