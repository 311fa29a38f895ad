"""A dbt project: its graph, in which order a dbt command executes it, and how its nodes behave."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random

from dbt_operator.api.commands import Command, Mode, WhenTested
from dbt_operator.runner import freshness
from dbt_operator.runner.freshness import FAIL, SKIP_STALE, WARN, Held
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
    selected: bool = True
    overrides: tuple[int, ...] = ()  # the items of spec.nodes that are about it
    folder: str = ""  # that its file is in, and its tag

    @property
    def kind(self) -> str:
        """The resource type."""
        return self.unique_id.partition(".")[0]

    @property
    def ephemeral(self) -> bool:
        """Whether it has no relation of its own, and is part of what reads it."""
        return self.materialized == "ephemeral"

    @property
    def without_data(self) -> bool:
        """Whether it is a query and nothing else: whoever reads it reads what it reads."""
        return self.kind == "model" and self.materialized in ("ephemeral", "view")

    @property
    def name(self) -> str:
        """The name within the project."""
        return self.unique_id.split(".", 2)[2]


@dataclass(frozen=True)
class Project:
    """The nodes in the order of the runner's listing."""

    nodes: dict[str, Node]  # those selected that the command executes, and others that they are made of or about
    threads: int
    adapter: str
    command: Command = Command.BUILD
    tests: WhenTested = WhenTested.BUILD
    mode: Mode = Mode.PRODUCER
    without_dbt: frozenset[str] = frozenset()  # what is executed so, with the mode Async
    fail_fast: bool = False
    by_flag: bool = False  # the project itself asks for fail-fast, so that the operator does not know of it
    end_hooks: int = 0
    # How the hooks end in one attempt after the other, the last one for all that follow.
    start_hook: tuple[bool, ...] = (True,)
    end_hook: tuple[bool, ...] = (True,)
    hook_skips: bool = False  # whether dbt executes nothing after a hook at the start that failed
    fatal: str = ""  # kind of an error that ends every attempt while it parses
    lengths: tuple[int, ...] = (1000,)  # how long executions take, in milliseconds
    # Sources, and what is found of them where stale ones are passed over; else they have results, as all nodes.
    looked_at: dict[str, str] = field(default_factory=dict)
    freshness: str = SKIP_STALE
    stale_parents: str = "Any"
    executed: dict[str, int] = field(default_factory=dict)  # how often each node was executed to an end of its own

    @cached_property
    def executables(self) -> tuple[str, ...]:
        """The nodes that dbt executes; sources among them where they fail, and are retried, by themselves."""
        sources = self.looked_at if self.freshness != SKIP_STALE else ()
        return (*sources, *(one for one in self.selected if one not in self.passed_over))

    @cached_property
    def selected(self) -> tuple[str, ...]:
        """The nodes that dbt selects."""
        return tuple(one for one, node in self.nodes.items() if node.kind != "source" and node.selected)

    @cached_property
    def passed_over(self) -> frozenset[str]:
        """What of these is not executed as a source is stale."""
        if self.freshness != SKIP_STALE:
            return frozenset()
        return frozenset(self.held_back(self.selected, self.looked_at))

    def held_back(self, nodes: Iterable[str], statuses: Mapping[str, str]) -> dict[str, Held]:
        """What of the nodes the runner does not execute when it finds this of sources."""
        known = {
            one: {
                "resource_type": node.kind,
                "materialized": node.materialized,
                "depends_on": list(node.parents),
                "attached_node": node.attached,
            }
            for one, node in self.nodes.items()
        }
        mode, parents = self.freshness, self.stale_parents
        return freshness.held_back(known=known, nodes=nodes, statuses=statuses, mode=mode, parents=parents)

    @property
    def partial(self) -> bool:
        """Whether nodes that are not selected lie between tests and what these hold back."""
        return self.interleaved and not all(node.selected for node in self.nodes.values())

    @property
    def interleaved(self) -> bool:
        """Whether models and tests are executed by one command, so that tests hold back, and unit tests come along."""
        return self.command.rules_for(self.tests).tests_hold_back

    def along(self, one: str) -> bool:
        """Whether the node is executed with its model only."""
        return self.interleaved and self.nodes[one].kind == "unit_test"

    @cached_property
    def relations(self) -> dict[str, tuple[str, ...]]:
        """The relations that each node reads: an ephemeral model is replaced by what it is made of."""

        def contracted(one: str) -> list[str]:
            found = self.nodes[one].parents
            return [x for p in found for x in (contracted(p) if self.nodes[p].ephemeral else [p])]

        return {one: tuple(dict.fromkeys(contracted(one))) for one in self.nodes}

    def tested(self, test: str) -> tuple[str, ...]:
        """The nodes that a test is about: the one it is attached to, else all that it reads."""
        node = self.nodes[test]
        if node.kind == "unit_test":
            return node.parents[:1]
        return (node.attached,) if node.attached else node.parents

    def subjects(self, test: str) -> tuple[str, ...]:
        """The relations of which one build is what a test is about: all that it reads. A unit test reads no data."""
        if self.nodes[test].kind == "unit_test":
            return self.tested(test)
        return tuple(one for one in self.relations[test] if self.nodes[one].kind != "source")

    @cached_property
    def unit_tests(self) -> dict[str, list[str]]:
        """The unit tests that each model is executed with."""
        found: dict[str, list[str]] = {}
        for one, node in self.nodes.items():
            if self.along(one):
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

    def rebuilt(self, test: str) -> tuple[str, ...]:
        """The nodes that are built again so that a test may find something else: an ephemeral model has no build."""
        tested = tuple(one for one in self.tested(test) if self.nodes[one].kind != "source")
        return self.subjects(test) if any(self.nodes[one].ephemeral for one in tested) else tested

    def reads(self, one: str, other: str) -> bool:
        """Whether a node reads what another one builds, directly or through what was built from it."""
        by_data = self.nodes[one].kind != "unit_test" and self.nodes[other].kind not in TESTS
        by_data = by_data and not self.nodes[one].ephemeral and not self.nodes[other].ephemeral
        by_data = by_data and self.nodes[other].kind != "source"
        return by_data and other in self._sources[one]

    @cached_property
    def _sources(self) -> dict[str, frozenset[str]]:
        """What a node reads by way of what the run builds, and of views: another table stays as it is."""
        found: dict[str, frozenset[str]] = {}

        def sources(one: str) -> frozenset[str]:
            if one not in found:
                parents = self.nodes[one].parents
                run = frozenset(self.executables)
                built = (parent for parent in parents if parent in run or self.nodes[parent].without_data)
                found[one] = frozenset(parents).union(*(sources(parent) for parent in built))
            return found[one]

        for one in self.nodes:
            sources(one)
        return found

    @cached_property
    def ahead(self) -> dict[str, frozenset[str]]:
        """All that dbt executes before a node: what is above it, and the tests that hold it back.

        As dbt's `add_test_edges` for `build`: a test holds back every node that depends on all that the test reads.
        """
        data_tests = [one for one, node in self.nodes.items() if node.kind == "test" and self.interleaved]
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
        able = frozenset(one for one in self.executables if self.nodes[one].kind != "source")
        found: dict[str, frozenset[str]] = dict.fromkeys(self.looked_at, frozenset())
        for one in able:
            ahead = self.ahead[one] | frozenset(self.unit_tests.get(one, ()))
            for other in self.ahead[one]:
                ahead |= frozenset(self.unit_tests.get(other, ()))
            found[one] = (ahead & able) - {one}
            if self.freshness == FAIL:
                found[one] |= self.looked_at.keys()
        return found

    @cached_property
    def gates(self) -> dict[str, frozenset[str]]:
        """Of what is executed, the last that has to succeed before a node can: all else has to for their sake."""
        return {
            one: frozenset(need for need in needs if not any(need in self.needs[other] for other in needs))
            for one, needs in self.needs.items()
        }

    def result(self, one: str) -> str:
        """How the execution of a node ends that begins now."""
        if self.freshness == SKIP_STALE and one in self.looked_at:
            return self.looked_at[one]
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
        ephemeral = kind == "model" and chance.random() < mix.ephemeral
        bad = ("error", "compile") if ephemeral else _BAD
        results = _results(chance, trouble, bad)
        materialized = "ephemeral" if ephemeral else chance.choice(("table", "view", "incremental"))
        nodes[one] = Node(one, parents if kind != "seed" else (), materialized=materialized, results=results)
        models.append(one)
    _draw_tests(chance, nodes, models, trouble)
    if chance.random() < mix.selections:
        _select(chance, nodes)
    ordered = {one: nodes[one] for one in sorted(nodes)}
    project = Project(
        nodes=ordered,
        threads=chance.choice((1, 2, 4)),
        adapter=chance.choice(mix.adapters),
        fail_fast=chance.random() < mix.fail_fast,
        by_flag=chance.random() < 0.5,
        end_hooks=chance.choice((0, 0, 1)),
        start_hook=_hooks(chance),
        end_hook=_hooks(chance),
        hook_skips=chance.random() < 0.5,
        fatal=chance.choice(("parse", "selector", "other")) if chance.random() < 0.01 else "",
        lengths=mix.lengths,
    )
    project = _of_command(project, chance.choice(mix.commands))
    later = project.command is Command.BUILD and chance.random() < mix.after_all
    return replace(project, tests=WhenTested.AFTER_ALL) if later else project


