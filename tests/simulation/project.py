"""A dbt project: its graph, in which order `dbt build` executes it, and how its nodes behave."""

from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from tests.simulation.mix import Mix

TESTS = ("test", "unit_test")


@dataclass(frozen=True)
class Node:
    """One node. `results`: how its executions end, one after the other; the last one stands for all that follow."""

    unique_id: str
    parents: tuple[str, ...] = ()
    attached: str | None = None
    materialized: str = ""
    results: tuple[str, ...] = ("success",)
    by_build: bool = False  # a test: its result depends on how often the tested node was built

    @property
    def kind(self) -> str:
        """The resource type."""
        return self.unique_id.partition(".")[0]

    @property
    def name(self) -> str:
        """The name within the project."""
        return self.unique_id.split(".", 2)[2]


@dataclass(frozen=True)
class Project:
    """The nodes in the order of the runner's listing."""

    nodes: dict[str, Node]
    threads: int
    adapter: str
    fail_fast: bool = False
    end_hooks: int = 0
    # How the hooks end in one attempt after the other, the last one for all that follow.
    start_hook: tuple[bool, ...] = (True,)
    end_hook: tuple[bool, ...] = (True,)
    fatal: str = ""  # kind of an error that ends every attempt while it parses
    lengths: tuple[int, ...] = (1000,)  # how long executions take, in milliseconds
    executed: dict[str, int] = field(default_factory=dict)  # how often each node was executed to an end of its own

    @cached_property
    def executables(self) -> tuple[str, ...]:
        """The nodes that dbt executes and that have a result."""
        return tuple(
            one for one, node in self.nodes.items() if node.kind != "source" and node.materialized != "ephemeral"
        )

    @cached_property
    def parents(self) -> dict[str, tuple[str, ...]]:
        """What each node depends on, with the ephemeral ones replaced by what they are made of."""
        found: dict[str, tuple[str, ...]] = {}

        def contracted(one: str) -> list[str]:
            node = self.nodes[one]
            return [x for p in node.parents for x in (contracted(p) if self._ephemeral(p) else [p])]

        for one in self.nodes:
            found[one] = tuple(dict.fromkeys(contracted(one)))
        return found

    def _ephemeral(self, one: str) -> bool:
        return self.nodes[one].materialized == "ephemeral"

    def tested(self, test: str) -> tuple[str, ...]:
        """The nodes that a test is about: the one it is attached to, else all that it reads."""
        node = self.nodes[test]
        if node.kind == "unit_test":
            return node.parents[:1]
        return (node.attached,) if node.attached else self.parents[test]

    def subjects(self, test: str) -> tuple[str, ...]:
        """The nodes of which one build is what a test is about: all that it reads. A unit test reads no data."""
        return self.tested(test) if self.nodes[test].kind == "unit_test" else self.parents[test]

    @cached_property
    def unit_tests(self) -> dict[str, list[str]]:
        """The unit tests of each model."""
        found: dict[str, list[str]] = {}
        for one, node in self.nodes.items():
            if node.kind == "unit_test":
                found.setdefault(node.parents[0], []).append(one)
        return found

    @cached_property
    def upstream(self) -> dict[str, frozenset[str]]:
        """All that a node reads, directly or not."""
        found: dict[str, frozenset[str]] = {}

        def upstream(one: str) -> frozenset[str]:
            if one not in found:
                parents = self.nodes[one].parents
                found[one] = frozenset(parents).union(*(upstream(parent) for parent in parents))
            return found[one]

        for one in self.nodes:
            upstream(one)
        return found

    def reads(self, one: str, other: str) -> bool:
        """Whether a node reads what another one builds, directly or through what was built from it."""
        by_data = self.nodes[one].kind != "unit_test" and self.nodes[other].kind not in TESTS
        return by_data and other in self.upstream[one]

    @cached_property
    def ahead(self) -> dict[str, frozenset[str]]:
        """All that `dbt build` executes before a node: what is above it, and the tests that hold it back.

        As dbt's `add_test_edges`: a test holds back every node that depends on all that the test reads.
        """
        data_tests = [one for one, node in self.nodes.items() if node.kind == "test"]
        direct = {
            one: set(node.parents)
            | {
                test
                for test in data_tests
                if node.kind not in TESTS
                and self.nodes[test].parents
                and set(self.nodes[test].parents) <= self.upstream[one]
            }
            for one, node in self.nodes.items()
        }
        found: dict[str, frozenset[str]] = {}

        def closure(one: str) -> frozenset[str]:
            if one not in found:
                found[one] = frozenset(direct[one]).union(*(closure(other) for other in direct[one]))
            return found[one]

        for one in self.nodes:
            closure(one)
        return found

    @cached_property
    def needs(self) -> dict[str, frozenset[str]]:
        """Of what is executed, all that has to have succeeded before a node can."""
        able = frozenset(self.executables)
        found = {}
        for one in self.executables:
            ahead = self.ahead[one] | frozenset(self.unit_tests.get(one, ()))
            for other in self.ahead[one]:
                ahead |= frozenset(self.unit_tests.get(other, ()))
            found[one] = (ahead & able) - {one}
        return found

    def result(self, one: str) -> str:
        """How the execution of a node ends that begins now."""
        node = self.nodes[one]
        count = self.executed.get(one, 0)
        if node.by_build:
            count = max((self.executed.get(tested, 0) for tested in self.tested(one)), default=1) - 1
        return node.results[min(max(count, 0), len(node.results) - 1)]


