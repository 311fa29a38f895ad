"""What executes statements in a warehouse without dbt: one module for each."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Protocol

from dbt_operator.runner.output import Line

_MODULES: Mapping[str, str] = {"postgres": "postgres", "bigquery": "bigquery"}
# What Google's client imports where it finds it, as dbt-bigquery has it, for data frames and gRPC alone: 90 MiB that
# this process would hold while jobs run.
_NOT_NEEDED: Mapping[str, tuple[str, ...]] = {
    "bigquery": (
        *("pandas", "pyarrow", "numpy", "db_dtypes", "shapely", "geopandas"),
        *("grpc", "IPython", "opentelemetry", "tqdm"),
    )
}


@dataclass(frozen=True)
class Work:
    """A node, by its statements in their order. `main`: the place of the one whose answer is that of the node.

    expects: which of its own relations there were when the statements were made.
    fetches: the rows of the main statement are wanted too.
    """

    unique_id: str
    statements: tuple[Line, ...]
    main: int
    expects: tuple[Line, ...] = ()
    fetches: bool = False


@dataclass(frozen=True)
class Context:
    """Which attempt of which run this is.

    began_in: the attempt in which the execution of a node began. billed_before: bytes that earlier attempts of the run
    were billed for. report: prints an event.
    """

    run_uid: str
    run: str
    namespace: str
    attempt: str
    began_in: Callable[[str], str]
    report: Callable[[str, Line], None]
    billed_before: int = 0


@dataclass(frozen=True)
class Answer:
    """What the warehouse answers to the main statement. `response`: as dbt's adapter has it."""

    message: str
    response: Line = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


class StatementError(Exception):
    """The warehouse refuses a statement, in its own words. `at`: the place of the statement."""

    def __init__(self, message: str, *, at: int = 0, response: Line | None = None) -> None:
        super().__init__(message)
        self.at = at
        self.response = response or {}


class ChangedError(Exception):
    """What is there is not what the statements were made for: dbt has to make others. The text says what it is."""


class BudgetError(Exception):
    """The run has cost what it may; the text is a sentence for the user."""


class Executor(Protocol):
    """Executes nodes in the warehouse. All of it is called in one event loop."""

    limit: int  # how many nodes at once, where the run does not say

    async def execute(self, work: Work) -> Answer:
        """Submit, follow and read. Raises: StatementError, ChangedError, BudgetError."""

    async def cancel(self, unique_id: str) -> None:
        """Ask the warehouse to end what it executes for this node; `execute` then tells how it has ended."""

    async def close(self) -> None:
        """Nothing more is executed."""


def executor(*, adapter: str, connection: Line, settings: Line, context: Context) -> Executor:
    """That of the adapter. Raises: ImportError."""
    for name in _NOT_NEEDED.get(adapter, ()):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # so Python says that it is not there
    module = importlib.import_module(f"dbt_operator.runner.executors.{_MODULES[adapter]}")
    made: Executor = module.make(connection=connection, settings=settings, context=context)
    return made
