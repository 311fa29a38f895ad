"""The command line of the image: `dbt-operator run` is the operator, `dbt-operator replay` reads a saved log."""

import asyncio
from typing import Annotated

import typer

from dbt_operator import __version__
from dbt_operator.cli.replay import replay_command
from dbt_operator.logs import configure_logging
from dbt_operator.reconcile.operator import serve
from dbt_operator.settings import InvalidSettings, load_settings

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


def main() -> None:
    """Entry point."""
    app(prog_name="dbt-operator")


if __name__ == "__main__":
    main()
