"""What a run costs in etcd: `python -m benchmarks.etcd`.

Needs the local development cluster with the images of the jaffle shop and of the tests. Executes a run of each project,
and reads from etcd itself what is kept of it after its end, with the number of times that each object was written.
Events are not part of the sum, as Kubernetes deletes them after an hour.
"""

import asyncio
import base64
import json
import sys
import tempfile
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import ENDED
from benchmarks.operator import KUBECONFIG, new_namespace, operator
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_RUNS
from dev.cluster.components import ETCD_URL
from tests.e2e.conftest import project, run_manifest

PROJECTS: Mapping[str, dict[str, Any]] = {"jaffle shop": {}, "many models": project("many")}


@dataclass(slots=True)
class Cost:
    """What objects of a kind cost."""

    objects: int = 0
    stored: int = 0  # bytes
    writes: int = 0


def costs(namespace: str) -> dict[str, Cost]:
    """By kind, what etcd has of a namespace besides what every namespace has."""
    found: dict[str, Cost] = defaultdict(Cost)
    for entry in _everything():
        path = base64.b64decode(entry["key"]).decode().split("/")
        kind, name = path[-3], path[-1]
        if path[-2] != namespace or kind in ("namespaces", "serviceaccounts") or name == "kube-root-ca.crt":
            continue
        cost = found[f"{kind} {name.partition('-')[2]}" if kind == "configmaps" else kind]
        cost.objects += 1
        cost.stored += len(base64.b64decode(entry["value"])) + len(base64.b64decode(entry["key"]))
        cost.writes += int(entry["version"])
    return found


def _everything() -> list[dict[str, Any]]:
    first, last = (base64.b64encode(key).decode() for key in (b"/registry/", b"/registry0"))
    body = json.dumps({"key": first, "range_end": last}).encode()
    request = urllib.request.Request(f"{ETCD_URL}/v3/kv/range", data=body)  # noqa: S310 - http, our own
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        entries: list[dict[str, Any]] = json.load(answer)["kvs"]
    return entries


async def execute(manifest: dict[str, Any], *, namespace: str) -> dict[str, Any]:
    """Execute a run; returns its status."""
    manifest["metadata"]["namespace"] = namespace
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        await client.create(resource=DBT_RUNS, manifest=manifest)
        status: dict[str, Any] = {}
        while status.get("phase") not in ENDED:
            await asyncio.sleep(1)
            run = await client.get(resource=DBT_RUNS, namespace=namespace, name=manifest["metadata"]["name"])
            status = run.get("status") or {}
    await asyncio.sleep(5)
    return status


def main() -> int:
    """Measure, and print a table for each project."""
    for name, fields in PROJECTS.items():
        with tempfile.NamedTemporaryFile() as log, new_namespace() as namespace:
            with operator(namespace, log=Path(log.name)):
                status = asyncio.run(execute(run_manifest("nightly", **fields), namespace=namespace))
            found = costs(namespace)
        print(f"\n{name}: {status['phase']}, {status['nodes']['total']} nodes, {status['tests']['total']} tests")
        for kind, cost in sorted(found.items()):
            print(f"  {kind:24} {cost.objects:4} objects {cost.stored / 1000:8.1f} KB {cost.writes:5} writes")
        kept = [cost for kind, cost in found.items() if kind != "events"]
        stored, writes = sum(cost.stored for cost in kept) / 1000, sum(cost.writes for cost in kept)
        print(f"  {'together':24} {'':12} {stored:8.1f} KB {writes:5} writes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
