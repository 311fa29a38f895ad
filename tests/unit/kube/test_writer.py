"""The status writer where the API server has too much to do, on an event loop whose time passes at once."""

import asyncio
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, cast

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.objects import Objects
from dbt_operator.kube.resources import DBT_MODELS
from dbt_operator.kube.writer import StatusWriter
from tests.simulation.world import VirtualLoop


@dataclass
class Overloaded:
    """An API server that answers 429 to the first request, and asks to wait for a minute."""

    asked: list[tuple[float, str]] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)

    async def patch(self, *, name: str, patch: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        self.asked.append((asyncio.get_running_loop().time(), name))
        if len(self.asked) == 1:
            raise ApiError(status=429, reason="TooManyRequests", message="try again later", retry_after=60.0)
        self.stored[name] = patch["status"]
        return {"metadata": {"name": name, "uid": name, "resourceVersion": "2"}, "status": patch["status"]}


async def _written(server: Overloaded, nodes: int) -> None:
    writer = StatusWriter(client=cast(Objects, server), max_per_second=10, burst=10, concurrency=1)
    task = asyncio.create_task(writer.run())
    for number in range(nodes):
        writer.submit(run="uid", resource=DBT_MODELS, namespace="data", name=f"n{number}", status={"phase": "Running"})
    assert await writer.close(within=3600)
    await task


def test_nobody_writes_before_the_time_is_over_that_the_server_asks_for_and_nothing_is_lost() -> None:
    server = Overloaded()
    with closing(VirtualLoop()) as loop:
        loop.run_until_complete(_written(server, 30))
    (first, refused), *rest = server.asked
    assert all(at >= first + 60 for at, _ in rest)
    assert len(server.stored) == 30
    assert refused in server.stored
    # Afterwards all come at the pace that the writer keeps to, not at once.
    assert rest[-1][0] - rest[0][0] >= (len(rest) - 10) / 10 - 1e-6
