"""The dbt commands that a run can be of, and what each of them does: the one table that everything else asks.

What follows from the types that a command executes has no column of its own: a retry executes the failed node with
those of its tests that the command executes too, and a test with the nodes that it tests where the command builds them.
"""

from enum import StrEnum
from typing import NamedTuple


class Command(StrEnum):
    """A dbt command, in dbt's word for it."""

    BUILD = "build"
    RUN = "run"
    TEST = "test"

    @property
    def rules(self) -> "CommandRules":
        """The row of the table."""
        return _RULES[self]


class CommandRules(NamedTuple):
    """One row of the table.

    executes: dbt's types of nodes. What else is selected, the command passes over.
    tests_hold_back: a test is executed before what is built from the nodes that it reads, which is skipped if it
        fails; a unit test is executed right before its model, and only together with it. Otherwise tests wait for
        nothing but what they read, and nothing waits for them.
    full_refresh: dbt has --full-refresh for it.
    """

    executes: frozenset[str]
    tests_hold_back: bool
    full_refresh: bool


_TESTS = frozenset({"test", "unit_test"})
_RULES = {
    Command.BUILD: CommandRules(
        executes=frozenset({"model", "seed", "snapshot", "function", "saved_query", "exposure"}) | _TESTS,
        tests_hold_back=True,
        full_refresh=True,
    ),
    Command.RUN: CommandRules(executes=frozenset({"model"}), tests_hold_back=False, full_refresh=True),
    Command.TEST: CommandRules(executes=_TESTS, tests_hold_back=False, full_refresh=False),
}
