"""The command line of the image: `dbt-operator run` is the operator, `dbt-operator replay` reads a saved log."""

import asyncio
from datetime import timedelta
from typing import Annotated

import kopf
import structlog
import typer
from prometheus_client import start_http_server

from dbt_operator import __version__
from dbt_operator.cli.replay import replay_command
from dbt_operator.kube.client import Client
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.logs import configure_logging
from dbt_operator.plan import run as plan
from dbt_operator.reconcile.handlers import kopf_settings, registry
from dbt_operator.reconcile.manager import Manager, RunKey
from dbt_operator.reconcile.run_loop import RunLoop
from dbt_operator.settings import InvalidSettings, Settings, load_settings

_log = structlog.get_logger(__name__)

# Kubernetes gives the pod 15 s; the last statuses must be out before the process is killed.
_LAST_WRITES_SECONDS = 7.0

app = typer.Typer(
    help="dbt on Kubernetes without a workflow engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="replay")(replay_command)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def run(
    *,
    kubeconfig: Annotated[str | None, typer.Option(help="Default: the pod's own credentials, else KUBECONFIG.")] = None,
) -> None:
    """Run the operator. Settings are read from DBT_OPERATOR_* environment variables."""
    try:
        settings = load_settings()
    except InvalidSettings as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    configure_logging(level=settings.log_level, style=settings.log_format)
    asyncio.run(serve(settings=settings, kubeconfig=kubeconfig))


async def serve(*, settings: Settings, kubeconfig: str | None = None) -> None:
    """Run the operator until SIGTERM, or until a part of it has died: then the process ends, and a new one begins."""
    _log.info("starting", version=__version__, namespaces=settings.watch_namespaces or "all")
    start_http_server(settings.metrics_port)
    async with await Client.connect(kubeconfig=kubeconfig) as client:
        writer = StatusWriter(client=client, max_per_second=settings.max_writes_per_second)
        deadline = timedelta(seconds=settings.start_deadline_seconds)

        def make_loop(key: RunKey) -> RunLoop:
            return RunLoop(key=key, client=client, writer=writer, settings=plan.Settings(start_deadline=deadline))

        manager = Manager(client=client, make_loop=make_loop, namespaces=settings.watch_namespaces)
        writer.on_problem = manager.problem
        stop = asyncio.Event()
        parts = [asyncio.create_task(writer.run()), asyncio.create_task(manager.resync())]
        for part in parts:
            # Neither ends by itself. If one dies, what is left would look alive and do nothing.
            part.add_done_callback(lambda _: stop.set())
        try:
            await kopf.operator(
                registry=registry(manager),
                settings=kopf_settings(),
                standalone=True,
                # kopf would ask for the name of the user, and the pod's has none.
                identity="dbt-operator",  # type: ignore[arg-type]  # a NewType of kopf's that is not public
                clusterwide=not settings.watch_namespaces,
                namespaces=settings.watch_namespaces,
                liveness_endpoint=f"http://0.0.0.0:{settings.probe_port}/healthz",
                stop_flag=stop,
            )
        finally:
            await manager.stop()
            stored = await writer.close(within=_LAST_WRITES_SECONDS)
            _log.info("stopped", all_statuses_stored=stored)
            for part in parts:
                part.cancel()
        for outcome in await asyncio.gather(*parts, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def main() -> None:
    """Entry point."""
    app(prog_name="dbt-operator")


if __name__ == "__main__":
    main()