def draw_project(chance: Random, mix: Mix) -> Project:
    """A small project with a few nodes that fail."""
    trouble = chance.choice(mix.trouble)
    nodes: dict[str, Node] = {}
    models: list[str] = []
    if chance.random() < 0.1:
        nodes["source.p.raw"] = Node("source.p.raw")
        models.append("source.p.raw")
    for number in range(chance.randint(*mix.models)):
        kind = "seed" if number == 0 and not models else chance.choice(("model",) * 5 + ("snapshot",))
        one = f"{kind}.p.{'abcdefgh'[number]}"
        drawn = (chance.choice(models) for _ in range(chance.randint(0, mix.parents)))
        parents = tuple(dict.fromkeys(drawn)) if models else ()
        ephemeral = kind == "model" and chance.random() < 0.08
        results = (
            ("success",)
            if ephemeral
            else _results(chance, trouble, ("error", "error", "error", "compile", "partial", "lost", "lost", "silent"))
        )
        materialized = "ephemeral" if ephemeral else chance.choice(("table", "view", "incremental"))
        nodes[one] = Node(one, parents if kind != "seed" else (), materialized=materialized, results=results)
        models.append(one)
    _draw_tests(chance, nodes, [one for one in models if nodes[one].materialized != "ephemeral"], trouble)
    ordered = {one: nodes[one] for one in sorted(nodes)}
    return Project(
        nodes=ordered,
        threads=chance.choice((1, 2, 4)),
        adapter=chance.choice(mix.adapters),
        fail_fast=chance.random() < mix.fail_fast,
        end_hooks=chance.choice((0, 0, 1)),
        start_hook=_hooks(chance),
        end_hook=_hooks(chance),
        fatal=chance.choice(("parse", "selector", "other")) if chance.random() < 0.01 else "",
        lengths=mix.lengths,
    )


def _hooks(chance: Random) -> tuple[bool, ...]:
    return tuple(chance.random() < 0.5 for _ in range(3)) if chance.random() < 0.03 else (True,)


def _draw_tests(chance: Random, nodes: dict[str, Node], models: list[str], trouble: float) -> None:
    for number in range(chance.randint(0, 4)):
        tested = chance.choice(models)
        kind = chance.random()
        if kind < 0.2 and tested.startswith("model."):
            one = f"unit_test.p.{tested.split('.')[2]}.u{number}"
            node = Node(one, (tested,), results=_results(chance, trouble, ("fail", "fail", "error"), good="pass"))
        elif kind < 0.4 and len(models) > 1:
            # A relationship test, attached to one of its two nodes; a singular one is attached to none.
            pair = tuple(chance.sample(models, 2))
            attached = pair[0] if chance.random() < 0.6 else None
            node = Node(f"test.p.rel{number}.00{number}", pair, attached=attached, results=("pass",))
        else:
            node = Node(f"test.p.t{number}.00{number}", (tested,), attached=tested)
        if node.kind == "test":
            results = _results(chance, trouble, ("fail", "fail", "error", "warn"), good="pass")
            by_build = "fail" in results and chance.random() < 0.7
            node = Node(node.unique_id, node.parents, node.attached, results=results, by_build=by_build)
        nodes[node.unique_id] = node


def _results(chance: Random, trouble: float, bad: tuple[str, ...], good: str = "success") -> tuple[str, ...]:
    if chance.random() >= trouble:
        return (good,)
    failures = tuple(chance.choice(bad) for _ in range(chance.choice((1, 1, 2, 3))))
    return failures if chance.random() < 0.2 else (*failures, good)  # a fifth of them never recovers
