"""Which batches a microbatch model executes: those of the run's first attempt, and of them only what is left.

dbt cuts the time before its own start into batches. Started again on the next day it would execute others, and take a
model whose first execution was cut off for an incremental one, which looks back a few batches only. Its own `dbt retry`
keeps the time of the first start and the failed batches, but knows them from run_results.json, which a lost process has
not written; and there is no option for either. So three methods of dbt 1.9 to 1.12 are extended here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable

from dbt_operator.runner.output import Line

Period = tuple[datetime, datetime]
# More than this are not told: the model then executes again all that it was to execute.
_MOST_PERIODS = 500


@dataclass(frozen=True)
class Left:
    """What a model is to execute: periods that are cut into batches. `incremental`: others of it have succeeded."""

    periods: tuple[Period, ...]
    incremental: bool


def has_microbatch_models(*, manifest: Any) -> bool:
    """Whether any model of the project may be executed in batches."""
    configs = (getattr(node, "config", None) for node in manifest.nodes.values())
    return any(getattr(config, "incremental_strategy", None) == "microbatch" for config in configs)


def keep_periods(*, end: datetime, left: Mapping[str, Left], report: Callable[[Line], None]) -> None:
    """Let models of which nothing is said execute the batches up to `end`, and the others what is left of them.

    `report` is called, from dbt's threads, with what each model begins to execute, and with what is left where a part
    of it has succeeded: {"unique_id": "…", "window" or "left": [["<ISO 8601>", "<ISO 8601>"], …]}.
    """
    runner: Any = getattr(importlib.import_module("dbt.task.run"), "MicrobatchModelRunner", None)
    if runner is None:  # before dbt 1.9
        return
    builder_of, batches_of, is_incremental, execute = (
        runner.get_microbatch_builder,
        runner.get_batches,
        runner._is_incremental,  # noqa: SLF001 - there is no other way to tell dbt what its own retry assumes
        runner.execute,
    )

    def get_microbatch_builder(self: Any, model: Any) -> Any:
        builder = builder_of(self, model)
        aware = builder.default_end_time.tzinfo is not None
        builder.default_end_time = end if aware else end.replace(tzinfo=None)
        return builder

    def get_batches(self: Any, model: Any) -> Any:
        found = left.get(model.unique_id)
        if found is None:
            batches = batches_of(self, model)
        else:
            builder = self.get_microbatch_builder(model)
            batches = dict(enumerate(one for period in found.periods for one in builder.build_batches(*period)))
        report({"unique_id": model.unique_id, "window": _periods(batches.values())})
        return batches

    def incremental(self: Any, model: Any) -> Any:
        # Also with --full-refresh: the first batch would replace the table, and with it those that have succeeded.
        found = left.get(model.unique_id)
        return (found is not None and found.incremental) or is_incremental(self, model)

    def executed(self: Any, model: Any, manifest: Any) -> Any:
        result = execute(self, model, manifest)
        batches = getattr(result, "batch_results", None)
        if batches is not None and batches.failed:
            found, failed = left.get(model.unique_id), _periods(batches.failed)
            if (batches.successful or (found is not None and found.incremental)) and len(failed) <= _MOST_PERIODS:
                report({"unique_id": model.unique_id, "left": failed})
        return result

    runner.get_microbatch_builder = get_microbatch_builder
    runner.get_batches = get_batches
    runner._is_incremental = incremental  # noqa: SLF001 - as above
    runner.execute = executed


def _periods(batches: Iterable[Period]) -> list[list[str]]:
    """The batches as periods; batches that follow one another are one."""
    periods: list[list[datetime]] = []
    for start, end in sorted(batches):
        if periods and periods[-1][1] == start:
            periods[-1][1] = end
        else:
            periods.append([start, end])
    return [[start.isoformat(), end.isoformat()] for start, end in periods]


def moment(text: str) -> datetime:
    """A time of ISO 8601 in UTC. Raises: ValueError."""
    # Python before 3.11 does not read the Z.
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
