"""A watch of metadata: all changes of the objects of a resource, whatever becomes of the connection.

      ┌──── the version is too old ────┐
      ▼                                │
    list, in pages ──► follow from that version ──► the stream ends, breaks or is silent
                              ▲                                    │
                              └────────────────────────────────────┘

DbtModels are watched in this way, all else by kopf (`kopf_watch.py`). There are hundreds of them for each run, of which
only an annotation matters. kopf asks for all of each object and keeps a little of it for as long as it exists: of the
hundred thousand DbtModels of a cluster that keeps its runs for a month that is a hundred megabytes, and each node that
dbt executes would be sent again with its whole status. Here neither spec nor status is asked for, and objects are
handed on and forgotten.

What was deleted while nobody was connected for so long that the server has forgotten it is not told. A watch never
gives up: what the server refuses (a right was taken away, the namespace is gone) is asked for again every half minute,
and concerns no other watch.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from dbt_operator.kube.api_error import NETWORK, ApiError, from_status
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import Object, Resource

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it is now, or as it was at last when it is gone."""

    obj: Object
    gone: bool = False


Sink = Callable[[Change], Awaitable[None]]
"""Gets every change in its order. Where it raises an ApiError it gets the change again, later."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    server: int = 300  # after which the server is to end a stream
    # Of a stream before it is opened anew, from where it was. The server sends a bookmark about once a minute.
    silence: float = 90.0
    between: float = 0.5  # the end of a stream and the next one
    first: float = 1.0  # after an error, growing …
    longest: float = 30.0  # … to this


class Watch:
    """Of the metadata of all objects of a resource in a namespace (None: in all)."""

    def __init__(
        self,
        *,
        client: Client,
        resource: Resource,
        namespace: str | None,
        sink: Sink,
        patience: Patience | None = None,
    ) -> None:
        self._client, self._resource, self._namespace = client, resource, namespace
        self._sink, self._patience = sink, patience or Patience()
        self._version: str | None = None  # up to which everything was handed on
        self._failures = 0

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            try:
                if self._version is None:
                    self._version = await self._list()
                await self._follow(self._version)
                pause = self._patience.between
            except ApiError as error:
                pause = self._failed(error)
            await asyncio.sleep(pause)

    async def _list(self) -> str:
        version = ""
        async for page in self._client.pages(resource=self._resource, namespace=self._namespace, metadata_only=True):
            version = page.version
            for obj in page.items:
                await self._sink(Change(obj))
        return version

    async def _follow(self, version: str) -> None:
        stream = self._client.open_watch(
            resource=self._resource,
            namespace=self._namespace,
            version=version,
            seconds=self._patience.server,
            read_timeout=self._patience.silence,
        )
        async with stream as pieces:
            self._recovered()
            try:
                async for line in _lines(pieces):
                    await self._take(line)
            except ApiError as error:
                if error.status != NETWORK:
                    raise
                _log.debug("a watch broke off", resource=self._resource.plural, error=str(error))

    async def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line)
            kind, obj = event["type"], event["object"]
        except (msgspec.DecodeError, KeyError, TypeError) as error:  # not from the API server, but a proxy before it
            raise ApiError(
                status=NETWORK, reason="Garbled", message=f"not an event of a watch: {line[:80]!r}"
            ) from error
        if kind == "ERROR":
            raise from_status(obj)
        if kind != "BOOKMARK":
            await self._sink(Change(obj, gone=kind == "DELETED"))
        self._version = obj["metadata"]["resourceVersion"]

    def _failed(self, error: ApiError) -> float:
        """Take note of an error; how long to wait."""
        if error.expired:
            self._version = None
            return self._patience.between
        if not self._failures:
            _log.warning("cannot watch", **self._what, error=str(error))
        pause = min(self._patience.longest, self._patience.first * 2.0 ** min(self._failures, 10))
        self._failures += 1
        # What failed together does not come back together.
        return pause * random.uniform(0.7, 1.0)  # noqa: S311  # jitter, no secret

    def _recovered(self) -> None:
        if self._failures:
            _log.info("watches again", **self._what)
        self._failures = 0

    @property
    def _what(self) -> dict[str, str]:
        return {"resource": self._resource.plural, "in_namespace": self._namespace or "all"}


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a stream; what comes after its last line break is a part of one, and dropped."""
    rest: list[bytes] = []
    async for piece in pieces:
        *lines, last = piece.split(b"\n")
        for line in lines:
            yield b"".join([*rest, line])
            rest.clear()
        rest.append(last)
