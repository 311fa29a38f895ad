"""What more nodes cost: `python -m benchmarks.width [--nodes 100,300,1000,3000]`.

Needs the development cluster with its images. One DbtRun of each size, on DuckDB with four threads. Shows how late
statuses are, and what the operator and the cluster need for a node. Every node has to have succeeded in the end. With
10,000 nodes (`--nodes 10000`) it takes half an hour, and dbt a gigabyte of memory.
"""

import argparse
import asyncio
import json
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import SEEK_END
from typing import Any

from benchmarks.bench import LOG, PROJECT, Bench
from benchmarks.beside import Measured, measured
from benchmarks.charts import Chart
from benchmarks.observing import ready
from benchmarks.operator import KUBECONFIG, KUBECTL, new_namespace, operator
from benchmarks.project import archive
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client

GOAL, LAG = 3000, 0.5  # at so many nodes the lag has a goal, in seconds
MEMORY = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}}


class _Wide(Bench):
    """Reads the log while it is written: of a long one the kubelet has only the last 10 MiB in the end."""

    async def execute(self, name: str, *, archive: str = PROJECT, **more: Any) -> None:
        """Execute a DbtRun of the project, and follow its log. Raises: SystemExit where it does not succeed."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is read after the run
        following = asyncio.create_task(self._follow(name))
        pod = {"spec": {"containers": [{"name": "dbt", "resources": MEMORY}]}}
        await super().execute(name, archive=archive, podTemplate=pod, **more)
        await following

    async def _follow(self, run: str) -> None:
        command = (KUBECTL, "--kubeconfig", str(KUBECONFIG), "--namespace", self.namespace, "logs", "--follow")
        which = ("-l", f"dbt-operator.io/run={run}", "-c", "dbt", "--tail=-1")
        while not self._log.tell():  # there is no log before its container runs
            await asyncio.sleep(0.5)
            process = await asyncio.create_subprocess_exec(*command, *which, stdout=self._log, stderr=DEVNULL)
            await process.wait()
            self._log.seek(0, SEEK_END)

    def events(self, run: str) -> list[dict[str, Any]]:
        """What the pod of the run has printed."""
        del run  # there is one
        self._log.seek(0)
        return [json.loads(line) for line in self._log if line.startswith(b"{") and line.endswith(b"\n")]


async def _run(namespace: str, nodes: int) -> Measured:
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = _Wide(client, namespace, "duckdb")
        await bench.prepare(archive(nodes, target="duckdb", threads=4))
        await ready()
        found = await measured(bench, "run")
    if found.nodes != nodes:
        raise SystemExit(f"{found.nodes} of {nodes} nodes were shown with their end.")
    return found


def _rows(runs: Mapping[int, Measured]) -> Iterator[Row]:
    for nodes, found in runs.items():
        column = f"{nodes:,} nodes"
        goal = LAG if nodes == GOAL else None
        yield Row("lag of a DbtModel, median", (round(found.lag, 3),), "s", column=column)
        yield Row("lag of a DbtModel, 99 of 100", (round(found.worst_lag, 3),), "s", at_most=goal, column=column)
        yield Row("dbt", (round(found.dbt, 1),), "s", column=column)
        yield Row("from apply to Succeeded", (round(found.wall, 1),), "s", column=column)
        yield Row("writes of the operator for a node", (round(found.writes / nodes, 2),), column=column)
        for what, spent in (("the operator", found.operator), ("the cluster's parts", found.cluster)):
            yield Row(f"processors: {what}, for a node", (round(spent / nodes * 1000, 1),), "ms", column=column)


def _charts(runs: Mapping[int, Measured]) -> Iterator[Chart]:
    across = tuple(f"{nodes:,}" for nodes in runs)

    def each(of: Callable[[Measured], float], *, for_a_node: bool = False) -> tuple[float, ...]:
        return tuple(round(of(found) * (1000 / nodes if for_a_node else 1), 3) for nodes, found in runs.items())

    lags = {"median": each(lambda found: found.lag), "99 of 100": each(lambda found: found.worst_lag)}
    spent = {
        "the operator": each(lambda found: found.operator, for_a_node=True),
        "the cluster's parts": each(lambda found: found.cluster, for_a_node=True),
        "dbt (wall)": each(lambda found: found.dbt, for_a_node=True),
    }
    yield Chart("Lag of a DbtModel", "lines", across, lags, unit="s", along="nodes")
    yield Chart("Time for a node", "lines", across, spent, unit="ms", along="nodes")


def _measure(sizes: Sequence[int]) -> Result:
    on, runs = machine(), dict[int, Measured]()
    for nodes in sizes:
        with new_namespace() as namespace, operator(namespace, log=LOG):
            runs[nodes] = asyncio.run(_run(namespace, nodes))
    return Result(
        scenario="width",
        title="Runs of more nodes",
        rows=tuple(_rows(runs)),
        notes="One run of each size, on DuckDB with 4 threads; each has succeeded, with all of its nodes.",
        charts=tuple(_charts(runs)),
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", default="100,300,1000,3000", help="of each run, with commas")
    _measure([int(size) for size in options.parse_args().nodes.split(",")]).save()


if __name__ == "__main__":
    main()
