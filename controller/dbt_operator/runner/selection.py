"""Executing exactly the nodes of a list, whatever they are called.

dbt has no selector for a unique id, except by the way of an earlier run's results: `--select result:error --state DIR`
selects the nodes that failed in DIR/run_results.json. So the list is given to dbt in that form. Unlike a selection by
names it is exact (a `fqn:` also matches all that begins with it, and has trouble with spaces and commas), knows unit
tests, and takes the same time for one node as for thousands (a `fqn:` is compared with every node, several times).
"""

from __future__ import annotations

import gzip
import json
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, NamedTuple

from dbt_operator.runner.arguments import Argument, Command, has_option, setting
from dbt_operator.runner.graph import without_model
from dbt_operator.runner.microbatch import Left, moment
from dbt_operator.runner.output import Line

_STATUS = "error"
_OF_TYPES = ("resource_types", "resource_type", "exclude_resource_types", "exclude_resource_type")
_REPLACED = frozenset(("select", "exclude", "selector", "indirect_selection", "state", *_OF_TYPES))
_MOST_NAMED = 3


class SelectionError(Exception):
    """The nodes cannot be selected; the text says which and why."""


class Wanted(NamedTuple):
    """What is said of a node that is to be executed.

    left: of a microbatch model, where that is not all. began_in: the attempt in which its execution began, by its
    index; "": this one.
    """

    left: Left | None = None
    began_in: str = ""


def read_nodes(*, file: str) -> dict[str, Wanted]:
    """What is said of each node, by unique id, in a file of gzip'd JSON.

    The file is a list of {"unique_id": "…"}, each perhaps with "periods": [["<ISO 8601>", "<ISO 8601>"], …] and
    "incremental": true, or with "began_in": 1. Raises: SelectionError.
    """
    try:
        with gzip.open(file, "rt", encoding="utf-8") as text:
            return {str(node["unique_id"]): _wanted(node) for node in json.load(text)}
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise SelectionError(f"the list of nodes to execute cannot be read: {error!r}") from error


def _wanted(node: Mapping[str, Any]) -> Wanted:
    return Wanted(left=_left(node), began_in=str(node.get("began_in") or ""))


def _left(node: Mapping[str, Any]) -> Left | None:
    if "periods" not in node:
        return None
    periods = tuple((moment(start), moment(end)) for start, end in node["periods"])
    return Left(periods=periods, incremental=bool(node["incremental"]))


def write_state(*, unique_ids: Iterable[str]) -> Path:
    """A directory with a run_results.json in which just these nodes failed. Raises: OSError."""
    directory = Path(tempfile.mkdtemp(prefix="dbt-operator-nodes-"))
    results: list[Line] = [
        {
            "unique_id": unique_id,
            "status": _STATUS,
            "timing": [],
            "thread_id": "",
            "execution_time": 0.0,
            "adapter_response": {},
            "message": None,
            "failures": None,
            "compiled": None,
            "compiled_code": None,
            "relation_name": None,
        }
        for unique_id in sorted(unique_ids)
    ]
    # dbt 1.8 writes this version of the format, and later ones can read it. A file that lacks one of these fields is
    # none for dbt 2.
    metadata = {
        "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
        "dbt_version": "",
        "generated_at": "2026-01-01T00:00:00Z",
        "invocation_id": str(uuid.UUID(int=0)),
        "env": {},
    }
    arguments = {"command": "build", "which": "build"}
    text = json.dumps({"metadata": metadata, "results": results, "elapsed_time": 0.0, "args": arguments})
    (directory / "run_results.json").write_text(text, encoding="utf-8")
    return directory


def selecting(*, cli: Any, command: Command, state: Path, environ: Mapping[str, str]) -> Command:
    """The command with the selection of `state` in place of its own, by dbt's definition of its arguments."""
    return selected_by(
        command=command,
        state=state,
        value=lambda parameter: setting(cli=cli, command=command, parameter=parameter, environ=environ),
        knows=lambda parameter: has_option(cli=cli, command=command, parameter=parameter),
    )


def selected_by(*, command: Command, state: Path, value: Callable[[str], str], knows: Callable[[str], bool]) -> Command:
    """The command with the selection of `state` in place of its own.

    value: that of an option as the user has set it, or "". knows: whether dbt has an option for the command.
    """
    kept = [argument for argument in command.arguments if argument.parameter not in _REPLACED]
    added = [("select", f"result:{_STATUS}"), ("indirect_selection", "empty"), ("state", str(state))]
    # Deferral takes the state too, unless it has one of its own.
    deferred = value("state")
    if deferred and not value("defer_state"):
        added.append(("defer_state", deferred))
    for parameter, given in added:
        if not knows(parameter):
            continue
        option = "--" + parameter.replace("_", "-")
        kept.append(Argument(parameter=parameter, option=option, tokens=(option, given)))
    return replace(command, arguments=tuple(kept), rest=tuple(token for argument in kept for token in argument.tokens))


def check_known(*, wanted: frozenset[str], known: Mapping[str, Line]) -> None:
    """Raises: SelectionError when a node is not in the project, or is a unit test that dbt would pass over."""
    gone = sorted(wanted - known.keys())
    if gone:
        raise SelectionError(f"not in the project any more, or disabled: {_names(gone)}")


def check_selected(*, wanted: frozenset[str], selected: frozenset[str]) -> None:
    """Raises: SelectionError when dbt would not execute exactly the wanted nodes."""
    left_out = sorted(wanted - selected)
    if left_out:
        raise SelectionError(f"dbt does not select: {_names(left_out)}")
    besides = sorted(selected - wanted)
    if besides:
        raise SelectionError(f"dbt would also execute: {_names(besides)}")


def check_unit_tests(*, wanted: frozenset[str], known: Mapping[str, Line]) -> None:
    """For `build`, which runs a unit test only right before the model that it tests. Raises: SelectionError."""
    alone = sorted(without_model(known=known, chosen=wanted))
    if alone:
        raise SelectionError(f"unit tests are executed with their models only, which are not listed: {_names(alone)}")


def _names(unique_ids: list[str]) -> str:
    more = len(unique_ids) - _MOST_NAMED
    return ", ".join(unique_ids[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
