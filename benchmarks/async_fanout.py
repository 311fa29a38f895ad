"""Many nodes that wait for BigQuery: without dbt, and with as many threads of dbt as there are nodes.

    python -m benchmarks.async_fanout [--nodes 1 5 20 100 300 1000] [--seconds 3] [--dbt 300]

The project is that many tables that read nothing, and the fake of BigQuery's jobs (`tests/bigquery`), whose jobs take
that long. "fan-out" is from the first job that was submitted to the last result that was printed: it has a floor of
the seconds of a job. The memory is that of the process that waits, while it waits, as the kernel has it. Both runs go
through the runner, one after the other, on the same machine.
"""

import argparse
import json
import os
import resource
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
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, nargs="+", default=[1, 5, 20, 100, 300, 1000])
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--dbt", type=int, nargs="*", default=[300], help="with how many nodes dbt is measured too")
    options.add_argument("--submissions", type=int, default=1000, help="spec.async.submissionsPerSecond")
    given = options.parse_args()
    settings = json.dumps({"maxInFlight": 1000, "submissionsPerSecond": given.submissions})
    out = sys.stdout
    out.write(f"load {os.getloadavg()[0]:.1f}; jobs of {given.seconds} s; {given.submissions} submissions a second\n\n")
    out.write("| nodes | way | wall s | fan-out s | CPU s | MiB | requests |\n|---|---|---|---|---|---|---|\n")
    for nodes in given.nodes:
        run = ["--executor=Async", f"--async-settings={settings}"]
        out.write(measured(nodes, "Async", seconds=given.seconds, options=run, dbt=()).row() + "\n")
        out.flush()
        if nodes in given.dbt:
            threads = (f"--threads={nodes}",)
            way = f"dbt, {nodes} threads"
            out.write(measured(nodes, way, seconds=given.seconds, options=(), dbt=threads).row() + "\n")
            out.flush()


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
        python = dbt_venv.location(requirements=dbt_venv.FOLDER / "dbt-bigquery.txt") / "bin" / "python"
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
