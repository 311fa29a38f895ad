"""A DbtRun as it is measured beside `dbt build` in a plain pod."""

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench, time_of
from benchmarks.observing import PARTS, WAITING, Watch, processors, writes

SHOWN = ("Succeeded", "Failed", "Warned")


@dataclass(frozen=True, slots=True)
class Measured:
    """A DbtRun of one attempt.

    dbt: seconds from the runner's first event to its last. wall: from its creation until its end was shown. lags:
    seconds, in ascending order, from dbt's result of each node until a watch has shown it. writes: of the operator.
    operator, cluster: seconds of processors. starved: seconds that the operator waited for one. events: what its
    pod has printed.
    """

    dbt: float
    wall: float
    lags: tuple[float, ...]
    writes: float
    operator: float
    cluster: float
    starved: float
    events: Sequence[Mapping[str, Any]]

    @property
    def nodes(self) -> int:
        """Nodes that were shown with their end."""
        return len(self.lags)

    @property
    def lag(self) -> float:
        """The median of the lags."""
        return statistics.median(self.lags)

    @property
    def worst_lag(self) -> float:
        """The lag that 99 of 100 do not exceed."""
        return self.lags[int(len(self.lags) * 0.99)]


async def measured(bench: Bench, name: str, **more: Any) -> Measured:
    """Execute a DbtRun and measure it. Raises: SystemExit where it does not succeed."""
    with Watch(bench.namespace, "dbtmodels") as models, Watch(bench.namespace, "dbtruns") as runs:
        await asyncio.sleep(1)
        written, spent, before = writes(), processors(), time.time()
        await bench.execute(name, **more)
        await asyncio.sleep(1)
        written = writes() - written
        spent = {part: seconds - spent.get(part, 0) for part, seconds in processors().items()}
    events = bench.events(name)
    return Measured(
        dbt=time_of(events[-1]) - time_of(events[0]),
        wall=runs.seen[name, ""][1] - before,
        lags=lags_of(name, events, models),
        writes=written,
        operator=spent["dbt_operator"],
        cluster=sum(spent[part] for part in PARTS if part in spent),
        starved=spent[WAITING],
        events=events,
    )


def lags_of(run: str, events: Sequence[Mapping[str, Any]], models: Watch) -> tuple[float, ...]:
    """Seconds, in ascending order, from dbt's result of a node until a watch has shown it."""
    results = {one["data"]["unique_id"]: time_of(one) for one in events if one["info"]["name"] == "NodeResult"}
    shown = {key: at for key, (phase, at) in models.seen.items() if phase in SHOWN}
    return tuple(sorted(shown[run, one] - at for one, at in results.items() if (run, one) in shown))
