"""How soon things begin, and what that time is made of: `python -m benchmarks.start [--rounds 5] [--demo]`.

Needs the development cluster with its images. Measured are, each as often as `--rounds` says:

- from `kubectl apply` of a DbtRun of the jaffle shop, whose image has the project and its parse cache, to the begin of
  its first node in dbt, in its parts; and beside it a plain pod of the same image until its Python begins;
- from the start of the operator's process to the first status of a DbtRun that has waited for it;

and once, how large the images are on the cluster's machine. `--demo` executes `make demo` twice as well, and measures
the second: it installs the operator, so it needs a cluster that nobody else uses.
"""

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import parts
from benchmarks.bench import LOG, Bench
from benchmarks.observing import Changes, ready
from benchmarks.operator import KUBECONFIG, kubectl, new_namespace, operator, without_the_installed_one
from benchmarks.project import archive
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_RUNS
from dev.images import stable_reference
from tests.conftest import CHECKOUT
from tests.e2e.conftest import run_manifest

SIZES = ("dbt-operator", "tools", "jaffle-shop")


@dataclass(frozen=True, slots=True)
class Round:
    """A DbtRun and a plain pod. parts: seconds, by their words. plain: seconds until the pod's Python begins."""

    parts: Mapping[str, float]
    plain: float

    @property
    def total(self) -> float:
        """Seconds from apply to the begin of the first node."""
        return round(sum(self.parts.values()), 2)


async def _round(bench: Bench, name: str) -> Round:
    plain = await bench.plain(f"plain-{name}")
    with (
        Changes(bench.namespace, "jobs", group=parts.JOBS) as jobs,
        Changes(bench.namespace, "pods", group=parts.PODS) as pods,
    ):
        await asyncio.sleep(1)
        applied = time.time()
        await bench.create_run(name, run_manifest(name)["spec"])
        await bench.succeeds(name)
    job = f"{name}-producer-1"
    found = parts.moments(job=job, jobs=jobs.seen, pods=pods.seen, events=bench.events_of(job))
    return Round(parts=parts.lengths(found, since=applied), plain=round(plain.began, 2))


async def _rounds(bench: Bench, count: int) -> list[Round]:
    with operator(bench.namespace, log=LOG):
        await ready()
        await _round(bench, "warm")
        return [await _round(bench, f"run-{number}") for number in range(count)]


async def _first_status(bench: Bench, name: str) -> float:
    """Seconds from the start of the operator's process until a watch shows the first status of a DbtRun."""
    # An operator that is installed would be the one that shows it.
    with without_the_installed_one():
        await bench.create_run(name, run_manifest(name, suspend=True)["spec"])
        with Changes(bench.namespace, "dbtruns") as runs:
            await asyncio.sleep(1)
            with operator(bench.namespace, log=LOG):
                began = time.time()
                shown = await runs.first(lambda change: change.name == name and bool(change.phase))
    await bench.delete(DBT_RUNS, name)
    return round(shown - began, 2)


def _demo() -> float:
    """Seconds of a `make demo` whose images are built and whose operator is installed."""
    for _ in range(2):
        before = time.monotonic()
        done = subprocess.run(["/usr/bin/env", "make", "demo"], cwd=CHECKOUT, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"make demo has failed: {done.stdout}{done.stderr}")
    return round(time.monotonic() - before, 1)


def sizes(nodes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """MB of our images, as the kubelets say it of the cluster's machines."""
    images = [one for node in nodes for one in node["status"]["images"]]
    found = {name: one["sizeBytes"] for one in images for name in one.get("names") or ()}
    for name in SIZES:
        if stable_reference(name) in found:
            yield name, round(found[stable_reference(name)] / 1e6)


async def _measure(given: argparse.Namespace, namespace: str) -> Result:
    on = machine()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "duckdb")
        await bench.prepare(archive(100, target="duckdb", threads=4))
        rounds = await _rounds(bench, given.rounds)
        first = [await _first_status(bench, f"waits-{number}") for number in range(given.rounds)]
    split = [each.parts for each in rounds]
    demo = [Row("make demo, the second time", (_demo(),), "s")] if given.demo else []
    images = sizes(json.loads(kubectl("get", "nodes", "--output=json"))["items"])
    return Result(
        scenario="start",
        title="From apply to the first node",
        rows=(
            Row("from apply to the first node's begin in dbt", tuple(each.total for each in rounds), "s"),
            *parts.rows(split),
            Row("a plain pod of the image, until its Python begins", tuple(each.plain for each in rounds), "s"),
            Row("from the operator's start to its first status", tuple(first), "s"),
            *demo,
            *(Row(f"image {name}", (size,), "MB") for name, size in images),
        ),
        notes=f"Repetitions: {given.rounds}, of the jaffle shop, one after the other.",
        charts=(parts.chart("From apply to the first node", split, along="after apply"),),
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="how often")
    options.add_argument("--demo", action="store_true", help="measure `make demo`, too")
    given = options.parse_args()
    with new_namespace() as namespace:
        asyncio.run(_measure(given, namespace)).save()


if __name__ == "__main__":
    main()
