"""What is known of a run from three sides: the warehouse, dbt's own words, and the objects that users see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

RETRY_ANNOTATION = "dbt-operator.io/retry"


@dataclass(frozen=True, kw_only=True)
class Try:
    """A node was begun: committed before anything else of it. `alone`: nobody else had it at that moment."""

    node: str
    at: datetime
    invocation: str
    alone: bool


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The warehouse committed a node's work."""

    node: str
    at: datetime
    invocation: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What dbt said of a node or test, read from the file that the container's words went to."""

    unique_id: str
    name: str
    status: str
    invocation: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Since when the object of a node has been seen as Succeeded, and what it was seen as after that."""

    since: Mapping[str, datetime]
    lost_again: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the check looks at.

    run, models: as the API shows them at the end; finished: invocations that came to an end of their own;
    results: the status of each node in the run_results.json that the run has kept;
    gone: invocations whose pod does not exist any more, or whose log was rotated; live: pods that still have a process;
    disturbed: from when until when something was wrong with the operator, or with what it reads logs through.
    """

    run: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]
    tries: Sequence[Try]
    executions: Sequence[Execution]
    reports: Sequence[Report]
    stored: Stored
    results: Mapping[str, str]
    finished: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    live: Sequence[str] = ()
    disturbed: Sequence[tuple[datetime, datetime]] = ()


def unhandled(document: Mapping[str, Any]) -> str | None:
    """The retry that was asked for on a DbtRun or DbtModel and not handled yet."""
    token: str | None = document["metadata"].get("annotations", {}).get(RETRY_ANNOTATION)
    return None if token == document.get("status", {}).get("handledRetry") else token
