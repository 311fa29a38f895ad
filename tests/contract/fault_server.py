"""An HTTP server on loopback for what a healthy API server does not do on demand: overload, cuts, silence.

It is no imitation of Kubernetes: what Kubernetes does is tested against Kubernetes. It stores objects by path so that
a request whose answer got lost has an effect.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from aiohttp.typedefs import Handler

from tests.unit.kube.test_merge_patch import applied

Fault = Callable[[web.Request], web.Response | str | None]
"""What a request gets: another answer, "lost" or "cut" (with effect), "hang", or None: the usual answer."""


def refusal(status: int, reason: str = "", message: str = "", **headers: str) -> web.Response:
    """An error as the API server sends it."""
    body = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}
    return web.json_response(
        body, status=status, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


class FaultServer:
    """Objects by path, and a fault for each request."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str] = []
        self.faults: list[web.Response | str | None] = []
        self.fault: Fault = lambda _: self.faults.pop(0) if self.faults else None
        self.version = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.requests.append((request.method, request.path_qs))
        self.tokens.append(request.headers.get("Authorization", ""))
        fault = self.fault(request)
        if isinstance(fault, web.Response):
            return fault
        if fault == "hang":
            await asyncio.sleep(30)
        answer = self.answer(request.method, request.path, await request.text())
        if fault == "lost":
            assert request.transport is not None
            request.transport.abort()
        if fault == "cut":
            half = web.StreamResponse(headers={"Content-Length": "1000"})
            await half.prepare(request)
            await half.write(b'{"meta')
            assert request.transport is not None
            request.transport.abort()
            return half
        return answer

    def answer(self, method: str, path: str, text: str) -> web.Response:
        """The answer without faults: create, read, merge-patch, delete."""
        body = json.loads(text) if text else {}
        self.version += 1
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return refusal(409, "AlreadyExists", "already exists")
            self.objects[path] = applied(body, {"metadata": {"uid": f"uid-{self.version}"}})
        path = path.removesuffix("/status")
        if path not in self.objects:
            return refusal(404, "NotFound", "not found")
        if method == "DELETE":
            return web.json_response(self.objects.pop(path))
        if method == "PATCH":
            expected = body.get("metadata", {}).get("resourceVersion")
            if expected not in (None, self.objects[path]["metadata"]["resourceVersion"]):
                return refusal(409, "Conflict", "the object has been modified")
            self.objects[path] = applied(self.objects[path], body)
        if method != "GET":
            self.objects[path]["metadata"]["resourceVersion"] = str(self.version)
        return web.json_response(self.objects[path])


@asynccontextmanager
async def fault_server(folder: Path, *, handle: Handler | None = None) -> AsyncIterator[tuple[FaultServer, Path]]:
    """The server, and a kubeconfig for it, with its token in a file. `handle`: what answers instead of it."""
    server = FaultServer()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handle or server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (folder / "token").write_text("first")
    config = {
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "test", "user": {"tokenFile": str(folder / "token")}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    try:
        yield server, path
    finally:
        await runner.cleanup()
