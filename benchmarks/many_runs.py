"""Many live runs at once: `python -m benchmarks.many_runs [--runs 20] [--nodes 200] [--pace 1]`.

Needs the development cluster with its images; scale an installed operator to 0. A real run is executed first. Then so
many runs are created at once whose pods print what the first one's has printed, line by line in the same time (times
`pace`), with the time stamps of now; no pod executes dbt. For the operator they are runs like any other. Prints what
the operator needs for them, and how late the statuses of their nodes are.
"""

import argparse
import asyncio
import base64
import gzip
import json
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.observing import Watch, processors, writes
from benchmarks.overhead import Bench, lags_of
from benchmarks.results import Result, Row, machine
from benchmarks.soak import KUBECONFIG, operator, resident
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS
from tests.api import Api
from tests.conftest import new_namespace

FOLDER = "/replay"
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


async def _measure(given: argparse.Namespace, namespace: str, process: subprocess.Popen[bytes]) -> Result:
    on = machine()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, "duckdb")
        await bench.prepare(nodes=given.nodes, threads=4)
        await bench.execute("recorded")
        log = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in bench.events("recorded")).encode()
        files = {"python3": START.encode(), "replay.py": REPLAY.replace("PACE", str(given.pace)).encode()}
        files["log.gz"] = gzip.compress(log)
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        await bench.create(CONFIG_MAPS, "v1", "ConfigMap", "replay", binaryData=encoded)
        names = [f"run-{number}" for number in range(1, given.runs + 1)]
        written, spent, sizes = writes(), processors(), list[float]()
        with Watch(namespace, "dbtmodels") as models:
            before = time.time()
            running = asyncio.gather(*(bench.execute(name, podTemplate=REPLAYING) for name in names))
            while not running.done():
                await asyncio.sleep(1)
                sizes.append(resident(process.pid))
            await running
            walls = time.time() - before
        written, after = writes() - written, processors()
        lags = sorted(lag for name in names for lag in lags_of(name, bench.events(name), models))
    nodes, events = len(lags), log.count(b"\n") * given.runs
    ours = after["dbt_operator"] - spent["dbt_operator"]
    return Result(
        scenario="many_runs",
        title=f"{given.runs} live runs of {given.nodes} nodes",
        rows=(
            Row("memory of the operator, at most", (round(max(sizes), 1),), "MiB", at_most=150),
            Row("writes of the operator for a node", (round(written / nodes, 2),), at_most=3),
            Row("processor time of the operator for an event", (round(ours / events * 1e6),), "µs"),
            Row("processor time of the operator", (round(ours, 1),), "s"),
            Row("all runs, from apply to the last Succeeded", (round(walls, 1),), "s"),
            Row("lag of a status, median", (round(lags[nodes // 2], 3),), "s"),
            Row("lag of a status, 99 of 100", (round(lags[int(nodes * 0.99)], 3),), "s"),
        ),
        notes=f"{nodes:,} nodes, {events:,} events, replayed in {given.pace:g} times the time that dbt took.",
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--nodes", type=int, default=200)
    options.add_argument("--pace", type=float, default=20)
    given = options.parse_args()
    log = Path(tempfile.gettempdir()) / "dbt-operator-bench.log"
    with new_namespace(Api(KUBECONFIG)) as namespace, operator(namespace, log=log) as process:
        asyncio.run(_measure(given, namespace, process)).save()


if __name__ == "__main__":
    main()
