"""The graph of a run: the selected nodes and how they depend on each other, as dbt itself resolved them."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dbt_operator.api.commands import Command, CommandRules, Mode, WhenTested
from dbt_operator.dbt.edges import closure, inverse, nearest
from dbt_operator.dbt.graph_node import GraphNode, is_test, unit_tested
from dbt_operator.dbt.node_types import Shown
from dbt_operator.dbt.order import Order

__all__ = ["Graph", "GraphNode", "is_test"]


@dataclass(frozen=True)
class Graph:
    """The nodes in the order of the listing, the command that selected them, and the questions asked about them."""

    nodes: Mapping[str, GraphNode] = field(default_factory=dict)
    command: Command = Command.BUILD
    tests: WhenTested = WhenTested.BUILD
    mode: Mode = Mode.PRODUCER

    @classmethod
    def of(
        cls,
        nodes: Iterable[GraphNode],
        *,
        command: Command = Command.BUILD,
        tests: WhenTested = WhenTested.BUILD,
        mode: Mode = Mode.PRODUCER,
    ) -> "Graph":
        """The graph of these entries; several entries of one node are merged."""
        merged: dict[str, GraphNode] = {}
        for node in nodes:
            known = merged.get(node.unique_id)
            merged[node.unique_id] = node if known is None else known.merged(node)
        return cls(nodes=merged, command=command, tests=tests, mode=mode)

    @property
    def rules(self) -> CommandRules:
        """What the command does to the nodes."""
        return self.command.rules_for(self.tests, self.mode)

    def parents(self, unique_id: str) -> tuple[str, ...]:
        """What the node reads, of this run: what is neither selected nor has an object is replaced by its parents."""
        return tuple(nearest(unique_id, self._reads, self._of_the_run))

    def reads(self, unique_id: str) -> tuple[str, ...]:
        """The listed nodes that its SQL refers to."""
        return self._reads.get(unique_id, ())

    def ancestors(self, *unique_ids: str) -> frozenset[str]:
        """Everything that one of these nodes depends on, directly or not, without the nodes."""
        return closure(unique_ids, self._reads)

    def executables(self) -> tuple[str, ...]:
        """The selected nodes that dbt executes, tests included."""
        return self._executables

    @cached_property
    def executed(self) -> frozenset[str]:
        """The same as a set."""
        return frozenset(self._executables)

    def later(self) -> frozenset[str]:
        """Those of them that dbt executes in a later stage than the one in which it has listed them."""
        return self._later

    @cached_property
    def order(self) -> Order:
        """What holds what back while the command executes the nodes."""
        return Order(self.nodes, reads=self._reads, read_by=self._read_by, rules=self.rules)

    @cached_property
    def parts(self) -> dict[Hashable, Sequence[Sequence[str]]]:
        """Into which parts it was divided so far, by what was asked for: kept here as long as the graph is the same."""
        return {}

    def descendants(self, *unique_ids: str) -> frozenset[str]:
        """Everything that depends on one of these nodes, directly or not, tests included, without the nodes."""
        return closure(unique_ids, self._read_by)

    def tested_nodes(self, unique_id: str) -> tuple[str, ...]:
        """The nodes on which a test is listed: the one it is attached to in YAML, else all that it reads.

        What it reads and the command would execute, but was not selected, has the test only where there is nothing
        else.
        """
        node = self.nodes.get(unique_id)
        if node is None or not node.test:
            return ()
        if node.attached_node:
            return (node.attached_node,)
        if node.resource_type == "unit_test":
            return unit_tested(node, self.nodes)
        read = self.reads(unique_id)
        executes = self.rules.executes
        here = (one for one in read if self.nodes[one].selected or self.nodes[one].resource_type not in executes)
        return tuple(here) or read

    def relations(self) -> tuple[str, ...]:
        """The selected nodes that dbt builds, each after all that it reads.

        Without tests and ephemeral models, and without what reads itself in a damaged graph.
        """
        return self._relations

    def sources(self, unique_id: str) -> tuple[str, ...]:
        """The relations of the run that one is built from.

        Also through models that are no data of their own, ephemeral ones and views. A table that the run does not build
        stays as it is, whatever becomes of what it was built from.
        """
        return self._sources.get(unique_id, ())

    def built_from(self, *unique_ids: str) -> frozenset[str]:
        """The relations of the run that are built from one of these, directly or through others."""
        return closure(unique_ids, self._built_from)

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

    @cached_property
    def wrongly_set(self) -> tuple[GraphNode, ...]:
        """The nodes of which the project says something to the operator that is wrong."""
        return tuple(node for node in self.nodes.values() if node.settings_ignored)

    def model_nodes(self) -> tuple[GraphNode, ...]:
        """The nodes that become objects of their own, before anything is known of their end."""
        return tuple(self._model_nodes.values())

    def has_object(self, unique_id: str) -> bool:
        """Whether the node is one of `model_nodes`."""
        return unique_id in self._model_nodes

    def listed_elsewhere(self, test: str) -> bool:
        """Whether the test is listed on a node that has an object for it, so that it needs none of its own."""
        tested = (self.nodes.get(one) for one in self.tested_nodes(test))
        return any(node is not None and node.type.shown is Shown.SELECTED for node in tested)

    @cached_property
    def _model_nodes(self) -> dict[str, GraphNode]:
        return {unique_id: node for unique_id, node in self.nodes.items() if self._is_model_node(node)}

    def _is_model_node(self, node: GraphNode) -> bool:
        match node.type.shown:
            case Shown.SELECTED:
                return node.selected or bool(self.tests_of(node.unique_id))
            case Shown.UNLISTED:
                return node.selected and not self.listed_elsewhere(node.unique_id)
            case _:
                return False

    @cached_property
    def _reads(self) -> dict[str, tuple[str, ...]]:
        if not self.rules.parents_first:
            return dict.fromkeys(self.nodes, ())  # what is read is not of this run
        return {
            unique_id: tuple(one for one in dict.fromkeys(node.depends_on) if one in self.nodes and one != unique_id)
            for unique_id, node in self.nodes.items()
        }

    @cached_property
    def _read_by(self) -> dict[str, tuple[str, ...]]:
        return inverse(self._reads)

    @cached_property
    def _of_the_run(self) -> frozenset[str]:
        own = (one for one, node in self.nodes.items() if node.selected or node.resource_type == "source")
        return frozenset((*own, *self._model_nodes))

    @cached_property
    def _subjects(self) -> dict[str, tuple[str, ...]]:
        relations = frozenset(one for one, node in self.nodes.items() if node.type.built and not node.ephemeral)
        tests = (one for one, node in self.nodes.items() if node.test)
        return {one: tuple(nearest(one, self._reads, relations)) for one in tests}

    @cached_property
    def _tests_about(self) -> dict[str, tuple[str, ...]]:
        tests = [one for one, node in self.nodes.items() if node.test and node.selected]
        return inverse({test: tuple(dict.fromkeys((*self.subjects(test), *self._ephemerals(test)))) for test in tests})

    def _ephemerals(self, test: str) -> Iterator[str]:
        return (one for one in self.reads(test) if self.nodes[one].ephemeral)

    @cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        built = frozenset(one for one, node in self.nodes.items() if node.built)
        passing = {one: reads for one, reads in self._reads.items() if one in built or self.nodes[one].without_data}
        return {one: tuple(nearest(one, passing, built)) for one in built}

    @cached_property
    def _built_from(self) -> dict[str, tuple[str, ...]]:
        return inverse(self._sources)

    @cached_property
    def _relations(self) -> tuple[str, ...]:
        missing = {one: len(sources) for one, sources in self._sources.items()}
        below = self._built_from
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
    def _later(self) -> frozenset[str]:
        stages = self.rules.stages
        if not stages:
            return frozenset()
        now = stages[0].rules.executes
        return frozenset(one for one in self._executables if self.nodes[one].resource_type not in now)
