"""Many nodes that wait for BigQuery: without dbt, with as many threads of dbt as there are nodes, and as Dagster waits.

    python -m benchmarks.async_fanout [--nodes 1 5 20 100 …] [--seconds 3] [--dbt 300] [--dagster 300] [--rounds 3]

The project is that many tables that read nothing; the fake of BigQuery's jobs (`tests/bigquery`) has jobs that take
that long. "fan-out" is from the first job that was submitted to the last result that was printed: it has a floor of
the seconds of a job. The memory is that of the process that waits, while it waits, as the kernel has it. Both runs go
through the runner, one after the other, on the same machine.

Beside them dagster-async-executor waits as long in as many operations (`benchmarks.dagster_fanout`), which ask
nobody for anything; its time is from the start of the run to its end. It is installed into an environment of its own.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from benchmarks.charts import Chart
from benchmarks.results import Result, Row, machine
from dbt_operator.pods.archive import build_archive
from dev import dbt_venv
from tests.bigquery.conftest import PROFILE
from tests.bigquery.fake import Behaviour, FakeBigQuery
from tests.bigquery.server import serve

PROJECT = {
    "name": "wide",
    "version": "1.0",
    "profile": "shop",
    "flags": {"send_anonymous_usage_stats": False},
    "models": {"+materialized": "table"},
}


ASYNC, DBT, DAGSTER = "Async", "dbt, as many threads", "dagster-async-executor"
# Seconds of the fan-out by the number of nodes, and what the process that waits may hold in MiB.
GOALS = {300: 3.6, 1000: 5.0}
MOST_MEMORY = 80.0


@dataclass(frozen=True)
class Measured:
    """One run. Times in seconds, memory in MiB."""

    nodes: int
    way: str
    wall: float
    fan_out: float
    cpu: float
    memory: float
    requests: int

    def row(self) -> str:
        """A row of a table."""
        return (
            f"| {self.nodes} | {self.way} | {self.wall:.1f} | {self.fan_out:.2f} | {self.cpu:.1f} |"
            f" {self.memory:.0f} | {self.requests} |"
        )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, nargs="+", default=[1, 5, 20, 100, 300, 1000])
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--dbt", type=int, nargs="*", default=[300], help="with how many nodes dbt is measured too")
    options.add_argument("--dagster", type=int, nargs="*", default=[300], help="with how many operations Dagster is")
    options.add_argument("--submissions", type=int, default=1000, help="spec.async.submissionsPerSecond")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--print", action="store_true", help="and store nothing")
    given = options.parse_args()
    on = machine()
    found = [one for _ in range(given.rounds) for one in rounds(given)]
    result = Result(
        scenario="async_fanout",
        title="Many nodes that wait for BigQuery",
        rows=tuple(_rows(found)),
        charts=(_chart(found),),
        notes=f"Jobs of {given.seconds:g} s, {given.submissions} submissions a second. Fan-out: from the first job to"
        " the last result. Memory: while the jobs run; of Dagster its peak.",
        machine=on,
    )
    print("\n".join(result.table())) if given.print else result.save()


def rounds(given: argparse.Namespace) -> Iterator[Measured]:
    """Each way with each number of nodes, once."""
    settings = json.dumps({"maxInFlight": 1000, "submissionsPerSecond": given.submissions})
    for nodes in given.nodes:
        run = ["--executor=Async", f"--async-settings={settings}"]
        yield _told(measured(nodes, ASYNC, seconds=given.seconds, options=run, dbt=()))
        if nodes in given.dbt:
            threads = (f"--threads={nodes}",)
            yield _told(measured(nodes, DBT, seconds=given.seconds, options=(), dbt=threads))
        if nodes in given.dagster:
            yield _told(of_dagster(nodes, seconds=given.seconds))


def _told(one: Measured) -> Measured:
    print(one.row(), file=sys.stderr, flush=True)
    return one


def _rows(found: Sequence[Measured]) -> Iterator[Row]:
    """What is kept: of each number of nodes three figures, with a column for each way."""
    for nodes in sorted({one.nodes for one in found}):
        for what, name, unit, goal in (
            ("fan-out", "fan_out", "s", GOALS.get(nodes)),
            ("processor", "cpu", "s", None),
            ("memory", "memory", "MiB", MOST_MEMORY),
        ):
            for way in (ASYNC, DBT, DAGSTER):
                values = tuple(round(getattr(one, name), 2) for one in found if (one.nodes, one.way) == (nodes, way))
                if values:
                    bound = goal if way == ASYNC else None
                    yield Row(f"{what}, {nodes} {'node' if nodes == 1 else 'nodes'}", values, unit, bound, column=way)


def _chart(found: Sequence[Measured]) -> Chart:
    """The fan-out without dbt, by the number of nodes."""
    sizes = sorted({one.nodes for one in found})
    middle = [statistics.median(one.fan_out for one in found if (one.nodes, one.way) == (n, ASYNC)) for n in sizes]
    return Chart("Fan-out", "bars", tuple(map(str, sizes)), {ASYNC: tuple(middle)}, unit="s", along="nodes")


def of_dagster(operations: int, *, seconds: float) -> Measured:
    """As many operations of Dagster, which ask nobody for anything."""
    python = dbt_venv.ensure(requirements=dbt_venv.FOLDER / "dagster.txt")
    program = Path(__file__).with_name("dagster_fanout.py")
    with tempfile.TemporaryDirectory() as folder:
        # By itself, as beside its own file there are modules that are called as some of Python's.
        own = shutil.copy(program, folder)
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "DAGSTER_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [str(python), own, str(operations), str(seconds)],
            env=environ,
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    return Measured(nodes=operations, way=DAGSTER, requests=0, **json.loads(done.stdout))


def measured(nodes: int, way: str, *, seconds: float, options: Sequence[str], dbt: Sequence[str]) -> Measured:
    """One run of this many models."""
    fake = FakeBigQuery(behaviours=[Behaviour("create or replace table", seconds=seconds)])
    with tempfile.TemporaryDirectory() as folder, serve(fake) as server:
        home = Path(folder)
        (home / "project" / "models").mkdir(parents=True)
        (home / "project" / "dbt_project.yml").write_text(yaml.safe_dump(PROJECT))
        (home / "project" / "profiles.yml").write_text(yaml.safe_dump(PROFILE))
        for number in range(nodes):
            (home / "project" / "models" / f"m{number:04}.sql").write_text(f"select {number} as id")
        (home / "runner.pyz").write_bytes(build_archive())
        python = dbt_venv.ensure(requirements=dbt_venv.FOLDER / "dbt-bigquery.txt")
        own = ["--attempt=producer-1", "--run-uid=bench", "--began-in=1", f"--project-dir={home / 'project'}", *options]
        environ = {"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder, "BIGQUERY": server.url}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(
            [str(python), str(home / "runner.pyz"), *own, "--", "run", *dbt],
            env={**environ, "DBT_TARGET_PATH": str(home / "target")},
            cwd=home,
            stdout=subprocess.PIPE,
        )
        with process, memory_of(process.pid) as samples:
            lines = [json.loads(line) for line in process.stdout or ()]
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        jobs = fake.created("create or replace table")
        if process.returncode != 0 or len(jobs) != nodes:
            raise RuntimeError(f"{way} with {nodes} nodes ended with {process.returncode} and {len(jobs)} jobs")
        ended = [line["info"]["ts"] for line in lines if line["info"]["name"] == "NodeResult"]
        first = min(job.created for job in jobs) / 1000
        last = datetime.fromisoformat(max(ended)).timestamp()
        waiting = [size for at, size in samples if first + seconds / 2 <= at <= first + seconds] or [0.0]
        return Measured(
            nodes=nodes,
            way=way,
            wall=wall,
            fan_out=last - first,
            cpu=(after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime),
            memory=statistics.median(waiting),
            requests=len(fake.journal),
        )


@contextmanager
def memory_of(pid: int) -> Iterator[list[tuple[float, float]]]:
    """What the process and its children have in memory, by the clock, in MiB."""
    samples: list[tuple[float, float]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            children = Path(f"/proc/{pid}/task/{pid}/children")
            try:
                pids = [str(pid), *children.read_text().split()]
                samples.append((time.time(), sum(_resident(one) for one in pids)))
            except OSError:
                continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _resident(pid: str) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)


if __name__ == "__main__":
    main()
