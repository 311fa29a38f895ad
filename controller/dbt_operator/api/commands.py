"""The dbt commands that a run can be of, and what each of them does: the one table that everything else asks.

What follows from the types that a command executes has no column of its own: a retry executes the failed node with
those of its tests that the command executes too, and a test with the nodes that it tests where the command builds them.
A command that executes no nodes has none to show, to retry or to resume: it is run again as a whole, or not at all.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from dbt_operator.api.open_enum import OpenEnum


class WhenTested(StrEnum):
    """When the tests are executed that a run selects."""

    BUILD = "Build"  # as the command does it
    AFTER_ALL = "AfterAll"  # in a stage of their own, after everything else
    NONE = "None"


class Mode(StrEnum):
    """What executes the nodes."""

    PRODUCER = "Producer"  # dbt, all of them by one pod
    PER_NODE = "PerNode"  # one pod lists them, and each is executed by a pod of its own
    ASYNC = "Async"  # simple ones are executed without dbt, in the pod that executes all of them


class Stage(OpenEnum):
    """A part of a run with a dbt command of its own, which begins when the one before has done what it can."""

    LIST = "List"
    EXECUTE = "Execute"
    BUILD = "Build"
    TEST = "Test"

    @property
    def rules(self) -> "StageRules":
        """The row of the table."""
        return _STAGES[self]


class StageRules(NamedTuple):
    """What a stage executes, of what the run selects: dbt's types of nodes, by the command of these words.

    words: "" where it is the command of the run.
    """

    words: str
    executes: frozenset[str]

    def of(self, unique_ids: Iterable[str]) -> frozenset[str]:
        """Those of the nodes that the stage executes: dbt's unique ids begin with the type."""
        return frozenset(one for one in unique_ids if one.partition(".")[0] in self.executes)


class Command(StrEnum):
    """A dbt command, in dbt's word for it."""

    BUILD = "build"
    RUN = "run"
    TEST = "test"
    SEED = "seed"
    SNAPSHOT = "snapshot"
    CLONE = "clone"
    SOURCE_FRESHNESS = "source-freshness"
    COMPILE = "compile"
    DOCS = "docs"
    LS = "ls"
    PARSE = "parse"
    SHOW = "show"
    RUN_OPERATION = "run-operation"

    @property
    def rules(self) -> "CommandRules":
        """The row of the table: what the command does by itself."""
        return self.rules_for(WhenTested.BUILD)

    def rules_for(self, tests: WhenTested, mode: Mode = Mode.PRODUCER) -> "CommandRules":
        """The row of the table. Raises: KeyError where the command has no such choice."""
        return _RULES[self, tests, mode]

    @property
    def choices(self) -> tuple[WhenTested, ...]:
        """When the tests of a run of this command can be executed."""
        return tuple(tests for command, tests, mode in _RULES if command is self and mode is Mode.PRODUCER)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How the nodes of a run of this command can be spread over pods."""
        return tuple(mode for command, tests, mode in _RULES if command is self and tests is WhenTested.BUILD)

    @classmethod
    def of_words(cls, words: str) -> "Command | None":
        """The command that dbt calls so; None where there is none."""
        return next((command for command in cls if command.rules.words == words), None)


class CommandRules(NamedTuple):
    """One row of the table.

    words: what it is called on dbt's command line.
    executes: dbt's types of nodes. What else is selected, the command passes over.
    parents_first: a node is executed after those that it reads, and skipped if one of these fails.
    tests_hold_back: a test is executed before what is built from the nodes that it reads, which is skipped if it
        fails; a unit test is executed right before its model, and only together with it. Otherwise tests wait for
        nothing but what they read, and nothing waits for them.
    looks_at_sources: before it executes nodes it can look at how old the sources are that they read.
    repeats: what was lost with a pod may be done again without anybody asking for it.
    stages: in which the nodes are executed, one after the other; none: the command executes all of them.
    """

    words: str
    executes: frozenset[str] = frozenset()
    parents_first: bool = True
    tests_hold_back: bool = False
    looks_at_sources: bool = False
    repeats: bool = True
    stages: tuple[Stage, ...] = ()


_TESTS = frozenset({"test", "unit_test"})
_BUILT = frozenset({"model", "seed", "snapshot", "function", "saved_query", "exposure"})
_SOURCES = frozenset({"source"})  # which may be looked at before anything is executed
_STAGES = {
    Stage.LIST: StageRules(words="", executes=_SOURCES),
    Stage.EXECUTE: StageRules(words="", executes=_BUILT | _TESTS | _SOURCES),
    Stage.BUILD: StageRules(words="build", executes=_BUILT | _SOURCES),
    Stage.TEST: StageRules(words="test", executes=_TESTS),
}
_OF_COMMANDS = {
    Command.BUILD: CommandRules(words="build", executes=_BUILT | _TESTS, tests_hold_back=True, looks_at_sources=True),
    Command.RUN: CommandRules(words="run", executes=frozenset({"model"}), looks_at_sources=True),
    Command.TEST: CommandRules(words="test", executes=_TESTS),
    Command.SEED: CommandRules(words="seed", executes=frozenset({"seed"})),
    Command.SNAPSHOT: CommandRules(words="snapshot", executes=frozenset({"snapshot"}), looks_at_sources=True),
    Command.CLONE: CommandRules(words="clone", executes=frozenset({"model", "seed", "snapshot"}), parents_first=False),
    Command.SOURCE_FRESHNESS: CommandRules(words="source freshness", executes=frozenset({"source"})),
    Command.COMPILE: CommandRules(words="compile"),
    Command.DOCS: CommandRules(words="docs generate"),
    Command.LS: CommandRules(words="ls"),
    Command.PARSE: CommandRules(words="parse"),
    Command.SHOW: CommandRules(words="show"),
    # What a macro does is not known: done twice, it may do harm.
    Command.RUN_OPERATION: CommandRules(words="run-operation", repeats=False),
}
_OF_TESTS = {(command, WhenTested.BUILD): rules for command, rules in _OF_COMMANDS.items()} | {
    (Command.BUILD, WhenTested.AFTER_ALL): CommandRules(
        words="build", executes=_BUILT | _TESTS, stages=(Stage.BUILD, Stage.TEST)
    ),
    (Command.BUILD, WhenTested.NONE): CommandRules(words="build", executes=_BUILT),
}
# Where each node has a pod of its own, one pod before them lists the nodes, and looks at the sources.
_RULES = {(*row, mode): rules for row, rules in _OF_TESTS.items() for mode in (Mode.PRODUCER, Mode.ASYNC)} | {
    (*row, Mode.PER_NODE): rules._replace(stages=(Stage.LIST, *(rules.stages or (Stage.EXECUTE,))))
    for row, rules in _OF_TESTS.items()
    if rules.executes - _SOURCES
}
