"""How many events a second are decoded and folded on one core: `python -m benchmarks.events [--models 3000]`.

The lines are those of a real runner (`tests/logs/runner_build.jsonl`): of a model and of one of its tests, each the
start, dbt's result and the runner's result. They are repeated for as many models, each with its own name and three
tests, and folded in pieces of a hundred lines, as they come from the kubelet. Prints the events for each second of
processor time.
"""

import argparse
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec

from benchmarks.results import Result, Row
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY

LOG = Path(__file__).parent.parent / "tests" / "logs" / "runner_build.jsonl"
MODEL, TEST = "model.torture.ok_model", "test.torture.unique_ok_model_id.ce8a8349d3"
TESTS = 3  # of each model
PIECE = 100  # lines
ROUNDS = 5


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", type=int, default=3000)
    models = options.parse_args().models
    lines = list(events(models))
    rates = tuple(round(rate) for rate in (_rate(lines, models) for _ in range(ROUNDS)))
    size = sum(map(len, lines)) / len(lines)
    Result(
        scenario="events",
        title="Events decoded and folded on one core",
        rows=(Row("events of the recorded kind, each second of processor time", rates, at_least=20_000),),
        notes=f"{len(lines):,} events of {models:,} models with {TESTS} tests each, {size:.0f} bytes a line, "
        f"{ROUNDS} rounds.",
    ).save()


def events(models: int) -> Iterator[bytes]:
    """What a runner prints of so many models and their tests."""
    recorded = LOG.read_bytes().splitlines()
    numbers = count(1)
    for number in range(models):
        for what, times in ((MODEL, 1), (TEST, TESTS)):
            lines = [line for line in recorded if _about(line) == what]
            for other in range(times):
                name = f"{what}_{number}_{other}"
                yield from (_renamed(line, what, name, next(numbers)) for line in lines)


def _about(line: bytes) -> str | None:
    data = msgspec.json.decode(line)["data"]
    found: str | None = data.get("unique_id") or data.get("node_info", {}).get("unique_id")
    return found


def _renamed(line: bytes, what: str, name: str, number: int) -> bytes:
    event = msgspec.json.decode(line.replace(what.encode(), name.encode()))
    return msgspec.json.encode(event | {"seq": number})


def _rate(lines: list[bytes], models: int) -> float:
    state, pieces = EMPTY, [lines[start : start + PIECE] for start in range(0, len(lines), PIECE)]
    before = time.process_time()
    for piece in pieces:
        state = fold_lines(state=state, lines=piece)
    spent = time.process_time() - before
    if len(state.nodes) != models * (1 + TESTS):
        raise SystemExit(f"{len(state.nodes)} nodes were folded.")
    return len(lines) / spent


if __name__ == "__main__":
    main()
