"""How soon a node that failed is executed again, and what that time is made of: `python -m benchmarks.retry`.

    python -m benchmarks.retry [--rounds 5] [--nodes 190] [--seconds 0.2] [--backoff 1]

Needs the development cluster with its images; the warehouse is the Postgres of examples/postgres. One model of the
project fails at its first execution and succeeds at the second; all others go on meanwhile, and take `--seconds` each
in Postgres, as dbt mostly waits for a warehouse. Measured is the time from the failure, as dbt in the first pod stamps
it, to the node's begin, as dbt in the pod of the retry stamps it. The pause of `spec.retry.backoff` is a part of it,
and no cost: the goal is about what comes on top. Besides, how soon a watch of DbtModels shows the failure, and the
green retry.
"""

import argparse
import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import parts
from benchmarks.bench import LOG, Bench, time_of
from benchmarks.observing import Change, Changes, ready
from benchmarks.operator import KUBECONFIG, operator
from benchmarks.project import PROFILE, SEQUENCE, failing, files, packed
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client
from tests.api import Api
from tests.conftest import new_namespace

THREADS = 4
GOAL = 5.0  # seconds above the backoff


@dataclass(frozen=True, slots=True)
class Round:
    """One failure and its retry, in seconds.

    parts: of the time after the backoff, by their words. total: the backoff and these. shown: from the failure until a
    watch shows it; green: the same of the retry's success.
    """

    parts: Mapping[str, float]
    total: float
    shown: float
    green: float


async def _round(bench: Bench, name: str, *, node: str, backoff: float) -> Round:
    reset = f"drop sequence if exists {SEQUENCE}; create sequence {SEQUENCE}"
    bench.kubectl("exec", "deployment/warehouse", "--", "psql", "--no-psqlrc", "--quiet", "--command", reset)
    with (
        Changes(bench.namespace, "dbtmodels") as models,
        Changes(bench.namespace, "jobs", group=parts.JOBS) as jobs,
        Changes(bench.namespace, "pods", group=parts.PODS) as pods,
    ):
        await asyncio.sleep(1)
        await bench.execute(name, retry={"limit": 1, "backoff": {"duration": f"{backoff:g}s"}})
        await asyncio.sleep(1)
    job = next(each.name for each in jobs.seen if each.name.startswith(f"{name}-retry-"))
    first, second = bench.events_of(f"{name}-producer-1"), bench.events_of(job)
    failed, succeeded = _result(first, node, "error"), _result(second, node, "success")
    found = parts.moments(job=job, jobs=jobs.seen, pods=pods.seen, events=second, node=node)
    shown = [each for each in models.seen if _about(each) == (name, node) and each.at > failed]
    return Round(
        parts=parts.lengths(found, since=failed + backoff),
        total=found["LogStartLine"] - failed,
        shown=next(each.at for each in shown if each.phase != "Running") - failed,
        green=next(each.at for each in shown if each.phase == "Succeeded") - succeeded,
    )


def _about(model: Change) -> tuple[str, str]:
    """Of which run and node a DbtModel is."""
    spec = model.found["spec"]
    return spec["runName"], spec["uniqueId"]


def _result(events: list[dict[str, Any]], node: str, status: str) -> float:
    results = (event for event in events if event["info"]["name"] == "NodeResult")
    wanted = (node, status)
    return next(time_of(one) for one in results if (one["data"]["unique_id"], one["data"]["status"]) == wanted)


async def _measure(given: argparse.Namespace, namespace: str) -> Result:
    on = machine()
    profile = PROFILE.format(target="postgres", threads=THREADS)
    project = [*files(given.nodes, seconds=given.seconds, fails_once=True), ("profiles.yml", profile)]
    node = f"model.bench.{failing(given.nodes)}"
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "postgres")
        await bench.prepare(packed(project))
        await ready()
        names = ("warm", *(f"run-{number}" for number in range(given.rounds)))
        _, *rounds = [await _round(bench, name, node=node, backoff=given.backoff) for name in names]
    above = tuple(round(each.total - given.backoff, 2) for each in rounds)
    split = [each.parts for each in rounds]
    return Result(
        scenario="retry",
        title="From a failure to the next try in dbt",
        rows=(
            Row(
                "from the failure to the node's next begin in dbt", tuple(round(each.total, 2) for each in rounds), "s"
            ),
            Row(f"of that above the backoff of {given.backoff:g} s", above, "s", at_most=GOAL),
            *parts.rows(split),
            Row("until a watch shows the failure", tuple(round(each.shown, 3) for each in rounds), "s"),
            Row("until a watch shows the green retry", tuple(round(each.green, 3) for each in rounds), "s"),
        ),
        notes=f"Repetitions: {given.rounds}, each in a run of {given.nodes} nodes of {given.seconds:g} s on "
        f"Postgres with {THREADS} threads, which went on. The parts are those of the time above the backoff.",
        charts=(parts.chart("From a failure to the next try", split, along="after the backoff"),),
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="how often")
    options.add_argument("--nodes", type=int, default=190, help="seeds and models")
    options.add_argument("--seconds", type=float, default=0.2, help="that each model takes in Postgres")
    options.add_argument("--backoff", type=float, default=1, help="seconds, spec.retry.backoff.duration")
    given = options.parse_args()
    with new_namespace(Api(KUBECONFIG)) as namespace, operator(namespace, log=LOG):
        asyncio.run(_measure(given, namespace)).save()


if __name__ == "__main__":
    main()
