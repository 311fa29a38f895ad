"""The whole process, told to stop while it works: nothing that it knows is lost, and it ends at once and in order."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.session import Request
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.http_front import http_front
from tests.unit.reconcile.operator import run, until
from tests.unit.reconcile.test_endpoints import free_ports


def kubeconfig(url: str) -> str:
    return yaml.safe_dump(
        {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
        }
    )


@asynccontextmanager
async def process(server: ApiServer, folder: Path, *namespaces: str) -> AsyncIterator[Process]:
    """The operator as a process of its own."""
    probes, metrics = free_ports()
    async with http_front(server) as front:
        (folder / "kubeconfig").write_text(kubeconfig(front.url))
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dbt_operator", "run", "--kubeconfig", str(folder / "kubeconfig")),
            env={
                "PYTHONPATH": "controller",
                "DBT_OPERATOR_WATCH_NAMESPACES": ",".join(namespaces),
                "DBT_OPERATOR_PROBE_PORT": str(probes),
                "DBT_OPERATOR_METRICS_PORT": str(metrics),
            },
            stderr=PIPE,
        )
        try:
            yield started
        finally:
            if started.returncode is None:
                started.kill()
                _, log = await started.communicate()
                print(log.decode())  # noqa: T201 - shown when the test fails


async def stopped(started: Process, *, by: signal.Signals) -> list[dict[str, Any]]:
    """Its log, once it has ended well."""
    started.send_signal(by)
    _, log = await started.communicate()
    assert started.returncode == 0, log.decode()
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_told_to_stop_ends_in_order(by: signal.Signals, tmp_path: Path) -> None:
    server, refused = ApiServer(), asyncio.Event()

    async def refuse(_: Request, target: Target) -> None:
        if target.namespace == "gone":
            refused.set()
            raise ApiError(status=403, reason="Forbidden", message="you may not")

    server.before = refuse
    async with process(server, tmp_path, "gone", "data") as started:
        server.put("dbtruns", run())
        await until(lambda: server.names("jobs") == ["nightly-producer-1"] and refused.is_set())
        log = await stopped(started, by=by)
    assert server.objects["dbtruns", "data", "nightly"]["status"]["phase"] in ("Pending", "Starting")
    assert [line["event"] for line in log if line["level"] == "info"][-2:] == ["stopping", "stopped"]
    assert log[-1]["all_statuses_stored"] is True
    refusals = [(line["logger"], line["event"]) for line in log if "you may not" in str(line)]
    assert {event for _, event in refusals} <= {"cannot watch"}  # kopf's own words are not repeated
    assert len(refusals) == len(set(refusals))


async def test_a_process_that_has_hardly_begun_ends_as_well(tmp_path: Path) -> None:
    server, asked = ApiServer(), asyncio.Event()

    async def hold(_: Request, target: Target) -> None:
        if target.plural == "dbtruns":
            asked.set()
            await asyncio.Event().wait()

    server.before = hold
    async with process(server, tmp_path, "data") as started:
        await asked.wait()
        log = await stopped(started, by=signal.SIGTERM)
    assert [line["level"] for line in log if line["level"] != "info"] == []
