"""A watch of metadata on a real API server, and what it does when that one refuses, forgets or falls silent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from dbt_operator.kube.client import ApiError, Client
from dbt_operator.kube.resources import CONFIG_MAPS
from dbt_operator.kube.watch import Change, Patience, Watch
from tests.contract.fault_server import fault_server, refusal
from tests.contract.test_client import QUICK, config_map

HASTY = Patience(silence=0.3, between=0.01, first=0.01, longest=0.05)


class Heard:
    """What a watch has told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, bool]] = []
        self.objects: list[dict[str, Any]] = []
        self.refusals = 0  # how often it is not taken at first

    async def take(self, change: Change) -> None:
        if self.refusals:
            self.refusals -= 1
            raise ApiError(status=503, reason="ServiceUnavailable")
        self.changes.append((change.obj["metadata"]["name"], change.gone))
        self.objects.append(change.obj)


@asynccontextmanager
async def watching(client: Client, namespace: str | None, **how: Any) -> AsyncIterator[Heard]:
    heard = Heard()
    watch = Watch(client=client, resource=CONFIG_MAPS, namespace=namespace, sink=heard.take, **how)
    task = asyncio.create_task(watch.run())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for happens elsewhere, and sets no event
            await asyncio.sleep(0.02)


async def test_what_is_there_is_told_and_then_every_change(client: Client, namespace: str) -> None:
    await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "a"))
    async with watching(client, namespace) as heard:
        await until(lambda: ("kube-root-ca.crt", False) in heard.changes and ("a", False) in heard.changes)
        heard.changes.clear()
        heard.objects.clear()
        await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "b"))
        changed = {"metadata": {"annotations": {"dbt-operator.io/retry": "now"}}}
        await client.patch(resource=CONFIG_MAPS, namespace=namespace, name="a", patch=changed)
        await client.delete(resource=CONFIG_MAPS, namespace=namespace, name="b")
        await until(lambda: heard.changes == [("b", False), ("a", False), ("b", True)])
    assert heard.objects[1]["metadata"]["annotations"] == {"dbt-operator.io/retry": "now"}


async def test_of_an_object_nothing_but_the_metadata_is_sent(client: Client, namespace: str) -> None:
    annotations = {"dbt-operator.io/retry": "now"}
    await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "a", annotations=annotations))
    async with watching(client, namespace) as heard:
        await until(lambda: ("a", False) in heard.changes)
        await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "b", annotations=annotations))
        await until(lambda: ("b", False) in heard.changes)
    ours = [obj for obj in heard.objects if obj["metadata"]["name"] in ("a", "b")]
    assert [obj["metadata"]["annotations"] for obj in ours] == [annotations, annotations]
    assert all("data" not in obj for obj in ours)
    listed = await client.list(resource=CONFIG_MAPS, namespace=namespace, metadata_only=True)
    assert all("data" not in obj for obj in listed)


async def test_a_change_that_could_not_be_taken_is_told_again(client: Client, namespace: str) -> None:
    async with watching(client, namespace, patience=HASTY) as heard:
        await until(lambda: ("kube-root-ca.crt", False) in heard.changes)
        heard.refusals = 2
        await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "a"))
        await until(lambda: heard.refusals == 0 and ("a", False) in heard.changes)


class Streams:
    """A server of watches: a list of one object, then a stream of lines for each time that it is watched."""

    def __init__(self) -> None:
        self.refusals: list[web.Response] = []  # of the next requests
        self.streams: list[list[dict[str, Any] | str | None]] = []  # None: says no more, and does not end
        self.lists = 0
        self.since: list[str] = []  # from which versions it was watched

    def answer(self, request: web.Request) -> web.Response | web.StreamResponse | None:
        if self.refusals:
            return self.refusals.pop(0)
        if "watch" in request.query:
            return None
        self.lists += 1
        items = [{"metadata": {"name": f"listed-{self.lists}", "resourceVersion": "5"}}]
        return web.json_response({"metadata": {"resourceVersion": str(100 * self.lists)}, "items": items})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.answer(request)
        if answer is not None:
            return answer
        self.since.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        for event in self.streams.pop(0) if self.streams else [None]:
            if event is None:
                await asyncio.sleep(30)
            await response.write(json.dumps(event).encode() + b"\n")
        return response


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}}}


GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcd"}}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Streams, Client]]:
    streams = Streams()
    async with (
        fault_server(folder, handle=streams.handle) as (_, path),
        await Client.connect(kubeconfig=str(path), request_timeout=0.5, retry=QUICK) as client,
    ):
        yield streams, client


async def test_a_stream_that_ends_or_falls_silent_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, client):
        server.streams = [
            [event("ADDED", "a", 101), event("BOOKMARK", "", 150)],
            [event("MODIFIED", "a", 151), None],
            [event("DELETED", "a", 152), BROKEN],
            ["<html>Bad gateway</html>"],
            [{"kind": "Status"}],
        ]
        async with watching(client, None, patience=HASTY) as heard:
            await until(lambda: len(server.since) >= 6)
    assert server.since[:6] == ["100", "150", "151", "152", "152", "152"]
    assert heard.changes == [("listed-1", False), ("a", False), ("a", False), ("a", True)]
    assert server.lists == 1


async def test_where_the_server_has_forgotten_the_version_all_is_listed_anew(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, client):
        server.streams = [[GONE]]
        async with watching(client, None, patience=HASTY) as heard:
            await until(lambda: server.lists == 2 and len(server.since) == 2)
            server.refusals = [refusal(410, "Expired", "too old")]
            await until(lambda: server.lists == 3 and server.since[-1] == "300")
    assert [name for name, _ in heard.changes] == ["listed-1", "listed-2", "listed-3"]


async def test_what_is_refused_is_asked_for_until_it_is_allowed(tmp_path: Path) -> None:
    async with served(tmp_path) as (server, client):
        server.refusals = [refusal(403, "Forbidden", "no")] * 5 + [refusal(404, "NotFound", "no CRD")] * 5
        server.streams = [[event("ADDED", "a", 101), None]]
        async with watching(client, None, patience=HASTY) as heard:
            await until(lambda: ("a", False) in heard.changes)
            server.refusals = [refusal(403, "Forbidden", "no")] * 3
            server.streams = [[event("ADDED", "b", 102), None]]
            await until(lambda: ("b", False) in heard.changes)
    assert server.lists == 1
