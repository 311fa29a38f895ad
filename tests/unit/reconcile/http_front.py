"""The API server in memory for clients that speak HTTP: kopf, and an operator that is another process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, JOBS, PODS, Resource
from dbt_operator.kube.session import Request
from tests.unit.reconcile.api_server import ApiServer

# kopf does not begin where a server has none.
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")


@dataclass
class HttpFront:
    """Passes requests on. `served`: the resources that it says to have."""

    server: ApiServer
    served: set[Resource] = field(default_factory=lambda: {NAMESPACES, DBT_RUNS, DBT_MODELS, JOBS, PODS})
    url: str = ""
    unauthorized: int = 0  # how many requests are refused for their token
    streams: dict[asyncio.Task[Any], web.StreamResponse] = field(default_factory=dict)

    def cut(self) -> None:
        """End all watches."""
        for task in list(self.streams):
            task.cancel()

    async def garble(self) -> None:
        """Answer to all watches with what is no event, as a proxy may."""
        for response in list(self.streams.values()):
            await response.write(b"<html>Bad gateway</html>\n")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        if self.unauthorized:
            self.unauthorized -= 1
            return web.json_response({"kind": "Status", "code": 401}, status=401)
        found = self._discovery(request.path)
        if found is not None:
            return web.json_response(found)
        asked = Request(
            request.method,
            request.path,
            query=list(request.query.items()),
            body=await request.json() if request.can_read_body else None,
            content_type=request.content_type,
            accept=request.headers.get("Accept", "application/json"),
        )
        try:
            if "watch" in request.query:
                return await self._watch(request, asked)
            return web.Response(body=await self.server.send(asked, seconds=30), content_type="application/json")
        except ApiError as error:
            status = {"kind": "Status", "code": error.status, "reason": error.reason, "message": error.message}
            return web.json_response(status, status=error.status)

    async def _watch(self, request: web.Request, asked: Request) -> web.StreamResponse:
        async with self.server.stream(asked, read_timeout=300) as pieces:
            response = web.StreamResponse()
            await response.prepare(request)
            reading = asyncio.create_task(_pass(pieces, response))
            self.streams[reading] = response
            try:
                await asyncio.wait([reading])
            finally:
                del self.streams[reading]
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        return response

    def _discovery(self, path: str) -> dict[str, object] | None:
        groups: dict[str, list[Resource]] = {}
        for resource in self.served:
            groups.setdefault(resource.api_version, []).append(resource)
        match path.strip("/").split("/"):
            case ["api"]:
                return {"versions": ["v1"]}
            case ["apis"]:
                named = {resource.group: resource.version for resource in self.served if resource.group}
                versions = {group: {"version": version} for group, version in named.items()}
                return {
                    "groups": [
                        {"name": group, "versions": [version], "preferredVersion": version}
                        for group, version in versions.items()
                    ]
                }
            case ["api", version]:
                return {"resources": [_described(one) for one in groups.get(version, [])]}
            case ["apis", group, version]:
                return {"resources": [_described(one) for one in groups.get(f"{group}/{version}", [])]}
        return None


async def _pass(pieces: AsyncIterator[bytes], response: web.StreamResponse) -> None:
    with suppress(ConnectionError):
        async for piece in pieces:
            await response.write(piece)


def _described(resource: Resource) -> dict[str, object]:
    singular = resource.kind.lower()
    verbs = ["list", "watch", "patch"]
    return {
        "name": resource.plural,
        "singularName": singular,
        "kind": resource.kind,
        "namespaced": resource != NAMESPACES,
        "verbs": verbs,
    }


@asynccontextmanager
async def http_front(server: ApiServer) -> AsyncIterator[HttpFront]:
    """The server at an address of this machine, while the context lasts."""
    front = HttpFront(server)
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", front.handle)
    # A watch whose client is gone is to end.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        front.url = f"http://{host}:{port}"
        yield front
    finally:
        await runner.cleanup()
