"""`dbt-operator replay`: what the controller would make of a saved pod log."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import typer

from dbt_operator.dbt.fold import EMPTY, close, fold_lines
from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import ListedTest, NodeView, TestCounts, node_counts, node_views
from dbt_operator.plan.outcome import conclude, ending_of

_CHUNK = 1024 * 1024


def replay(stream: BinaryIO, out: TextIO) -> None:
    """Fold a log and print one JSON object per node, and one for the run at the end."""
    state = _folded(stream)
    state = close(state=state, ending=ending_of(state=state, pod=None))
    views = node_views(state=state)
    for view in views.values():
        _print(out, _node(view))
    outcome = conclude(state=state, pod=None)
    run = {"phase": outcome.phase.value, "reason": outcome.reason.value, "message": outcome.message}
    _print(out, {"run": {**run, "counts": node_counts(views=views).to_dict()}})


def _folded(stream: BinaryIO) -> AttemptState:
    splitter = LineSplitter()
    state = EMPTY
    for lines in _batches(stream, splitter):
        state = fold_lines(state=state, lines=lines)
    return state


def _batches(stream: BinaryIO, splitter: LineSplitter) -> Iterator[list[bytes]]:
    while chunk := stream.read(_CHUNK):
        yield splitter.feed(chunk)
    rest = splitter.flush()
    if rest is not None:
        yield [rest]


def _node(view: NodeView) -> dict[str, object]:
    return {
        "unique_id": view.unique_id,
        "resource_type": view.resource_type,
        "phase": view.phase.value,
        "reason": view.reason.value if view.reason else None,
        "message": view.message,
        "blockedBy": view.blocked_by,
        "tests": _tests(view.tests) if view.tests is not None else None,
    }


def _tests(tests: TestCounts) -> dict[str, object]:
    return {
        "total": tests.total,
        "passed": tests.passed,
        "warned": tests.warned,
        "failed": tests.failed,
        "errored": tests.errored,
        "skipped": tests.skipped,
        "failing": [_listed(test) for test in tests.failing],
        "warning": [_listed(test) for test in tests.warning],
    }


def _listed(test: ListedTest) -> dict[str, object]:
    return {"uniqueId": test.unique_id, "name": test.name, "message": test.message, "failures": test.failures}


def _print(out: TextIO, document: object) -> None:
    out.write(json.dumps(document) + "\n")  # ASCII: the output is read by programs in any locale


def replay_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A saved pod log, or - for standard input.")],
) -> None:
    """Fold a saved pod log as the controller does when the pod has ended; print nodes and run as JSON lines."""
    if file == "-":
        replay(sys.stdin.buffer, sys.stdout)
        return
    try:
        with Path(file).open("rb") as stream:
            replay(stream, sys.stdout)
    except OSError as error:
        print(f"Cannot read {file}: {error.strerror or error}.", file=sys.stderr)
        raise typer.Exit(code=2) from None


if __name__ == "__main__":
    typer.run(replay_command)
