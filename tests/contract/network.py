"""A TCP proxy before the API server that cuts connections: the one fault of the network that a local cluster lacks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml


@dataclass
class Proxy:
    """Passes bytes on, and cuts a connection after so many from the server, for as long as there are `cuts` left."""

    host: str
    port: int
    cut_after: int
    cuts: int
    open_connections: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        self.open_connections |= {writer, upstream_writer}
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._pass(reader, upstream_writer, limited=False))
                down = group.create_task(self._pass(upstream_reader, writer, limited=True))
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            for one in (writer, upstream_writer):
                self.open_connections.discard(one)
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limited: bool) -> None:
        passed = 0
        try:
            while data := await reader.read(16384):
                writer.write(data)
                await writer.drain()
                passed += len(data)
                if limited and self.cuts > 0 and passed > self.cut_after:
                    self.cuts -= 1
                    return
        except ConnectionError:
            return


@asynccontextmanager
async def cutting_proxy(
    *, kubeconfig: Path, folder: Path, cut_after: int, cuts: int
) -> AsyncIterator[tuple[Path, Proxy]]:
    """A kubeconfig that leads through the proxy, and the proxy."""
    config = yaml.safe_load(kubeconfig.read_bytes())  # noqa: ASYNC240  # nothing else is running yet
    cluster = config["clusters"][0]["cluster"]
    address = urlsplit(cluster["server"])
    proxy = Proxy(address.hostname or "", address.port or 443, cut_after, cuts)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    cluster["server"] = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))  # as above
    try:
        yield path, proxy
    finally:
        server.close()
        for connection in list(proxy.open_connections):
            connection.transport.abort()
