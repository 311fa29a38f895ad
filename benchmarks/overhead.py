"""What a DbtRun costs beside the command line, and how late its statuses are: `python -m benchmarks.overhead`.

    python -m benchmarks.overhead [--pairs 3] [--nodes 190] [--threads 1,2,4,8,16] [--warehouse duckdb|postgres]

Needs the development cluster with its images; for Postgres that of examples/postgres, which it starts. For each number
of threads, as often as `--pairs` says, one right after the other and with the same project, image and limits:

(a) a pod that runs `dbt build` and nothing else: dbt's process, from its start to its end;
(b) a DbtRun, from the runner's first event to its last;
(c) the same DbtRun from `kubectl apply` to the Succeeded that a watch shows, beside what a plain pod needs besides dbt;
(e) another DbtRun whose archive has the parse cache in it that a first run, `dbt parse` in a pod, has left: as an image
    brings it that was built with `RUN dbt parse`. (a) and (b) parse the project anew.

Once, with a project that is built and parsed already: (d) a process of dbt for each of some nodes of the project, one
process after the other (`dbt build --select NODE`). What all nodes would take is not extrapolated.

Of (b) and (c) besides: the lag, from the time stamp of a node's result in dbt to the moment when a watch of DbtModels
shows it; the writes for a node, from the operator's metrics; and the time of processors that the operator and the
cluster's parts took.
"""

import argparse
import asyncio
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from benchmarks.bench import IMAGES, LOG, Bench, Plain, Process, file_of
from benchmarks.beside import Measured, measured
from benchmarks.charts import Chart
from benchmarks.observing import ready
from benchmarks.operator import KUBECONFIG, new_namespace, operator
from benchmarks.project import archive, leaves, with_file
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client

PARSED = "parsed"  # the ConfigMap with the project and its parse cache
CACHE = "target/partial_parse.msgpack"


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared with each other."""

    plain: Plain
    run: Measured
    second: Measured

    @property
    def dbt(self) -> float:
        """(a): seconds of dbt's process in the plain pod."""
        return self.plain.processes[0].wall

    @property
    def more(self) -> float:
        """What a DbtRun needs besides dbt, beside what the plain pod needs besides dbt."""
        return (self.run.wall - self.run.dbt) - (self.plain.shown - self.dbt)


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table: how it is read from a pair."""

    what: str
    of: Callable[[Pair], float]
    unit: str = "s"
    digits: int = 2
    at_most: float | None = None

    def row(self, pairs: Sequence[Pair], *, threads: int) -> Row:
        """The line's figure with so many threads."""
        values = tuple(round(self.of(pair), self.digits) for pair in pairs)
        return Row(self.what, values, self.unit, at_most=self.at_most, column=_column(threads))


PLAIN = Figure("(a) dbt in a plain pod", lambda pair: pair.dbt)
RUN = Figure("(b) dbt in a DbtRun", lambda pair: pair.run.dbt)
SECOND = Figure("(e) dbt in a DbtRun that has the parse of a first run", lambda pair: pair.second.dbt)
FIGURES = (
    PLAIN,
    RUN,
    Figure("(b) / (a)", lambda pair: pair.run.dbt / pair.dbt, "", at_most=1.0),
    SECOND,
    Figure("(e) / (a)", lambda pair: pair.second.dbt / pair.dbt, "", at_most=0.85),
    Figure("(c) a DbtRun from apply to Succeeded", lambda pair: pair.run.wall),
    Figure("(c) - (b), beside what a plain pod needs besides dbt", lambda pair: pair.more, at_most=1.5),
    Figure("lag of a DbtModel, median", lambda pair: pair.run.lag, digits=4, at_most=0.025),
    Figure("lag of a DbtModel, 99 of 100", lambda pair: pair.run.worst_lag, digits=3, at_most=0.1),
    Figure("writes of the operator for a node", lambda pair: pair.run.writes / pair.run.nodes, "", at_most=3),
    Figure("the operator waits for a processor", lambda pair: pair.run.starved),
    Figure("processors: dbt in a plain pod", lambda pair: pair.plain.processes[0].spent),
    Figure("processors: the operator", lambda pair: pair.run.operator),
    Figure("processors: the cluster's parts", lambda pair: pair.run.cluster),
)


