"""How soon a node that failed is executed again, and what that time is made of: `python -m benchmarks.retry`.

    python -m benchmarks.retry [--rounds 5] [--nodes 190] [--seconds 0.2] [--backoff 1]

Needs the development cluster with its images; the warehouse is the Postgres of examples/postgres. One model of a
project fails at its first execution and succeeds at the second; all others go on meanwhile, and take some time in
Postgres, as dbt mostly waits for a warehouse. Measured is the time from the failure, as dbt in the first pod stamps it,
to the node's begin, as dbt in the pod of the retry stamps it. The pause of `spec.retry.backoff` is a part of it, and no
cost: the goal is about what comes on top. Besides, how soon a watch of DbtModels shows the failure and the green retry.

Two projects: a generated one of `--nodes`, which each pod fetches from an archive, with the parse cache of the run's
first pod; and that of the fault tests (61 nodes), which is in the image of its runs, with its parse cache, as is usual.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import parts
from benchmarks.bench import LIMITS, LOG, Bench, time_of
from benchmarks.charts import Chart
from benchmarks.observing import Change, Changes, ready
from benchmarks.operator import KUBECONFIG, new_namespace, operator
from benchmarks.project import PROFILE, SEQUENCE, failing, files, packed
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client
from dev.chaos.project import NODES, SCHEMA, SLEEP_MS, fields

THREADS = 4
GOAL = 5.0  # seconds above the backoff
FAILING = "layer1_02"  # of the project of the fault tests


@dataclass(frozen=True, slots=True)
class Case:
    """A project. where: it is. node: that fails. reset: a statement after which it will fail. spec: of its runs."""

    where: str
    node: str
    reset: str
    spec: Mapping[str, Any]


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


def _cases(nodes: int) -> tuple[Case, Case]:
    pod = {"containers": [{"name": "dbt", "resources": LIMITS}]}
    settings = {"sleep_ms": SLEEP_MS, "fail_times": {FAILING: 1}}
    in_image = Case(
        where="project in the image",
        node=f"model.chaos.{FAILING}",
        reset=f"drop table if exists {SCHEMA}.tries",
        spec=fields(settings=settings, pod=pod),
    )
    in_archive = Case(
        where="project in an archive",
        node=f"model.bench.{failing(nodes)}",
        reset=f"drop sequence if exists {SEQUENCE}; create sequence {SEQUENCE}",
        spec={},
    )
    return in_archive, in_image


async def _round(bench: Bench, name: str, case: Case, *, backoff: float) -> Round:
    psql = ("psql", "--no-psqlrc", "--quiet", "--command", case.reset)
    bench.kubectl("exec", "deployment/warehouse", "--", *psql)
    with (
        Changes(bench.namespace, "dbtmodels") as models,
        Changes(bench.namespace, "jobs", group=parts.JOBS) as jobs,
        Changes(bench.namespace, "pods", group=parts.PODS) as pods,
    ):
        await asyncio.sleep(1)
        await bench.execute(name, retry={"limit": 1, "backoff": {"duration": f"{backoff:g}s"}}, **case.spec)
        await asyncio.sleep(1)
    job = next(each.name for each in jobs.seen if each.name.startswith(f"{name}-retry-"))
    first, second = bench.events_of(f"{name}-producer-1"), bench.events_of(job)
    failed, succeeded = _result(first, case.node, "error"), _result(second, case.node, "success")
    found = parts.moments(job=job, jobs=jobs.seen, pods=pods.seen, events=second, node=case.node)
    shown = [each for each in models.seen if _about(each) == (name, case.node) and each.at > failed]
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


def _rows(rounds: Sequence[Round], *, backoff: float, column: str) -> Iterator[Row]:
    def row(what: str, values: Sequence[float], at_most: float | None = None) -> Row:
        return Row(what, tuple(round(value, 3) for value in values), "s", at_most=at_most, column=column)

    yield row("from the failure to the node's next begin in dbt", [each.total for each in rounds])
    yield row(f"of that above the backoff of {backoff:g} s", [each.total - backoff for each in rounds], GOAL)
    yield from parts.rows([each.parts for each in rounds], column=column)
    yield row("until a watch shows the failure", [each.shown for each in rounds])
    yield row("until a watch shows the green retry", [each.green for each in rounds])


def _chart(case: Case, rounds: Sequence[Round]) -> Chart:
    title = f"From a failure to the next try, {case.where}"
    return parts.chart(title, [each.parts for each in rounds], along="after the backoff")


async def _measure(given: argparse.Namespace, namespace: str) -> Result:
    on, measured = machine(), list[tuple[Case, list[Round]]]()
    profile = PROFILE.format(target="postgres", threads=THREADS)
    project = [*files(given.nodes, seconds=given.seconds, fails_once=True), ("profiles.yml", profile)]
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "postgres")
        await bench.prepare(packed(project))
        await ready()
        for number, case in enumerate(_cases(given.nodes)):
            names = (f"warm-{number}", *(f"run-{number}-{round_}" for round_ in range(given.rounds)))
            _, *rounds = [await _round(bench, name, case, backoff=given.backoff) for name in names]
            measured.append((case, rounds))
    return Result(
        scenario="retry",
        title="From a failure to the next try in dbt",
        rows=tuple(row for case, rounds in measured for row in _rows(rounds, backoff=given.backoff, column=case.where)),
        notes=f"Repetitions: {given.rounds}, each in a run on Postgres with {THREADS} threads, which went on. The "
        f"archive has {given.nodes} nodes of {given.seconds:g} s, the image {NODES} nodes of {SLEEP_MS / 1000:g} s. "
        "The parts are those of the time above the backoff.",
        charts=tuple(_chart(case, rounds) for case, rounds in measured),
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="how often, with each project")
    options.add_argument("--nodes", type=int, default=190, help="seeds and models of the project in an archive")
    options.add_argument("--seconds", type=float, default=0.2, help="that each of its models takes in Postgres")
    options.add_argument("--backoff", type=float, default=1, help="seconds, spec.retry.backoff.duration")
    given = options.parse_args()
    with new_namespace() as namespace, operator(namespace, log=LOG):
        asyncio.run(_measure(given, namespace)).save()


if __name__ == "__main__":
    main()
