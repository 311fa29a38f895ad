"""The parts of the operator put together: the client, the status writer, the manager of the loops, and the watches.

Stopping goes from the inside to the outside: first the loops, so that nothing new is to be written; then the writer,
after everything is stored; then the rest.
"""

import asyncio
import signal
from functools import partial

import structlog

from dbt_operator import __version__
from dbt_operator.kube.client import Client
from dbt_operator.kube.login import connection_info
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.pods.images import Images
from dbt_operator.reconcile.endpoints import endpoints
from dbt_operator.reconcile.kubernetes import KubernetesBackend
from dbt_operator.reconcile.manager import Manager
from dbt_operator.reconcile.retention import HistoryLimit, Retention, ttl_of
from dbt_operator.reconcile.run_key import RunKey
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.reconcile.supersession import Supersession
from dbt_operator.reconcile.watches import Watches
from dbt_operator.settings import Settings

_log = structlog.get_logger(__name__)

# Kubernetes gives the pod 15 s; the last statuses must be out before the process is killed.
_LAST_WRITES_SECONDS = 7.0


async def serve(*, settings: Settings, kubeconfig: str | None = None) -> None:
    """Run the operator until SIGTERM, or until a part of it has died: its error is raised, and the process ends."""
    _log.info("starting", version=__version__, namespaces=settings.watch_namespaces or "all")
    async with await Client.connect(kubeconfig=kubeconfig) as client:
        writer = StatusWriter(client=client, max_per_second=settings.max_writes_per_second)
        manager = _manager(client=client, writer=writer, settings=settings)
        async with endpoints(probe_port=settings.probe_port, metrics_port=settings.metrics_port, check=manager.check):
            watches = Watches(client=client, manager=manager, login=partial(connection_info, kubeconfig=kubeconfig))
            await _work(writer=writer, manager=manager, watches=watches)


async def _work(*, writer: StatusWriter, manager: Manager, watches: Watches) -> None:
    stopped = asyncio.create_task(_asked_to_stop())
    # None of these ends by itself. If one dies, the process would look alive and do nothing.
    parts = [
        asyncio.create_task(writer.run()),
        asyncio.create_task(manager.resync()),
        asyncio.create_task(watches.run()),
    ]
    await asyncio.wait([*parts, stopped], return_when=asyncio.FIRST_COMPLETED)
    died = [part for part in parts if part.done()]
    await manager.stop()
    stored = await writer.close(within=_LAST_WRITES_SECONDS)
    for task in (*parts, stopped):
        task.cancel()
    await asyncio.gather(*parts, stopped, return_exceptions=True)
    _log.info("stopped", all_statuses_stored=stored)
    for part in died:
        part.result()


def _manager(*, client: Client, writer: StatusWriter, settings: Settings) -> Manager:
    retention, supersession = _retention(client=client, settings=settings), Supersession()
    images = Images(tools=settings.tools_image)

    def make_loop(key: RunKey) -> RunLoop:
        backend = KubernetesBackend.of(
            key, client=client, writer=writer, images=images, most_models=settings.max_models_per_run
        )
        return RunLoop(backend=backend, defaults=settings.defaults, retention=retention, supersession=supersession)

    def forget(key: RunKey) -> None:
        writer.forget(run=key.uid)

    manager = Manager(
        client=client,
        make_loop=make_loop,
        forget=forget,
        retention=retention,
        supersession=supersession,
        namespaces=settings.watch_namespaces,
    )
    writer.on_problem = manager.problem
    return manager


def _retention(*, client: Client, settings: Settings) -> Retention:
    limit = HistoryLimit(
        label=settings.history_limit_label,
        succeeded=settings.history_limit_succeeded,
        failed=settings.history_limit_failed,
    )
    return Retention(
        now=lambda: client.now().timestamp(),
        default_ttl=ttl_of(settings.defaults),
        limit=limit,
    )


async def _asked_to_stop() -> None:
    """Return when the process is told to stop."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()
    _log.info("stopping")
