"""The operator without its process: manager, loops, status writer and watches, on an API server in memory."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import kopf

from dbt_operator.kube.writer import StatusWriter
from dbt_operator.pods.images import Images
from dbt_operator.reconcile.kubernetes import KubernetesBackend
from dbt_operator.reconcile.manager import Manager
from dbt_operator.reconcile.retention import HistoryLimit, Retention
from dbt_operator.reconcile.run_key import RunKey
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.reconcile.supersession import Supersession
from dbt_operator.reconcile.watches import Watches
from tests.unit.reconcile.api_server import ApiServer
from tests.unit.reconcile.http_front import HttpFront, http_front

SPEC = {"image": "shop:1", "project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}}


def run(name: str = "nightly", *, namespace: str = "data", ended: str | None = None, **spec: Any) -> dict[str, Any]:
    """A DbtRun; `ended`: when it has."""
    status = {"phase": "Failed", "reason": "NodesFailed", "startTime": ended, "completionTime": ended} if ended else {}
    return {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {"name": name, "namespace": namespace, "generation": 1},
        "spec": SPEC | spec,
        "status": status,
    }


@dataclass
class Operator:
    """An operator on a server, and the loops that it has made."""

    server: ApiServer
    namespaces: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    default_ttl: timedelta | None = None
    history_limit: HistoryLimit = field(default_factory=HistoryLimit)
    front: HttpFront | None = None  # while it is at work
    made: list[tuple[RunKey, "weakref.ref[RunLoop]"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        client = self.server.client
        retention = Retention(
            now=lambda: client.now().timestamp(), default_ttl=self.default_ttl, limit=self.history_limit
        )
        self.writer = StatusWriter(client=client, settle_interval=0.0, quiet_interval=0.0, lazy_interval=0.0)

        supersession = Supersession()

        def make_loop(key: RunKey) -> RunLoop:
            loop = RunLoop(
                backend=KubernetesBackend.of(key, client=client, writer=self.writer, images=Images(tools="tools:1")),
                defaults=self.defaults,
                retention=retention,
                supersession=supersession,
            )
            self.made.append((key, weakref.ref(loop)))
            return loop

        self.manager = Manager(
            client=client,
            make_loop=make_loop,
            forget=lambda key: self.writer.forget(run=key.uid),
            retention=retention,
            supersession=supersession,
            namespaces=self.namespaces,
        )
        self.writer.on_problem = self.manager.problem
        self.watches = Watches(client=client, manager=self.manager, login=self._login)

    async def _login(self) -> kopf.ConnectionInfo:
        if self.front is None:
            raise RuntimeError("the operator is not at work")
        return kopf.ConnectionInfo(server=self.front.url)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """While the context lasts."""
        async with http_front(self.server) as self.front:
            tasks = [asyncio.create_task(self.writer.run()), asyncio.create_task(self.watches.run())]
            try:
                yield
            finally:
                await self.manager.stop()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("kopf ")]

    @property
    def loops(self) -> list[str]:
        """The names of the runs whose loops are still in memory."""
        gc.collect()
        return [key.name for key, loop in self.made if loop() is not None]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for is anything, and sets no event
            await asyncio.sleep(0.01)
