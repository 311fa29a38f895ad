"""Many live runs at once: `python -m benchmarks.many_runs [--runs 20] [--nodes 200] [--pace 20]`.

Needs the development cluster with its images. A real run is executed first. Then so many runs are created at once whose
pods print what the first one's has printed, line by line in the same time (times `pace`), with the time stamps of now;
no pod executes dbt. For the operator they are runs like any other. Shows what the operator needs for them, how late the
statuses of their nodes are, and how much later than that of a run alone the end of each is shown.
"""

import argparse
import asyncio
import base64
import gzip
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench import ENDED, LOG, Bench, time_of
from benchmarks.beside import lags_of
from benchmarks.observing import Changes, Watch, processors, ready, writes
from benchmarks.operator import KUBECONFIG, new_namespace, operator, resident
from benchmarks.project import archive
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS

FOLDER = "/replay"
RUN = "dbt-operator.io/run"  # the label of a pod
DELAY = 1.0  # seconds by which the end of a run may be shown later for the others
START = f'#!/bin/sh\nPATH="${{PATH#*:}}" exec python3 {FOLDER}/replay.py\n'
REPLAY = f"""\
import datetime, gzip, json, re, sys, time
stamp = re.compile(rb'"ts":"([^"]*)"')
began, first = time.time(), None
for line in gzip.open("{FOLDER}/log.gz"):
    at = datetime.datetime.fromisoformat(stamp.search(line)[1].decode().replace("Z", "+00:00")).timestamp()
    first = at if first is None else first
    time.sleep(max(0, began + (at - first) * PACE - time.time()))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z").encode()
    sys.stdout.buffer.write(stamp.sub(b'"ts":"' + now + b'"', line, count=1))
    sys.stdout.buffer.flush()
"""
REPLAYING = {
    "spec": {
        "volumes": [{"name": "replay", "configMap": {"name": "replay", "defaultMode": 0o555}}],
        "containers": [
            {
                "name": "dbt",
                "env": [{"name": "PATH", "value": f"{FOLDER}:/usr/local/bin:/usr/bin:/bin"}],
                "volumeMounts": [{"name": "replay", "mountPath": FOLDER}],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            }
        ],
    }
}


@dataclass(frozen=True, slots=True)
class Replayed:
    """Runs at once.

    sizes: MiB of the operator's memory, once a second. ends: of each run, the seconds from its last event until a watch
    shows it as Succeeded; shown: those of them after a watch has shown that its pod has ended. lags: of
    all nodes, in ascending order. spent: seconds of processors, by the operator.
    """

    sizes: tuple[float, ...]
    ends: tuple[float, ...]
    shown: tuple[float, ...]
    lags: tuple[float, ...]
    writes: float
    spent: float
    seconds: float


async def _replay(bench: Bench, names: Sequence[str], *, process: subprocess.Popen[bytes]) -> Replayed:
    written, spent, sizes = writes(), processors(), list[float]()
    space = bench.namespace
    with (
        Watch(space, "dbtmodels") as models,
        Watch(space, "dbtruns") as runs,
        Changes(space, "pods", group="/api/v1") as pods,
    ):
        before = time.time()
        running = asyncio.gather(*(bench.execute(name, podTemplate=REPLAYING) for name in names))
        while not running.done():
            await asyncio.sleep(1)
            sizes.append(resident(process.pid))
        await running
        seconds = time.time() - before
    written, after = writes() - written, processors()
    events = {name: bench.events(name) for name in names}
    over = {
        change.found["metadata"]["labels"][RUN]: change.at for change in reversed(pods.seen) if change.phase in ENDED
    }
    return Replayed(
        sizes=tuple(sizes),
        ends=tuple(round(runs.seen[name, ""][1] - time_of(events[name][-1]), 3) for name in names),
        shown=tuple(round(runs.seen[name, ""][1] - over[name], 3) for name in names),
        lags=tuple(sorted(lag for name in names for lag in lags_of(name, events[name], models))),
        writes=written,
        spent=after["dbt_operator"] - spent["dbt_operator"],
        seconds=seconds,
    )


async def _measure(given: argparse.Namespace, namespace: str, process: subprocess.Popen[bytes]) -> Result:
    on = machine()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "duckdb")
        await bench.prepare(archive(given.nodes, target="duckdb", threads=4))
        await ready()
        await bench.execute("recorded")
        log = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in bench.events("recorded")).encode()
        files = {"python3": START.encode(), "replay.py": REPLAY.replace("PACE", str(given.pace)).encode()}
        files["log.gz"] = gzip.compress(log)
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        await bench.create(CONFIG_MAPS, "v1", "ConfigMap", "replay", binaryData=encoded)
        alone = await _replay(bench, ["alone"], process=process)
        found = await _replay(bench, [f"run-{number}" for number in range(1, given.runs + 1)], process=process)
    nodes, events = len(found.lags), log.count(b"\n") * given.runs
    return Result(
        scenario="many_runs",
        title=f"{given.runs} live runs of {given.nodes} nodes",
        rows=(
            Row("memory of the operator, at most", (round(max(found.sizes), 1),), "MiB", at_most=150),
            Row("writes of the operator for a node", (round(found.writes / nodes, 2),), at_most=3),
            Row("processors: the operator, for an event", (round(found.spent / events * 1e6),), "µs"),
            Row("processors: the operator", (round(found.spent, 1),), "s"),
            Row("all runs, from apply to the last Succeeded", (round(found.seconds, 1),), "s"),
            Row("from a run's last event until it is shown as Succeeded", found.ends, "s"),
            Row("the same of a run that is alone", alone.ends, "s"),
            Row("the slowest beside one alone", (round(max(found.ends) - alone.ends[0], 3),), "s", at_most=DELAY),
            Row("of that, after its pod was shown as ended", found.shown, "s"),
            Row("of that, of a run that is alone", alone.shown, "s"),
            Row("lag of a status, median", (round(found.lags[nodes // 2], 3),), "s"),
            Row("lag of a status, 99 of 100", (round(found.lags[int(nodes * 0.99)], 3),), "s"),
        ),
        notes=f"{nodes:,} nodes, {events:,} events, replayed in {given.pace:g} times the time that dbt took.",
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=20, help="at once")
    options.add_argument("--nodes", type=int, default=200, help="of each")
    options.add_argument("--pace", type=float, default=20, help="how many times slower than dbt they say it")
    given = options.parse_args()
    with new_namespace() as namespace, operator(namespace, log=LOG) as process:
        asyncio.run(_measure(given, namespace, process)).save()


if __name__ == "__main__":
    main()
