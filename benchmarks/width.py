"""What more nodes cost: `python -m benchmarks.width [--nodes 100,300,1000,3000]`.

Needs the development cluster with its images; scale an installed operator to 0. One DbtRun of each size, on DuckDB with
four threads. Prints how late statuses are, and what the operator and the cluster need for a node. Every node has to
have succeeded in the end.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.observing import ready
from benchmarks.overhead import Bench
from benchmarks.results import Result, Row, machine
from benchmarks.soak import KUBECONFIG, operator
from dbt_operator.kube.client import Client
from tests.api import Api
from tests.conftest import new_namespace

GOAL = 3000  # nodes, at which the lag has a goal


async def _run(namespace: str, nodes: int) -> dict[str, float]:
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "duckdb")
        await bench.prepare(nodes=nodes, threads=4)
        await ready()
        found = await bench.run("run")
    if found["nodes"] != nodes:
        raise SystemExit(f"{found['nodes']:.0f} of {nodes} nodes were shown with their end.")
    return found


def _rows(measured: dict[int, dict[str, float]]) -> Iterator[Row]:
    for nodes, found in measured.items():
        goal = 0.5 if nodes == GOAL else None
        yield Row(f"{nodes:,} nodes: lag of a DbtModel, median", (round(found["lag median"], 3),), "s")
        yield Row(f"{nodes:,} nodes: lag of a DbtModel, 99 of 100", (round(found["lag p99"], 3),), "s", at_most=goal)
        yield Row(f"{nodes:,} nodes: dbt", (round(found["dbt"], 1),), "s")
        yield Row(f"{nodes:,} nodes: from apply to Succeeded", (round(found["wall"], 1),), "s")
        for what, key in (("the operator", "operator"), ("the cluster's parts", "cluster")):
            each = round(found[key] / nodes * 1000, 1)
            yield Row(f"{nodes:,} nodes: processor time of {what} for a node", (each,), "ms")


def _measure(sizes: Sequence[int]) -> Result:
    on, measured = machine(), dict[int, dict[str, float]]()
    log = Path(tempfile.gettempdir()) / "dbt-operator-bench.log"
    for nodes in sizes:
        with new_namespace(Api(KUBECONFIG)) as namespace, operator(namespace, log=log):
            measured[nodes] = asyncio.run(_run(namespace, nodes))
    return Result(scenario="width", title="Runs of more nodes", rows=tuple(_rows(measured)), machine=on)


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", default="100,300,1000,3000")
    _measure([int(size) for size in options.parse_args().nodes.split(",")]).save()


if __name__ == "__main__":
    main()
