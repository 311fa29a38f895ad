"""What the process answers over HTTP: whether it is well, and its metrics."""

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.aiohttp import make_aiohttp_handler

# The cluster gives a pod an address of IPv4, of IPv6 or of both.
_ANY = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))  # noqa: S104 - the kubelet and Prometheus are elsewhere
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


@asynccontextmanager
async def endpoints(*, probe_port: int, metrics_port: int, check: Callable[[], str | None]) -> AsyncIterator[None]:
    """Serve /healthz and /metrics while the context lasts. `check`: what is wrong with the process, if anything.

    Raises: OSError where a port is taken.
    """

    async def healthz(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text=wrong or "ok", status=200 if wrong is None else 503)

    async with AsyncExitStack() as stack:
        await _serve(stack, path="/healthz", handler=healthz, port=probe_port)
        await _serve(stack, path="/metrics", handler=make_aiohttp_handler(), port=metrics_port)
        yield


async def _serve(stack: AsyncExitStack, *, path: str, handler: Handler, port: int) -> None:
    app = web.Application()
    app.add_routes([web.get(path, handler)])
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for listener in _listeners(port):
        await web.SockSite(runner, listener).start()


def _listeners(port: int) -> list[socket.socket]:
    """A socket for each family of addresses that the machine has."""
    found: list[socket.socket] = []
    missing: list[OSError] = []
    for family, address in _ANY:
        try:
            found.append(_listener(family, address, port))
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY:
                missing.append(error)
                continue
            for listener in found:
                listener.close()
            raise
    if not found:
        raise missing[0]
    return found


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family is socket.AF_INET6:
            # Otherwise a setting of the machine decides whether it takes connections of IPv4 as well.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener
