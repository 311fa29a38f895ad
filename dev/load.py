"""Hands an image of somebody's own to the development cluster: `python -m dev.load shop:1 --context ../shop`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dev.cluster import packages, runtime
from dev.cluster.commands import find_program, locked, run, say, succeeds
from dev.cluster.settings import KIND_NAME, ClusterError, Settings, load
from dev.images import Image, build_local, buildah, cluster_kind, storage_of


def full_name(name: str) -> str:
    """An image's name as a container runtime writes it out: docker.io/library/shop:1 for shop:1."""
    path, separator, tag = name.rpartition(":")
    if not separator or "/" in tag:
        path, tag = name, "latest"
    if tag == "latest":
        raise ClusterError(f"{name} needs a tag, another than latest: Kubernetes would try to pull it from a registry.")
    registry, separator, _ = path.partition("/")
    if not separator:
        return f"docker.io/library/{path}:{tag}"
    return f"{path}:{tag}" if registry == "localhost" or set(".:") & set(registry) else f"docker.io/{path}:{tag}"


def _own_archive(settings: Settings, name: str, *, context: Path | None, archive: Path) -> None:
    """Write the image to an archive: built from the folder, or as Docker has it, or as Podman and Buildah have it."""
    full = full_name(name)
    target = f"docker-archive:{archive}:{full}"
    if context is not None:
        image = Image(name=name, context=str(context), dockerfile=str(context / "Dockerfile"))
        build_local(settings, image, tag=full)
        buildah(settings, "push", "--quiet", full, target, doing=f"Exporting {name}")
        return
    docker = find_program("docker")
    if docker is not None and succeeds([docker, "image", "inspect", name]):
        run([docker, "save", "--output", str(archive), name], doing=f"Exporting {name}")
        return
    program = find_program("buildah") or "buildah"
    if not succeeds([program, "inspect", "--type", "image", name]):
        raise ClusterError(f"Neither Docker nor Podman has the image {name}: name the folder of its Dockerfile too.")
    run([program, "push", "--quiet", name, target], doing=f"Exporting {name}")


def _load_local(settings: Settings, name: str, *, context: Path | None) -> None:
    packages.check_machine()
    packages.ensure()
    storage_of(settings).mkdir(parents=True, exist_ok=True)
    with locked(settings.cache / "images.lock", purpose="builds images"):
        archive = storage_of(settings) / "own.tar"
        archive.unlink(missing_ok=True)
        try:
            _own_archive(settings, name, context=context, archive=archive)
            runtime.import_archive(settings, archive)
        finally:
            archive.unlink(missing_ok=True)


def _load_kind(name: str, *, context: Path | None) -> None:
    docker = find_program("docker") or "docker"
    if context is not None:
        run([docker, "build", "--quiet", "--tag", name, str(context)], doing=f"Building {name}")
    argv = [find_program("kind") or "kind", "load", "docker-image", "--name", KIND_NAME, name]
    run(argv, doing=f"Loading {name} into kind")


def load_image(name: str, *, context: Path | None) -> None:
    """Give the cluster an image of the user's own. context: a folder with a Dockerfile, to build it from first."""
    settings = load()
    full_name(name)  # refuses what would not be found
    if context is not None and not (context / "Dockerfile").is_file():
        raise ClusterError(f"There is no Dockerfile in {context}.")
    chosen = cluster_kind(settings)
    if chosen == "local":
        _load_local(settings, name, context=context)
    elif chosen == "kind":
        _load_kind(name, context=context)
    else:
        raise ClusterError(f"The cluster is not this checkout's: push {name} to a registry that its nodes can reach.")
    say(f"The cluster has it. In a DbtRun: image: {name}")


def main(
    name: Annotated[str, typer.Argument(help="The image, such as shop:1; any tag but latest.")],
    context: Annotated[Path | None, typer.Option(help="Build it first, from the Dockerfile in this folder.")] = None,
) -> None:
    """Hand an image of your own to the development cluster."""
    try:
        load_image(name, context=None if context is None else context.resolve())
    except ClusterError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
