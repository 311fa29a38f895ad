"""The command line: `run` is the operator, `local` does without a cluster, `replay` reads a saved log.

What a command needs is imported once it is chosen: who runs dbt on a laptop needs no client of Kubernetes.
"""

from typing import Annotated

import typer

from dbt_operator import __version__
from dbt_operator.cli import local

app = typer.Typer(
    help="dbt on Kubernetes without a workflow engine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # a plain help is there three times as fast
    pretty_exceptions_enable=False,
)
app.add_typer(local.app, name="local")


@app.command()
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A saved pod log, or - for standard input.")],
) -> None:
    """Fold a saved pod log as the controller does when the pod has ended; print nodes and run as JSON lines."""
    from dbt_operator.cli.replay import replay_command

    replay_command(file)


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
    import asyncio

    from dbt_operator.logs import configure_logging
    from dbt_operator.reconcile.operator import serve
    from dbt_operator.settings import InvalidSettings, load_settings

    try:
        settings = load_settings()
    except InvalidSettings as error:
        typer.echo(error, err=True)
        raise typer.Exit(2) from error
    configure_logging(level=settings.log_level, style=settings.log_format)
    asyncio.run(serve(settings=settings, kubeconfig=kubeconfig))


def main() -> None:
    """Entry point."""
    app(prog_name="dbt-operator")


if __name__ == "__main__":
    main()
