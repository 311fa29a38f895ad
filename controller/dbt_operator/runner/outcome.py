"""What is known before the command begins, and how a run ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbt_operator.runner import error_kinds
from dbt_operator.runner.output import Line


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    cancelled: bool = False
    kind: str = ""
    message: str = ""
    results: list[Line] | None = field(default=None)


@dataclass(frozen=True)
class Listed:
    """What the command is to execute, and the sources to look at before.

    others: nodes that it does not execute, and for which it decides whether others do.
    unknown: why that is not known. error: the exception that is why.
    """

    nodes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    unknown: str = ""
    error: BaseException | None = None


def failed(*, kind: str, message: str) -> Outcome:
    """The end of a run that an exception ended."""
    return Outcome(exit_code=2, cancelled=kind == error_kinds.INTERRUPTED, kind=kind, message=message)


INTERRUPTED = failed(kind=error_kinds.INTERRUPTED, message="dbt was interrupted")
