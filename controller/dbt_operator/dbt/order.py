"""What holds what back while a command executes the nodes of a graph: its structure, read by the command's rules."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from dbt_operator.api.commands import CommandRules
from dbt_operator.dbt.edges import Edges, closure, inverse, nearest
from dbt_operator.dbt.graph_node import GraphNode, unit_tested


class Order:
    """The order of one command. `reads`, `read_by`: what each node depends on, of these nodes, and the inverse."""

    def __init__(self, nodes: Mapping[str, GraphNode], *, reads: Edges, read_by: Edges, rules: CommandRules) -> None:
        self._nodes, self._reads, self._read_by, self._rules = nodes, reads, read_by, rules
        # A source holds back nothing by itself: the runner decides what is not executed because of it.
        self._executables = tuple(
            one for one, node in nodes.items() if node.executed and node.resource_type != "source"
        )

    def gates(self, unique_id: str) -> tuple[str, ...]:
        """The executed nodes that have to succeed before dbt executes this one.

        These are its parents; and where tests hold back, its own unit tests and every test all of whose nodes it
        depends on. dbt adds these edges to the graph of the whole project, and only then selects. So they also lead
        through nodes that are not selected (`Linker.add_test_edges`, `get_subset_graph`).
        """
        return self._gates.get(unique_id, ())

    def needs(self, unique_id: str) -> tuple[str, ...]:
        """The gates of a node; and for a unit test its model, where dbt executes it with that alone."""
        node = self._nodes.get(unique_id)
        if node is None or node.resource_type != "unit_test" or not self._rules.tests_hold_back:
            return self.gates(unique_id)
        model = (one for one in unit_tested(node, self._nodes) if one in self._gates)
        return tuple(dict.fromkeys((*self.gates(unique_id), *model)))

    def built_before(self, unique_id: str) -> tuple[str, ...]:
        """The nodes, without tests, that have to be built before this one, or for the tests that hold it back."""
        return self._built_before.get(unique_id, ())

    def held_back(self, unique_id: str) -> tuple[str, ...]:
        """The nodes that have this one as a gate."""
        return self._gated.get(unique_id, ())

    def needing(self, *unique_ids: str) -> frozenset[str]:
        """What dbt does not execute once one of these nodes has failed: what needs it, directly or not."""
        return closure(unique_ids, self._needed_by)

    @cached_property
    def _gates(self) -> dict[str, tuple[str, ...]]:
        edges = {one: list(reads) for one, reads in self._reads.items()}
        for test in self._executables if self._rules.tests_hold_back else ():
            for held_back in self._held_back_by(self._nodes[test]):
                edges[held_back].append(test)
        for test in self._executables if self._rules.tests_hold_back else ():
            if self._nodes[test].resource_type == "unit_test":  # executed right before its model, if that is
                models = [one for one in unit_tested(self._nodes[test], self._nodes) if one in edges]
                edges[test] = [one for model in models for one in edges[model] if not one.startswith("unit_test.")]
        ordered = {one: tuple(found) for one, found in edges.items()}
        executables = frozenset(self._executables)
        selected = (
            one for one, node in self._nodes.items() if node.selected
        )  # dbt skips exposures below a failure too
        return {one: tuple(nearest(one, ordered, executables)) for one in selected}

    @cached_property
    def _gated(self) -> dict[str, tuple[str, ...]]:
        return inverse(self._gates)

    @cached_property
    def _built_before(self) -> dict[str, tuple[str, ...]]:
        return {one: self._builds(one) for one in self._executables if not self._nodes[one].test}

    def _builds(self, unique_id: str) -> tuple[str, ...]:
        needs = self.needs(unique_id)
        through = (one for need in needs if self._nodes[need].test for one in self.needs(need))
        found = dict.fromkeys((*needs, *through))
        return tuple(one for one in found if not self._nodes[one].test and one != unique_id)

    @cached_property
    def _needed_by(self) -> dict[str, tuple[str, ...]]:
        return inverse({one: self.needs(one) for one in self._executables})

    def _held_back_by(self, test: GraphNode) -> Iterable[str]:
        """The nodes that are not executed before this test has passed; none for a node that is no test."""
        if test.resource_type == "unit_test":
            return unit_tested(test, self._nodes)
        reads = self._reads[test.unique_id] if test.test else ()
        # A node that is not listed has no listed node below it, so none depends on all that the test depends on.
        if not reads or len(reads) < len(frozenset(test.depends_on)):
            return ()
        if len(reads) == 1:  # the nodes directly below hold back those further down
            return (child for child in self._read_by.get(reads[0], ()) if not self._nodes[child].test)
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
            if one in seen or self._nodes[one].test:
                continue
            seen.add(one)
            if wanted & ~self._above[one]:
                stack.extend(self._read_by.get(one, ()))
            else:
                yield one

    @cached_property
    def _bits(self) -> dict[str, int]:
        return {unique_id: 1 << number for number, unique_id in enumerate(self._nodes)}

    @cached_property
    def _above(self) -> dict[str, int]:
        """What each node depends on, as a set of bits: thousands of such sets are cheap to join and to compare."""
        above: dict[str, int] = {}
        for start in self._nodes:
            path = {} if start in above else {start: None}  # a damaged graph may hold a circle
            while path:
                one = next(reversed(path))
                missing = next((p for p in self._reads[one] if p not in above and p not in path), None)
                if missing is not None:
                    path[missing] = None
                else:
                    above[one] = self._joined(one, above)
                    del path[one]
        return above

    def _joined(self, unique_id: str, above: Mapping[str, int]) -> int:
        joined = 0
        for parent in self._reads[unique_id]:
            joined |= self._bits[parent] | above.get(parent, 0)
        return joined