async def _pair(bench: Bench, number: str, *, threads: int, parsed: bytes) -> Pair:
    plain = await bench.plain(f"plain-{number}", ("build", "--threads", str(threads)))
    run = await measured(bench, f"run-{number}", threads=threads)
    second = await measured(bench, f"second-{number}", threads=threads, archive=PARSED)
    # dbt writes the cache anew where it has parsed anything, and says nothing of one that it cannot read.
    if file_of(second.events, PurePath(CACHE).name) != parsed:
        raise SystemExit("dbt has not used the parse of the first run: (e) was not measured.")
    return Pair(plain, run, second)


async def _one_by_one(bench: Bench, sample: Sequence[str]) -> tuple[Process, ...]:
    """(d): what dbt's process has needed for each of these nodes."""
    plain = await bench.plain("one-by-one", ("build",), *(("build", "--select", name) for name in sample))
    return plain.processes[1:]


async def _measure(given: argparse.Namespace, namespace: str) -> Result:
    on = machine()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, given.warehouse)
        project = archive(given.nodes, target=given.warehouse, threads=4)
        await bench.prepare(project)
        first = await bench.plain("first", ("parse",), keep=True)
        await bench.prepare(with_file(project, name=CACHE, content=first.kept), name=PARSED)
        await ready()
        await _pair(bench, "warm", threads=given.threads[0], parsed=first.kept)
        pairs = {
            threads: [
                await _pair(bench, f"{threads}-{number}", threads=threads, parsed=first.kept)
                for number in range(given.pairs)
            ]
            for threads in given.threads
        }
        sample = evenly(leaves(given.nodes), given.sample)
        processes = await _one_by_one(bench, sample) if sample else ()
    return Result(
        scenario="overhead",
        variant=given.warehouse,
        title=f"A DbtRun beside `dbt build`: {given.nodes} nodes on {given.warehouse}",
        rows=(*_rows(pairs), *_of_processes(processes, column=_column(given.threads[0]))),
        notes=f"Pairs for each number of threads: {given.pairs}. The operator runs beside the cluster."
        + (f" (d) is of {len(processes)} of the {given.nodes} nodes; nothing is extrapolated." if processes else ""),
        charts=_charts(pairs, warehouse=given.warehouse),
        machine=on,
    )


def evenly(found: Sequence[str], count: int) -> list[str]:
    """So many of them, from the first to the last."""
    count = min(count, len(found))
    return [found[place * (len(found) - 1) // max(1, count - 1)] for place in range(count)]


def _column(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _rows(pairs: Mapping[int, Sequence[Pair]]) -> Iterator[Row]:
    for threads, measured_ in pairs.items():
        for figure in FIGURES:
            yield figure.row(measured_, threads=threads)


def _of_processes(processes: Sequence[Process], *, column: str) -> Iterator[Row]:
    if processes:
        walls, spent = (tuple(round(getattr(one, name), 2) for one in processes) for name in ("wall", "spent"))
        yield Row("(d) a process of dbt for one node, which has one thread", walls, "s", column=column)
        yield Row("processors: a process of dbt for one node", spent, "s", column=column)


def _charts(pairs: Mapping[int, Sequence[Pair]], *, warehouse: str) -> tuple[Chart, ...]:
    across = tuple(str(threads) for threads in pairs)

    def medians(of: Callable[[Pair], float]) -> tuple[float, ...]:
        return tuple(round(statistics.median(of(pair) for pair in measured_), 3) for measured_ in pairs.values())

    walls = {figure.what: medians(figure.of) for figure in (PLAIN, RUN, SECOND)}
    lags = {"median": medians(lambda pair: pair.run.lag), "99 of 100": medians(lambda pair: pair.run.worst_lag)}
    return (
        Chart(f"dbt on {warehouse}", "lines", across, walls, unit="s", along="threads"),
        Chart("Lag of a DbtModel", "lines", across, lags, unit="s", along="threads", goal=0.1),
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=3, help="for each number of threads")
    options.add_argument("--nodes", type=int, default=190, help="seeds and models")
    options.add_argument("--threads", type=_numbers, default=[4], help="of dbt; several with commas: 1,2,4,8,16")
    options.add_argument("--warehouse", choices=sorted(IMAGES), default="duckdb")
    options.add_argument(
        "--sample", type=int, default=10, help="for how many nodes a process each is measured; 0: none"
    )
    given = options.parse_args()
    with new_namespace() as namespace, operator(namespace, log=LOG):
        asyncio.run(_measure(given, namespace)).save()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
