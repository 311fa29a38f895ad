"""Shows two runs of the jaffle shop as they happen: a green one, and one with a model that fails.

`python -m dev.demo`. The exit code is 0 only when both end exactly as they have to.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dbt_operator.local import render
from dbt_operator.local.picture import Picture, Run, see
from dbt_operator.local.viewer import Viewer, viewer
from dev.cluster.settings import load
from dev.demo.cluster import Cluster, DemoError
from dev.demo.expectation import Expectation, differences

EXAMPLES = Path("examples/jaffle-shop")
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Scene:
    """A run and how it has to end."""

    title: str
    name: str
    manifest: str
    expected: Expectation


GREEN = Scene(
    title="A dbt project, applied as one object",
    name="jaffle-shop",
    manifest="run.yaml",
    expected=Expectation(phase="Succeeded"),
)
BROKEN = Scene(
    title="The same project with a broken model",
    name="jaffle-shop-broken",
    manifest="broken.yaml",
    expected=Expectation(
        phase="Failed",
        failed={"product_sales": "purchase_price"},
        blocked=dict.fromkeys(("category_sales", "top_products", "menu_review"), "product_sales"),
    ),
)


def follow(cluster: Cluster, *, view: Viewer, name: str, uid: str, seconds: float) -> tuple[Picture, float]:
    """Show a run until it has ended; returns how it looked last, and how long it took.

    Raises: DemoError when it has not ended in time.
    """
    began = time.monotonic()
    picture = Picture(run=Run(name=name, uid=uid))
    for change in cluster.changes(name):
        elapsed, before = time.monotonic() - began, picture
        if change is not None:
            picture = see(picture, kind=change.kind, document=change.document)
        view.show(before, picture, elapsed=elapsed)
        if picture.complete:
            return picture, elapsed
        if elapsed > seconds:
            break
    raise DemoError(too_late(picture.run, namespace=cluster.namespace, seconds=seconds))


def too_late(run: Run, *, namespace: str, seconds: float) -> str:
    """Why a run is not waited for any longer, and what to do."""
    start = f"{run.name} has not ended within {seconds:.0f} s"
    if not run.seen:
        return f"{start}: no operator has seen it. Is it installed (`make install`), does its pod run?"
    state = ": ".join(filter(None, (run.phase, run.message)))
    return f"{start}. It is {state}\nSee what holds it: kubectl --namespace {namespace} describe dbtrun {run.name}"


def play(scene: Scene, *, cluster: Cluster, console: Console, seconds: float) -> Picture:
    """Apply a run, show it, and hold how it ended against what is expected.

    Raises: DemoError when it ended in another way.
    """
    console.rule(scene.title, align="left", style="bright_black")
    console.print(f"[bright_black]$[/] kubectl apply -f {EXAMPLES / scene.manifest}", highlight=False)
    uid = cluster.apply(CHECKOUT / EXAMPLES / scene.manifest, name=scene.name)
    with viewer(console) as view:
        picture, elapsed = follow(cluster, view=view, name=scene.name, uid=uid, seconds=seconds)
    if console.is_interactive:
        console.print(render.screen(picture, elapsed=elapsed, now=datetime.now(UTC)))
    found = differences(picture, expected=scene.expected)
    if picture.run.phase == "Failed":
        console.print()
        console.print(render.errors(picture), end="", highlight=False, soft_wrap=True)
    console.print()
    if found:
        raise DemoError(
            "\n".join([*found, f"See why: kubectl --namespace {cluster.namespace} describe dbtrun {scene.name}"])
        )
    return picture


def shell_setup(cluster: Cluster) -> list[str]:
    """What a shell needs before it can ask this cluster, when it is not the one that kubectl asks anyway."""
    own = load()
    if cluster.kubeconfig.resolve() != own.kubeconfig.resolve():
        return []
    return [f"export KUBECONFIG={own.kubeconfig} PATH={own.client_binaries}:$PATH"]


def show_what_is_there(picture: Picture, *, cluster: Cluster, console: Console) -> None:
    """The run as kubectl shows it, and what to try next."""
    console.print("[bright_black]$[/] kubectl get dbtruns,dbtmodels", highlight=False)
    console.out(cluster.kubectl("get", "dbtruns,dbtmodels"), highlight=False)
    tries = [
        "kubectl get dbtmodels -o wide",
        f"kubectl describe dbtrun {picture.run.name}",
        f"kubectl logs {picture.run.pod or f'job/{picture.run.name}-producer-1'}",
    ]
    console.print("Try next:")
    for command in (*shell_setup(cluster), *tries):
        console.print(f"  [cyan]{command}[/]", highlight=False, soft_wrap=True)
    console.print()


def show(*, cluster: Cluster, console: Console, seconds: float) -> None:
    """Both runs. Raises: DemoError."""
    cluster.forget(GREEN.name, BROKEN.name)
    green = play(GREEN, cluster=cluster, console=console, seconds=seconds)
    show_what_is_there(green, cluster=cluster, console=console)
    broken = play(BROKEN, cluster=cluster, console=console, seconds=seconds)
    counts = [
        sum(node.phase == phase for node in broken.nodes.values()) for phase in ("Failed", "Skipped", "Succeeded")
    ]
    console.print("As it should be: {} failed, {} blocked by it, {} untouched.".format(*counts), highlight=False)


def main(
    *,
    kubeconfig: Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, else that of `make cluster`.")] = None,
    namespace: Annotated[str, typer.Option(help="Where to create the runs.")] = "default",
    timeout: Annotated[float, typer.Option(help="How many seconds a run may take.")] = 120,
) -> None:
    """Show two runs of the jaffle shop as they happen."""
    chosen = kubeconfig or Path(os.environ.get("KUBECONFIG") or load().kubeconfig)
    console = Console(soft_wrap=not sys.stdout.isatty())
    try:
        show(cluster=Cluster(kubeconfig=chosen, namespace=namespace), console=console, seconds=timeout)
    except DemoError as error:
        console.file.flush()
        Console(stderr=True).print(f"[bold red]Error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Interrupted. The run goes on without being shown: kubectl get dbtmodels -w")
        raise typer.Exit(130) from None


if __name__ == "__main__":
    typer.run(main)
