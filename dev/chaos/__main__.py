"""Disturbs runs on the local cluster and checks what became of them: `python -m dev.chaos --faults 200`.

The exit code is 0 only when every state is right and no execution was lost, doubled or overlapped.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Annotated

import typer

from dev.chaos import report
from dev.chaos.cluster import ChaosCluster, ChaosError
from dev.chaos.faults import FAULTS
from dev.chaos.run import Outcome
from dev.chaos.session import Session, execute
from dev.cluster import local
from dev.cluster.commands import say
from dev.cluster.settings import ClusterError, Settings, load

DEFAULT_PER_RUN = 5


def _check_cluster(settings: Settings) -> None:
    kind = settings.kind_file.read_text().strip() if settings.kind_file.exists() else "none"
    if kind != "local" or not local.is_running(settings):
        raise ChaosError("Faults need the cluster of this machine (CLUSTER=local), which is not what runs here.")


def _per_run(faults: int, runs: int | None, per_run: int | None) -> int:
    if per_run is not None:
        return per_run
    return DEFAULT_PER_RUN if runs is None else -(-faults // runs)


def chaos(
    faults: Annotated[int, typer.Option(help="How many faults are to happen in all.", min=0)] = 200,
    runs: Annotated[int | None, typer.Option(help="Exactly so many runs.", min=1)] = None,
    per_run: Annotated[int | None, typer.Option(help="Faults planned for each run.", min=1)] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed plans the same faults.")] = None,
    first: Annotated[int, typer.Option(help="Number of the first run of the seed.", min=0)] = 0,
    together: Annotated[int, typer.Option(help="Runs side by side.", min=1)] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Only this kind of fault; may be repeated.")] = None,
    per_node: Annotated[bool, typer.Option("--per-node", help="Each node has a pod of its own.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the namespaces of wrong runs.")] = False,
) -> None:
    """Disturb runs, and compare what the operator shows with what the warehouse and dbt say."""
    settings = load()
    _check_cluster(settings)
    unknown = set(only or ()) - set(FAULTS)
    if unknown:
        raise ChaosError(f"There is no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}.")
    session = Session(
        seed=random.SystemRandom().randrange(10**6) if seed is None else seed,
        faults=faults,
        per_run=_per_run(faults, runs, per_run),
        runs=runs,
        first=first,
        together=together,
        kinds=tuple(only or FAULTS),
        keep=keep,
        per_node=per_node,
    )
    say(f"Seed {session.seed}, {session.per_run} faults a run, {session.together} runs side by side.")
    raise typer.Exit(_execute(settings, session))


def _execute(settings: Settings, session: Session) -> int:
    began = time.monotonic()

    def seen(outcome: Outcome) -> None:
        say(report.told(outcome, session, folder=settings.checkout / report.FOLDER))

    outcomes = execute(ChaosCluster(settings=settings), session, seen=seen)
    say(report.summary(outcomes, session, seconds=time.monotonic() - began))
    return 0 if outcomes and all(outcome.findings.clean for outcome in outcomes) else 1


def main() -> None:
    """Turn a failure that has an explanation into that explanation."""
    try:
        typer.run(chaos)
    except (ChaosError, ClusterError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
