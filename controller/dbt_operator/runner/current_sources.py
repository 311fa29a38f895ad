"""How old the sources are now, for a selection that compares that with an earlier run (`source_status:fresher`).

dbt compares the sources.json of that run with the one in its own target directory, which `dbt source freshness` writes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dbt_operator.runner.arguments import Command, asking

FILE = "sources.json"
_METHOD = "source_status:"
_SELECTING = frozenset(("select", "exclude", "selector", "indirect_selection", "fail_fast", "write_json"))


def wanted(command: Command) -> bool:
    """Whether the selection compares how old sources are."""
    return any(_METHOD in token for argument in command.arguments for token in argument.tokens)


def question(*, cli: Any, command: Command) -> list[str]:
    """`dbt source freshness` of all sources, with the arguments that it shares with the command."""
    others = tuple(each for each in command.arguments if each.parameter not in _SELECTING)
    shared = asking(cli=cli, command=replace(command, arguments=others), other=("source", "freshness"))
    # Whatever it finds, it looks at all of them.
    return ["source", "freshness", "--log-level", "none", "--no-fail-fast", *shared]
