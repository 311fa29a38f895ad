"""The parts of the operator put together: the client, the status writer, the manager of the loops, and kopf.

Stopping goes from the inside to the outside: first the loops, so that nobody wants anything new, then the writer once
everything is stored, then kopf. The other way round kopf, which takes every task of the event loop for its own, would
cancel the loops and the writes that are on their way.
"""

import asyncio
import signal
from datetime import timedelta

import kopf
import structlog
from prometheus_client import start_http_server

from dbt_operator import __version__
from dbt_operator.kube.client import Client
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.reconcile.handlers import kopf_settings, registry
from dbt_operator.reconcile.manager import Manager, RunKey
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.settings import Settings

_log = structlog.get_logger(__name__)

# Kubernetes gives the pod 15 s; the last statuses must be out before the process is killed.
_LAST_WRITES_SECONDS = 7.0
_KOPF_SECONDS = 2.0


async def serve(*, settings: Settings, kubeconfig: str | None = None) -> None:
    """Run the operator until SIGTERM, or until a part of it has died: its error is raised, and the process ends."""
    _log.info("starting", version=__version__, namespaces=settings.watch_namespaces or "all")
    start_http_server(settings.metrics_port)
    async with await Client.connect(kubeconfig=kubeconfig) as client:
        writer = StatusWriter(client=client, max_per_second=settings.max_writes_per_second)
        manager = _manager(client=client, writer=writer, settings=settings)
        watching, watch_no_more = asyncio.Event(), asyncio.Event()
        stopped = asyncio.create_task(_asked_to_stop(watching))
        # None of these ends by itself. When one dies, what is left would look alive and do nothing.
        parts = [
            asyncio.create_task(writer.run()),
            asyncio.create_task(manager.resync()),
            asyncio.create_task(_watch(manager, settings=settings, ready=watching, stop=watch_no_more)),
        ]
        await asyncio.wait([*parts, stopped], return_when=asyncio.FIRST_COMPLETED)
        died = [part for part in parts if part.done()]
        await manager.stop()
        stored = await writer.close(within=_LAST_WRITES_SECONDS)
        watch_no_more.set()
        await asyncio.wait(parts, timeout=_KOPF_SECONDS)
        for task in (*parts, stopped):
            task.cancel()
        await asyncio.gather(*parts, stopped, return_exceptions=True)
        _log.info("stopped", all_statuses_stored=stored)
        for part in died:
            part.result()


def _manager(*, client: Client, writer: StatusWriter, settings: Settings) -> Manager:
    start_deadline = timedelta(seconds=settings.start_deadline_seconds)

    def make_loop(key: RunKey) -> RunLoop:
        return RunLoop(key=key, client=client, writer=writer, start_deadline=start_deadline)

    manager = Manager(client=client, make_loop=make_loop, namespaces=settings.watch_namespaces)
    writer.on_problem = manager.problem
    return manager


async def _watch(manager: Manager, *, settings: Settings, ready: asyncio.Event, stop: asyncio.Event) -> None:
    await kopf.operator(
        registry=registry(manager),
        settings=kopf_settings(),
        standalone=True,
        # kopf would ask for the name of the user, and the pod's has none.
        identity="dbt-operator",  # type: ignore[arg-type]  # a NewType of kopf's that is not public
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        liveness_endpoint=f"http://0.0.0.0:{settings.probe_port}/healthz",
        ready_flag=ready,
        stop_flag=stop,
    )


async def _asked_to_stop(watching: asyncio.Event) -> None:
    """Return when the process is told to stop. kopf sets handlers of its own as it starts; these replace them."""
    await watching.wait()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()
    _log.info("stopping")