def with_sources(project: Project, chance: Random) -> Project:
    """The project, some nodes of which read sources that are looked at before; most are as they are."""
    if chance.random() >= _LOOKED_AT or not project.command.rules.looks_at_sources:
        return project
    nodes = dict(project.nodes)
    looked_at: dict[str, str] = {}
    for name in ("x", "y")[: chance.choice((1, 1, 2))]:
        source = f"source.p.{name}"
        readers = [one for one, node in nodes.items() if node.kind not in ("source", "seed", "unit_test")]
        for one in chance.sample(readers, min(len(readers), chance.choice((1, 2, 3)))):
            nodes[one] = replace(nodes[one], parents=(*nodes[one].parents, source))
        nodes[source] = Node(source)
        looked_at[source] = chance.choice(("pass", "stale", "stale"))
    ordered = {one: nodes[one] for one in sorted(nodes)}
    parents = chance.choice(("Any", "All"))
    made = replace(project, nodes=ordered, looked_at=looked_at, stale_parents=parents, executed={})
    # Only those are looked at that something selected reads.
    known = {
        one: {
            "resource_type": node.kind,
            "depends_on": list(node.parents),
            "materialized": node.materialized,
            "freshness": one in looked_at,
        }
        for one, node in ordered.items()
    }
    read = freshness.sources_of(known=known, nodes=made.selected)
    made = replace(made, looked_at={one: said for one, said in looked_at.items() if one in read})
    mode = chance.choice((SKIP_STALE, SKIP_STALE, FAIL, WARN))
    return made if mode == SKIP_STALE else _failing_sources(replace(made, freshness=mode), chance)


