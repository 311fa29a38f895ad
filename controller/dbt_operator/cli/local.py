"""`dbt-operator local`: the same runs without a cluster. Nothing is imported before a command is chosen."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from dbt_operator.local.commands import Session

app = typer.Typer(
    help="DbtRuns without a cluster: the same manifests, retries and statuses, with processes of this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_State = Annotated[
    Path, typer.Option("--state", envvar="DBT_OPERATOR_LOCAL_STATE", help="Where runs are kept.", metavar="FOLDER")
]
_STATE = Path(".dbt-operator")
_Watch = Annotated[
    Optional[bool],  # noqa: UP045 - what typer reads
    typer.Option("--watch/--no-watch", help="A live table, or a line for each change. Default: whichever suits."),
]
_Run = Annotated[str, typer.Argument(metavar="RUN", help="The name of the run.")]


def _do(state: Path, command: "Callable[[Session], int]", *, make: bool = False) -> None:
    """Run a command, and end with its exit code. What cannot be done is one sentence."""
    from dbt_operator.local.commands import CommandError, session

    _quiet()
    try:
        code = command(session(state, make=make))
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(error.code) from None
    except BrokenPipeError:  # whoever has read the output has seen enough
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(code)


def _quiet() -> None:
    """What the operator would log is on the screen already, or in the Events of the run."""
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@app.command()
def run(
    files: Annotated[
        list[str], typer.Option("--filename", "-f", metavar="FILE", help="A file, a folder, or - for standard input.")
    ],
    *,
    project_dir: Annotated[
        Optional[Path],  # noqa: UP045 - what typer reads
        typer.Option(metavar="FOLDER", help="The dbt project, in the place of that of the image or the volume."),
    ] = None,
    secrets: Annotated[
        Optional[Path],  # noqa: UP045 - what typer reads
        typer.Option(metavar="FOLDER", help="Secrets as folders: the file NAME/KEY has the key KEY of Secret NAME."),
    ] = None,
    env_file: Annotated[
        Optional[Path],  # noqa: UP045 - what typer reads
        typer.Option(metavar="FILE", help="Lines NAME=VALUE: SECRET_NAME_KEY has the key KEY of Secret NAME."),
    ] = None,
    junit: Annotated[
        Optional[Path],  # noqa: UP045 - what typer reads
        typer.Option(metavar="FILE", help="Write a report as JUnit does: a case for each node and test."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, also what has not ended.")] = False,
    watch: _Watch = None,
    state: _State = _STATE,
) -> None:
    """Execute the DbtRuns of manifests, one after the other; go on with what was stopped."""
    from dbt_operator.local import commands

    options = commands.Options(
        files=tuple(files),
        project=project_dir,
        secrets=secrets,
        env_file=env_file,
        fresh=fresh,
        watch=watch,
        junit=junit,
    )
    _do(state, lambda at: commands.run(options, at=at), make=True)


@app.command()
def get(
    kinds: Annotated[str, typer.Argument(metavar="KIND[,KIND]", help="dbtruns, dbtmodels, dbtconnections.")],
    names: Annotated[Optional[list[str]], typer.Argument(metavar="NAME")] = None,  # noqa: UP045 - what typer reads
    *,
    run: Annotated[Optional[str], typer.Option(metavar="RUN", help="Only what belongs to this run.")] = None,  # noqa: UP045 - what typer reads
    output: Annotated[str, typer.Option("--output", "-o", metavar="wide|yaml|json|name")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="A line for each change, for ever.")] = False,
    state: _State = _STATE,
) -> None:
    """Show runs and their nodes, in the columns of kubectl."""
    from dbt_operator.local import look

    if output not in ("", "wide", "yaml", "json", "name"):
        raise typer.BadParameter(f"{output!r} is none of wide, yaml, json, name", param_hint="-o")
    form: look.Form = output  # type: ignore[assignment]  # one of these, as was just checked
    _do(state, lambda at: look.get(kinds, names or (), run=run, form=form, watch=watch, at=at))


@app.command()
def describe(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="dbtrun, dbtmodel, dbtconnection.")],
    name: Annotated[str, typer.Argument(metavar="NAME")],
    *,
    state: _State = _STATE,
) -> None:
    """Show one object whole, with what has happened to it."""
    from dbt_operator.local import look

    _do(state, lambda at: look.describe(kind, name, at=at))


@app.command()
def logs(
    name: _Run,
    *,
    attempt: Annotated[Optional[str], typer.Option(help="Such as producer-1. Default: the last one.")] = None,  # noqa: UP045 - what typer reads
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="json: as it is.")] = "text",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the attempt has ended.")] = False,
    state: _State = _STATE,
) -> None:
    """Print what dbt has said."""
    from dbt_operator.local import look

    if output not in ("text", "json"):
        raise typer.BadParameter(f"{output!r} is none of text, json", param_hint="-o")
    _do(state, lambda at: look.logs(name, attempt=attempt, raw=output == "json", follow=follow, at=at))


@app.command()
def retry(
    name: _Run,
    node: Annotated[Optional[str], typer.Argument(metavar="NODE", help="Default: all that is not done.")] = None,  # noqa: UP045 - what typer reads
    *,
    watch: _Watch = None,
    state: _State = _STATE,
) -> None:
    """Execute again what of a run is not done."""
    from dbt_operator.local import commands

    _do(state, lambda at: commands.retry(name, node, watch=watch, at=at))


@app.command()
def cancel(name: _Run, *, state: _State = _STATE) -> None:
    """End a run; dbt cancels its queries."""
    from dbt_operator.local import commands

    _do(state, lambda at: commands.cancel(name, at=at))


@app.command()
def delete(names: Annotated[list[str], typer.Argument(metavar="RUN…")], *, state: _State = _STATE) -> None:
    """Forget runs, with all that was kept of them."""
    from dbt_operator.local import commands

    _do(state, lambda at: commands.delete(names, at=at))
