"""Command line of the development cluster."""

from __future__ import annotations

import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dev.cluster import binaries, kind, local, packages, teardown
from dev.cluster.commands import locked, say, write_file
from dev.cluster.settings import ClusterError, Settings, load

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The development cluster.")


class Kind(StrEnum):
    """Where the cluster runs; `auto` is what this checkout uses already, else kind where it works, else local."""

    AUTO = "auto"
    LOCAL = "local"
    KIND = "kind"
    CURRENT = "current"


KindOption = Annotated[Kind, typer.Option("--kind", help="Where the cluster runs.")]


def _recorded_kind(settings: Settings) -> Kind | None:
    try:
        return Kind(settings.kind_file.read_text().strip())
    except (OSError, ValueError):
        return None


def _resolve(settings: Settings, chosen: Kind) -> Kind:
    if chosen is not Kind.AUTO:
        return chosen
    return _recorded_kind(settings) or (Kind.KIND if kind.available() else Kind.LOCAL)


def _link_clients(settings: Settings, programs: dict[str, str]) -> None:
    settings.client_binaries.mkdir(parents=True, exist_ok=True)
    for name, target in programs.items():
        link = settings.client_binaries / name
        temporary = link.with_name(f".{name}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)


def _connect(settings: Settings, *, chosen: Kind, kubeconfig: str, programs: dict[str, str]) -> None:
    """Everything that this checkout needs to use the cluster."""
    write_file(settings.kubeconfig, kubeconfig, mode=0o600)
    write_file(settings.kind_file, f"{chosen}\n")
    _link_clients(settings, programs)


def _up_local(settings: Settings) -> tuple[str, dict[str, str]]:
    programs = local.up(settings)
    return local.admin_kubeconfig(settings), {name: str(programs / name) for name in binaries.CLIENT_PROGRAMS}


@app.command()
def up(chosen: KindOption = Kind.AUTO) -> None:
    """Start the cluster, or repair it; does nothing when it runs."""
    settings = load()
    wanted = _resolve(settings, chosen)
    if wanted is Kind.LOCAL:
        packages.check_machine()
    with locked(settings.lock_file, purpose="starts or stops the cluster"):
        if wanted is Kind.LOCAL:
            kubeconfig, programs = _up_local(settings)
        else:
            programs = kind.client_programs(settings, binaries.CLIENT_PROGRAMS)
            kubeconfig = kind.up(settings) if wanted is Kind.KIND else kind.current(settings)
        _connect(settings, chosen=wanted, kubeconfig=kubeconfig, programs=programs)
    say(f"KUBECONFIG={settings.kubeconfig}")


@app.command()
def down(
    chosen: KindOption = Kind.AUTO,
    purge: Annotated[bool, typer.Option("--purge", help="Delete images, certificates and logs too.")] = False,
) -> None:
    """Stop the cluster and remove its traces from the machine. A cluster of others is only forgotten."""
    settings = load()
    wanted = _resolve(settings, chosen)
    if wanted is Kind.LOCAL:
        packages.check_machine()
    with locked(settings.lock_file, purpose="starts or stops the cluster"):
        if wanted is Kind.LOCAL:
            teardown.down(settings, purge=purge)
        elif wanted is Kind.KIND:
            kind.down(settings)
        shutil.rmtree(settings.checkout_directory, ignore_errors=True)
    say("The cluster is down.")


@app.command()
def status() -> None:
    """One line per component."""
    settings = load()
    recorded = _resolve(settings, Kind.AUTO)
    say(f"{'kind':<24} {recorded}")
    if recorded is Kind.LOCAL:
        for line in local.status(settings):
            say(line)


@app.command()
def kubeconfig() -> None:
    """Print the path of this checkout's kubeconfig."""
    path: Path = load().kubeconfig
    if not path.exists():
        raise ClusterError("There is no cluster yet: run `python -m dev.cluster up`.")
    say(str(path))


def main() -> None:
    """Turn a failure that has an explanation into that explanation."""
    try:
        app()
    except ClusterError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