def _failing_sources(project: Project, chance: Random) -> Project:
    """The project, whose sources may be old at first, or not to be read."""
    bad = ("old", "old", "unread") if project.freshness == FAIL else ("aged", "unread")
    found = {one: replace(project.nodes[one], results=_results(chance, 0.5, bad, "pass")) for one in project.looked_at}
    return replace(project, nodes=project.nodes | found, executed={})


def with_own_pods(project: Project, chance: Random) -> Project:
    """The project, each of whose nodes has a pod of its own, or each group of them."""
    folders = {one: chance.choice(("", "m", "n")) for one in project.nodes}
    nodes = {one: replace(node, folder=folders[one]) for one, node in project.nodes.items()}
    return replace(project, nodes=nodes, mode=Mode.PER_NODE, executed={})


def with_executors(project: Project, chance: Random) -> Project:
    """The project with the mode Async: some of its nodes are executed without dbt, in the same process."""
    simple = {
        one for one, node in project.nodes.items() if node.materialized in ("table", "view") or node.kind == "test"
    }
    asked = frozenset(one for one in simple if chance.random() < 0.7)
    # With hooks all of it would be dbt's.
    return replace(
        project, mode=Mode.ASYNC, without_dbt=asked, start_hook=(True,), end_hooks=0, end_hook=(True,), executed={}
    )


_LOOKED_AT = 0.25  # how often a project has sources that are looked at


def _of_command(project: Project, command: Command) -> Project:
    """The project for a run of the command, if that executes any of what is selected."""
    kinds = command.rules.executes
    if command is Command.BUILD or not any(project.nodes[one].kind in kinds for one in project.executables):
        return project
    nodes = {
        one: node
        if node.kind in kinds or node.kind == "source"
        else replace(node, selected=False, results=("success",))
        for one, node in project.nodes.items()
    }
    if not command.rules.parents_first:
        nodes = {one: replace(node, parents=()) for one, node in nodes.items()}
    return replace(project, nodes=nodes, command=command)


_BAD = ("error", "error", "error", "compile", "partial", "lost", "lost", "silent", "late")


def differing(project: Project, chance: Random, items: int) -> Project:
    """The project with so many items of spec.nodes, each of which is about some of its nodes and their tests."""
    own = {one: {at for at in range(items) if chance.random() < 0.4} for one in project.nodes}
    for one, node in project.nodes.items():
        if node.kind in TESTS:
            own[one] = own[one].union(*(own[tested] for tested in project.tested(one)))
    nodes = {one: replace(node, overrides=tuple(sorted(own[one]))) for one, node in project.nodes.items()}
    return replace(project, nodes=nodes)


def _select(chance: Random, nodes: dict[str, Node]) -> None:
    """Leave some nodes out of what is selected. Their tests may be selected alone, but for unit tests."""
    kept = chance.choice([one for one, node in sorted(nodes.items()) if node.kind not in (*TESTS, "source")])
    for one, node in nodes.items():
        if node.kind not in ("source", "unit_test") and one != kept and chance.random() < 0.3:
            nodes[one] = replace(node, selected=False, results=("success",))
    for one, node in nodes.items():
        if node.kind == "unit_test" and not nodes[node.parents[0]].selected:
            nodes[one] = replace(node, selected=False)


def _hooks(chance: Random) -> tuple[bool, ...]:
    return tuple(chance.random() < 0.5 for _ in range(3)) if chance.random() < 0.03 else (True,)


def _draw_tests(chance: Random, nodes: dict[str, Node], models: list[str], trouble: float) -> None:
    for number in range(chance.randint(0, 4)):
        tested = chance.choice(models)
        kind = chance.random()
        if kind < 0.2 and tested.startswith("model.") and not nodes[tested].ephemeral:
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
