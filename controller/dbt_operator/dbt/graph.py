"""The graph of a run: the selected nodes and how they depend on each other, as dbt itself resolved them."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from dbt_operator.dbt.node_types import LISTING, TEST_TYPES, NodeType, Shown, node_type


def is_test(unique_id: str) -> bool:
    """Whether the node is a test, by the id alone: dbt's ids begin with the resource type."""
    return unique_id.partition(".")[0] in TEST_TYPES


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
    attached_node: str | None = None
    freshness: bool = False
    selected: bool = True

    @property
    def ephemeral(self) -> bool:
        """Whether the node is compiled into others and has no relation of its own."""
        return self.resource_type == "model" and self.materialized == "ephemeral"

    @property
    def type(self) -> NodeType:
        """The row of the table of types."""
        return node_type(self.resource_type)

    @property
    def executed(self) -> bool:
        """Whether an attempt can be asked to execute the node by itself, and the run does."""
        return self.selected and self.type.executed

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


@dataclass(frozen=True)
class Graph:
    """The nodes in the order of the listing, and the questions asked about them."""

    nodes: Mapping[str, GraphNode] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[GraphNode]) -> "Graph":
        """The graph of these entries; several entries of one node are merged."""
        merged: dict[str, GraphNode] = {}
        for node in nodes:
            known = merged.get(node.unique_id)
            merged[node.unique_id] = node if known is None else known.merged(node)
        return cls(nodes=merged)

    def parents(self, unique_id: str) -> tuple[str, ...]:
        """What the node is made of, of this run: what is not selected is replaced by its own parents."""
        return self._parents.get(unique_id, ())

    def reads(self, unique_id: str) -> tuple[str, ...]:
        """What the node depends on, as its SQL says it, of what is listed."""
        return self._reads.get(unique_id, ())

    def ancestors(self, *unique_ids: str) -> frozenset[str]:
        """Everything that one of these nodes depends on, directly or not, without the nodes."""
        return self._closure(unique_ids, self._reads)

    def executables(self) -> tuple[str, ...]:
        """The selected nodes that dbt executes, tests included."""
        return self._executables

    def gates(self, unique_id: str) -> tuple[str, ...]:
        """What has to succeed before `dbt build` executes the node, of what it executes itself.

        These are its parents, its own unit tests, and every test all of whose nodes it depends on: a failed test holds
        back what is built from the tested nodes. dbt makes these edges of the whole project before it leaves out what
        is not selected, so they also lead through nodes that are not (`Linker.add_test_edges`, `get_subset_graph`).
        """
        return self._gates.get(unique_id, ())

    def needs(self, unique_id: str) -> tuple[str, ...]:
        """The gates of a node; and for a unit test its model, with which alone dbt executes it."""
        node = self.nodes.get(unique_id)
        if node is None or node.resource_type != "unit_test":
            return self.gates(unique_id)
        model = (one for one in self._unit_tested(node) if one in self._gates)
        return tuple(dict.fromkeys((*self.gates(unique_id), *model)))

    def held_back(self, unique_id: str) -> tuple[str, ...]:
        """The nodes that have this one as a gate."""
        return self._gated.get(unique_id, ())

    def needing(self, *unique_ids: str) -> frozenset[str]:
        """What `dbt build` does not execute once one of these nodes has failed: what needs it, directly or not."""
        return self._closure(unique_ids, self._needed_by)

    def descendants(self, *unique_ids: str) -> frozenset[str]:
        """Everything that depends on one of these nodes, directly or not, tests included, without the nodes."""
        return self._closure(unique_ids, self._read_by)

    def tested_nodes(self, unique_id: str) -> tuple[str, ...]:
        """The nodes on which a test is listed: the one it is attached to in YAML, else all that it reads.

        What it reads and dbt would execute, but was not selected, has the test only where there is nothing else.
        """
        node = self.nodes.get(unique_id)
        if node is None or not node.test:
            return ()
        if node.attached_node:
            return (node.attached_node,)
        if node.resource_type == "unit_test":
            return self._unit_tested(node)
        read = self.reads(unique_id)
        here = (one for one in read if self.nodes[one].selected or not self.nodes[one].type.executed)
        return tuple(here) or read

    def relations(self) -> tuple[str, ...]:
        """The selected nodes that dbt builds something of, each after all that it reads.

        Without tests and ephemeral models, and without what reads itself in a damaged graph.
        """
        return self._relations

    def sources(self, unique_id: str) -> tuple[str, ...]:
        """The relations of the run that one of them is built from; what is between them is built into it, or stays."""
        return self._sources.get(unique_id, ())

    def tests_of(self, unique_id: str) -> tuple[GraphNode, ...]:
        """The selected tests that are listed on the node."""
        return self._tests.get(unique_id, ())

    def subjects(self, test: str) -> tuple[str, ...]:
        """The relations of which one build is what the test is about: all that it reads. A unit test reads no data.

        An ephemeral model is none: what a test of it reads are the relations that the model is made of.
        """
        return self.tested_nodes(test) if test.startswith("unit_test.") else self._subjects.get(test, ())

    def tests_about(self, unique_id: str) -> tuple[str, ...]:
        """The selected tests that are about a build of the node; those of an ephemeral model are about it too."""
        return self._tests_about.get(unique_id, ())

    def model_nodes(self) -> tuple[GraphNode, ...]:
        """The nodes that become objects of their own, before anything is known of their end."""
        return tuple(self._model_nodes.values())

    def has_object(self, unique_id: str) -> bool:
        """Whether the node is one of `model_nodes`."""
        return unique_id in self._model_nodes

    def listed_elsewhere(self, test: str) -> bool:
        """Whether the test is listed on a node that has an object for it, so that it needs none of its own."""
        tested = (self.nodes.get(one) for one in self.tested_nodes(test))
        return any(node is not None and node.type.shown in LISTING for node in tested)

    def objects_needed(self, unique_id: str) -> tuple[str, ...]:
        """The parents as `parents` has them, with what is not selected in its place where that becomes an object."""
        return tuple(self._nearest(unique_id, self._reads, self._of_the_run | self._model_nodes.keys()))

    def _unit_tested(self, node: GraphNode) -> tuple[str, ...]:
        # unit_test.<package>.<model>.<name>: the id names the model; inputs that are mocked may be listed after it.
        known = [unique_id for unique_id in node.depends_on if unique_id in self.nodes]
        model = node.unique_id.split(".")[2:3]
        named = [unique_id for unique_id in known if unique_id.split(".")[2:3] == model]
        return tuple((named or known)[:1])

    @cached_property
    def _model_nodes(self) -> dict[str, GraphNode]:
        return {unique_id: node for unique_id, node in self.nodes.items() if self._is_model_node(node)}

    def _is_model_node(self, node: GraphNode) -> bool:
        match node.type.shown:
            case Shown.SELECTED:
                return node.selected or bool(self.tests_of(node.unique_id))
            case Shown.REPORTED:
                return bool(self.tests_of(node.unique_id))
            case Shown.UNLISTED:
                return node.selected and not self.listed_elsewhere(node.unique_id)
            case _:
                return False

    @cached_property
    def _reads(self) -> dict[str, tuple[str, ...]]:
        return {
            unique_id: tuple(one for one in dict.fromkeys(node.depends_on) if one in self.nodes and one != unique_id)
            for unique_id, node in self.nodes.items()
        }

    @cached_property
    def _read_by(self) -> dict[str, tuple[str, ...]]:
        return _inverse(self._reads)

    @cached_property
    def _parents(self) -> dict[str, tuple[str, ...]]:
        return {one: tuple(self._nearest(one, self._reads, self._of_the_run)) for one in self.nodes}

    @cached_property
    def _of_the_run(self) -> frozenset[str]:
        return frozenset(one for one, node in self.nodes.items() if node.selected or node.resource_type == "source")

    @cached_property
    def _subjects(self) -> dict[str, tuple[str, ...]]:
        relations = frozenset(one for one, node in self.nodes.items() if not node.ephemeral)
        tests = (one for one, node in self.nodes.items() if node.test)
        return {one: tuple(self._nearest(one, self._reads, relations)) for one in tests}

    @cached_property
    def _tests_about(self) -> dict[str, tuple[str, ...]]:
        tests = [one for one, node in self.nodes.items() if node.test and node.selected]
        return _inverse({test: tuple(dict.fromkeys((*self.subjects(test), *self._ephemerals(test)))) for test in tests})

    def _ephemerals(self, test: str) -> Iterator[str]:
        return (one for one in self.reads(test) if self.nodes[one].ephemeral)

    def _nearest(self, start: str, edges: Mapping[str, tuple[str, ...]], wanted: Container[str]) -> Iterator[str]:
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

    @cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        built = frozenset(
            one for one in self._executables if not self.nodes[one].test and not self.nodes[one].ephemeral
        )
        return {one: tuple(self._nearest(one, self._reads, built)) for one in built}

    @cached_property
    def _relations(self) -> tuple[str, ...]:
        missing = {one: len(sources) for one, sources in self._sources.items()}
        below = _inverse(self._sources)
        ready = [one for one in self._executables if missing.get(one) == 0]
        for one in ready:  # grows as it goes
            for other in below.get(one, ()):
                missing[other] -= 1
                if not missing[other]:
                    ready.append(other)
        return tuple(ready)

    @cached_property
    def _tests(self) -> dict[str, tuple[GraphNode, ...]]:
        tests: dict[str, list[GraphNode]] = {}
        for node in self.nodes.values():
            if node.test and node.selected:
                for tested in self.tested_nodes(node.unique_id):
                    tests.setdefault(tested, []).append(node)
        return {unique_id: tuple(found) for unique_id, found in tests.items()}

    @cached_property
    def _executables(self) -> tuple[str, ...]:
        return tuple(node.unique_id for node in self.nodes.values() if node.executed)

    @cached_property
    def _gates(self) -> dict[str, tuple[str, ...]]:
        edges = {one: list(reads) for one, reads in self._reads.items()}
        for test in self._executables:
            for held_back in self._held_back_by(self.nodes[test]):
                edges[held_back].append(test)
        for test in self._executables:
            if self.nodes[test].resource_type == "unit_test":  # executed right before its model, if that is
                models = [one for one in self._unit_tested(self.nodes[test]) if one in edges]
                edges[test] = [one for model in models for one in edges[model] if not one.startswith("unit_test.")]
        ordered = {one: tuple(found) for one, found in edges.items()}
        executables = frozenset(self._executables)
        selected = (one for one, node in self.nodes.items() if node.selected)  # dbt skips exposures below a failure too
        return {one: tuple(self._nearest(one, ordered, executables)) for one in selected}

    @cached_property
    def _gated(self) -> dict[str, tuple[str, ...]]:
        return _inverse(self._gates)

    @cached_property
    def _needed_by(self) -> dict[str, tuple[str, ...]]:
        return _inverse({one: self.needs(one) for one in self._executables})

    def _held_back_by(self, test: GraphNode) -> Iterable[str]:
        """The nodes that are not executed before this test has passed; none for a node that is no test."""
        if test.resource_type == "unit_test":
            return self._unit_tested(test)
        reads = self.reads(test.unique_id) if test.test else ()
        # What is not listed is above nothing that is: no listed node depends on all that the test depends on.
        if not reads or len(reads) < len(frozenset(test.depends_on)):
            return ()
        if len(reads) == 1:  # what is further down is held back by what is directly below
            return (child for child in self._read_by.get(reads[0], ()) if not self.nodes[child].test)
        return self._first_below_all(reads)

    def _first_below_all(self, unique_ids: tuple[str, ...]) -> Iterator[str]:
        """The nodes that depend on all of these and are the first to do so on their way down."""
        wanted = 0
        for unique_id in unique_ids:
            wanted |= self._bits[unique_id]
        seen: set[str] = set()
        stack = list(self._read_by.get(unique_ids[0], ()))
        while stack:
            one = stack.pop()
            if one in seen or self.nodes[one].test:
                continue
            seen.add(one)
            if wanted & ~self._above[one]:
                stack.extend(self._read_by.get(one, ()))
            else:
                yield one

    @cached_property
    def _bits(self) -> dict[str, int]:
        return {unique_id: 1 << number for number, unique_id in enumerate(self.nodes)}

    @cached_property
    def _above(self) -> dict[str, int]:
        """What each node depends on, as a set of bits: thousands of such sets are cheap to join and to compare."""
        above: dict[str, int] = {}
        for start in self.nodes:
            path = {} if start in above else {start: None}  # a damaged graph may hold a circle: it is not gone round
            while path:
                one = next(reversed(path))
                missing = next((p for p in self.reads(one) if p not in above and p not in path), None)
                if missing is not None:
                    path[missing] = None
                else:
                    above[one] = self._joined(one, above)
                    del path[one]
        return above

    def _joined(self, unique_id: str, above: Mapping[str, int]) -> int:
        joined = 0
        for parent in self.reads(unique_id):
            joined |= self._bits[parent] | above.get(parent, 0)
        return joined

    def _closure(self, unique_ids: Iterable[str], edges: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
        found: set[str] = set()
        stack = [other for unique_id in unique_ids for other in edges.get(unique_id, ())]
        while stack:
            other = stack.pop()
            if other not in found:
                found.add(other)
                stack.extend(edges.get(other, ()))
        return frozenset(found.difference(unique_ids))


def _inverse(edges: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for one, others in edges.items():
        for other in others:
            found.setdefault(other, []).append(one)
    return {other: tuple(ones) for other, ones in found.items()}


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
