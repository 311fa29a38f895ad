"""Container images of this repository: built from their Dockerfiles and made available to the development cluster.

An image's tag is a digest of its inputs, so that one which has not changed is neither built nor imported again, and
the name of an image is known before it exists. `python -m dev.images build` for all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dev.cluster import kind, local, packages, runtime
from dev.cluster.commands import find_program, locked, run, say, succeeds
from dev.cluster.settings import KIND_NAME, ClusterError, Settings, load

PREFIX = "localhost/dbt-operator"
STABLE_TAG = "dev"


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image; the paths are relative to the repository, and a Dockerfile's COPY lines tell its inputs."""

    name: str
    context: str
    dockerfile: str
    built_on: tuple[tuple[str, str], ...] = ()  # build arguments that name another of these images


IMAGES = (
    Image(name="dbt-operator", context=".", dockerfile="Dockerfile"),
    Image(name="tools", context="images/tools", dockerfile="images/tools/Dockerfile"),
    Image(name="jaffle-shop", context="examples/jaffle-shop", dockerfile="examples/jaffle-shop/Dockerfile"),
    Image(
        name="test-projects",
        context="tests/projects",
        dockerfile="tests/projects/Dockerfile",
        built_on=(("JAFFLE", "jaffle-shop"),),
    ),
    Image(name="wheelhouse", context="tests/wheelhouse", dockerfile="tests/wheelhouse/Dockerfile"),
    Image(name="git-server", context="tests/gitserver", dockerfile="tests/gitserver/Dockerfile"),
    Image(name="postgres", context="tests/postgres", dockerfile="tests/postgres/Dockerfile"),
    Image(name="postgres-example", context="examples/postgres", dockerfile="examples/postgres/Dockerfile"),
    Image(
        name="chaos",
        context="tests/projects/chaos",
        dockerfile="tests/projects/chaos/Dockerfile",
        built_on=(("POSTGRES_EXAMPLE", "postgres-example"),),
    ),
)

BASE_SUITE = "bookworm"
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
LAYERS_KEPT = 60
BUILD_ATTEMPTS = 3
CERTIFICATES = "/etc/ssl/certs"
INDEX_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
CERTIFICATE_ARGUMENTS = ("SSL_CERT_FILE", "PIP_CERT")
"""Settings of this machine that an image's build needs; passed where its Dockerfile declares them."""

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Images for the development cluster.")


def instructions(dockerfile: str) -> list[list[str]]:
    """The words of each instruction, with continued lines joined and comments left out."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    return [words for line in joined.splitlines() if (words := line.split())]


def copied_paths(dockerfile: str) -> list[str]:
    """What COPY and ADD take from the context; what they take from another stage is no input of its own."""
    paths: list[str] = []
    for keyword, *words in instructions(dockerfile):
        if keyword.upper() not in {"COPY", "ADD"} or any(word.startswith("--from=") for word in words):
            continue
        plain = " ".join(word for word in words if not word.startswith("--"))
        sources = (json.loads(plain) if plain.startswith("[") else shlex.split(plain))[:-1]
        paths += [source.rstrip("/") or "." for source in sources]
    return sorted(set(paths))


def declared_arguments(dockerfile: str) -> set[str]:
    return {word.split("=")[0] for keyword, *words in instructions(dockerfile) if keyword.upper() == "ARG"
            for word in words}  # fmt: skip


def _files(folder: Path, paths: Sequence[str]) -> list[str]:
    """What git would commit; outside of a git checkout, everything."""
    if not paths:
        return []
    argv = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return sorted({name for name in done.stdout.split("\0") if name})
    found: list[Path] = []
    for path in paths:
        found += [folder / path] if (folder / path).is_file() else (folder / path).rglob("*")
    return sorted({str(file.relative_to(folder)) for file in found})


def inputs_digest(folder: Path, names: Sequence[str], *, extra: Sequence[str]) -> str:
    """Names, whether they are executable, and contents; files that are gone since they were listed do not count."""
    result = hashlib.sha256("\0".join(extra).encode())
    for name in names:
        path = folder / name
        if path.is_symlink():
            result.update(f"\0link {name}\0{path.readlink()}".encode())
        elif path.is_file():
            executable = bool(path.stat().st_mode & 0o100)
            result.update(f"\0file {name}\0{executable}\0".encode())
            result.update(hashlib.sha256(path.read_bytes()).digest())
    return result.hexdigest()[:12]


def _base_digest() -> str:
    return hashlib.sha256(" ".join((BASE_SUITE, *BASE_PACKAGES)).encode()).hexdigest()[:12]


def _image(name: str) -> Image:
    for image in IMAGES:
        if image.name == name:
            return image
    raise ClusterError(f"There is no image {name!r}; there are {', '.join(image.name for image in IMAGES)}.")


def _read_dockerfile(settings: Settings, image: Image) -> str:
    try:
        return (settings.checkout / image.dockerfile).read_text()
    except OSError as error:
        raise ClusterError(f"The image {image.name} has no {image.dockerfile}.") from error


def reference(name: str) -> str:
    """The full name of an image as its inputs are now, whether or not it has been built."""
    settings, image = load(), _image(name)
    dockerfile = _read_dockerfile(settings, image)
    folder = settings.checkout / image.context
    ignore = [file.name for file in (folder / ".dockerignore", folder / ".containerignore") if file.exists()]
    names = _files(folder, [*copied_paths(dockerfile), *ignore])
    arguments = [f"{key}={value}" for key, value in _base_images(image).items()]
    return f"{PREFIX}/{name}:{inputs_digest(folder, names, extra=[dockerfile, _base_digest(), *arguments])}"


def _base_images(image: Image) -> dict[str, str]:
    return {argument: reference(name) for argument, name in image.built_on}


def stable_reference(name: str) -> str:
    return f"{PREFIX}/{_image(name).name}:{STABLE_TAG}"


def storage_of(settings: Settings) -> Path:
    return settings.cache / "images"


def buildah(settings: Settings, *arguments: str, doing: str) -> str:
    """With storage of its own: the user's images are neither used nor removed."""
    program, storage = find_program("buildah") or "buildah", storage_of(settings)
    options = ["--root", str(storage / "storage"), "--runroot", str(storage / "run"),
               "--storage-driver", _storage_driver(storage)]  # fmt: skip
    return run([program, *options, *arguments], doing=doing)


def _storage_driver(storage: Path) -> str:
    """Overlay unless the file system cannot carry it; decided once, as storage of two kinds does not mix."""
    decision = storage / "driver"
    if not decision.exists():
        trial = storage / "trial"
        folders = {name: trial / name for name in ("lower", "upper", "work", "merged")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={folders['lower']},upperdir={folders['upper']},workdir={folders['work']}"
        works = succeeds(["mount", "-t", "overlay", "overlay", "-o", options, str(folders["merged"])])
        if works:
            run(["umount", str(folders["merged"])], doing="Trying overlay storage")
        shutil.rmtree(trial, ignore_errors=True)
        decision.write_text("overlay" if works else "vfs")
    return decision.read_text()


def _built(settings: Settings) -> set[str]:
    listed = buildah(settings, "images", "--noheading", "--format", "{{.Name}}:{{.Tag}}", doing="Listing images")
    return set(listed.split())


def _ensure_base(settings: Settings) -> str:
    """A Debian with Python, from Debian's own packages: no registry of images is needed."""
    name = f"{PREFIX}/base:{_base_digest()}"
    if name in _built(settings):
        return name
    archive = storage_of(settings) / f"base-{_base_digest()}.tar"
    if not archive.exists():
        say(f"Making the base image from Debian {BASE_SUITE} (once per machine) …")
        partial = archive.with_name(f"partial-{archive.name}")
        packages_option = f"--include={','.join(BASE_PACKAGES)}"
        program = find_program("mmdebstrap") or "mmdebstrap"
        run([program, "--variant=minbase", packages_option, BASE_SUITE, str(partial)], doing="Making the base image")
        partial.replace(archive)
    doing = "Storing the base image"
    container = buildah(settings, "from", "scratch", doing=doing).strip()
    buildah(settings, "add", "--quiet", container, str(archive), "/", doing=doing)
    buildah(settings, "commit", "--quiet", "--rm", container, name, doing=doing)
    return name


def _passed_arguments(dockerfile: str, names: Sequence[str]) -> dict[str, str]:
    """Only for this build: as build arguments they do not become part of the image's configuration."""
    declared = declared_arguments(dockerfile)
    return {name: os.environ[name] for name in names if name in declared and os.environ.get(name)}


def _volumes(dockerfile: str, certificate_files: Iterable[str]) -> list[str]:
    """The machine's certificates, which are not always where the image has its own.

    Only where the Dockerfile asks for them: a package of Debian's that writes there could not be installed.
    """
    if not declared_arguments(dockerfile) & set(CERTIFICATE_ARGUMENTS):
        return []
    places = {CERTIFICATES} | {str(Path(file).parent) for file in certificate_files}
    return [f"--volume={place}:{place}:ro" for place in sorted(places) if Path(place).is_dir()]


def build_local(settings: Settings, image: Image, *, tag: str) -> None:
    dockerfile = _read_dockerfile(settings, image)
    files = _passed_arguments(dockerfile, CERTIFICATE_ARGUMENTS)
    passed = {**files, **_passed_arguments(dockerfile, INDEX_ARGUMENTS)}
    arguments = {"BASE": _ensure_base(settings), **_base_images(image), **passed}
    try:
        buildah(
            settings, "bud", "--isolation", "chroot", "--layers", "--quiet",
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            *_volumes(dockerfile, files.values()),
            "--file", str(settings.checkout / image.dockerfile), "--tag", tag, str(settings.checkout / image.context),
            doing=f"Building {image.name}",
        )  # fmt: skip
    finally:
        # A build that broke off, this one or one before it, leaves containers that keep their file systems mounted.
        buildah(settings, "rm", "--all", doing="Removing what a build has left")


def _import_local(settings: Settings, image: Image, *, tag: str) -> None:
    archive = storage_of(settings) / f"{image.name}.tar"
    archive.unlink(missing_ok=True)
    try:
        buildah(settings, "push", "--quiet", tag, f"docker-archive:{archive}:{tag}", doing=f"Exporting {image.name}")
        runtime.import_archive(settings, archive)
    finally:
        archive.unlink(missing_ok=True)
    runtime.tag_image(settings, tag, alias=stable_reference(image.name))


def _forget_old(settings: Settings, image: Image, *, tag: str) -> None:
    """Earlier digests of the same image; containers that still run from them are not disturbed."""
    keep = {tag, stable_reference(image.name)}
    start = f"{PREFIX}/{image.name}:"
    runtime.remove_images(settings, {old for old in runtime.image_names(settings) if old.startswith(start)} - keep)
    for old in {name for name in _built(settings) if name.startswith(start)} - keep:
        buildah(settings, "rmi", old, doing="Removing an old image")
    _forget_old_layers(settings)


def _forget_old_layers(settings: Settings) -> None:
    """Layers that no image uses make the next build quick, such as those of a build stage: keep a number of them."""
    layers = buildah(settings, "images", "--all", "--quiet", doing="Listing layers").split()
    if len(layers) > LAYERS_KEPT:
        buildah(settings, "rmi", "--prune", doing="Removing layers that no image uses")


def _local_size(settings: Settings, tag: str) -> str:
    return buildah(settings, "images", "--noheading", "--format", "{{.Size}}", tag, doing="Reading a size").strip()


def _ensure_built(settings: Settings, image: Image) -> tuple[str, bool]:
    """The tag, and whether it was built now. It must tell the truth: inputs may change while they are being read."""
    for _ in range(BUILD_ATTEMPTS):
        tag = reference(image.name)
        if tag in _built(settings):
            return tag, False
        say(f"Building {tag} …")
        build_local(settings, image, tag=tag)
        if reference(image.name) == tag:
            return tag, True
        buildah(settings, "rmi", tag, doing="Removing an image of changed files")
    raise ClusterError(f"The files of {image.name} kept changing while it was built: try again.")


def _make_local(settings: Settings, image: Image) -> str:
    began = time.monotonic()
    storage_of(settings).mkdir(parents=True, exist_ok=True)
    tag, built_now = _ensure_built(settings, image)
    if not local.is_running(settings):
        raise ClusterError("The image is built, and no cluster runs to take it: run `python -m dev.cluster up`.")
    is_imported = tag in runtime.image_names(settings)
    if not is_imported:
        _import_local(settings, image, tag=tag)
    if built_now or not is_imported:
        _forget_old(settings, image, tag=tag)
    state = "unchanged" if is_imported and not built_now else f"{time.monotonic() - began:.0f} s"
    say(f"{tag}  {_local_size(settings, tag)}  ({state})")
    return tag


def _make_docker(settings: Settings, image: Image, *, load_into_kind: bool) -> str:
    tag, stable = reference(image.name), stable_reference(image.name)
    docker = find_program("docker") or "docker"
    if not succeeds([docker, "image", "inspect", tag]):
        say(f"Building {tag} …")
        arguments = {
            **_base_images(image),
            **_passed_arguments(_read_dockerfile(settings, image), INDEX_ARGUMENTS),
        }
        options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        argv = [docker, "build", "--quiet", *options, "--tag", tag, "--tag", stable]
        argv += ["--file", str(settings.checkout / image.dockerfile), str(settings.checkout / image.context)]
        run(argv, doing=f"Building {image.name}")
    if load_into_kind:
        argv = [find_program("kind") or "kind", "load", "docker-image", "--name", KIND_NAME, tag, stable]
        run(argv, doing=f"Loading {image.name} into kind")
    size = run([docker, "image", "inspect", "--format", "{{.Size}}", tag], doing="Reading a size").strip()
    say(f"{tag}  {int(size) / 1e6:.0f} MB" + ("" if load_into_kind else "  (push it to where your cluster finds it)"))
    return tag


def cluster_kind(settings: Settings) -> str:
    try:
        return settings.kind_file.read_text().strip()
    except OSError:
        return "kind" if kind.available() else "local"


def build_images(names: Sequence[str] = ()) -> list[str]:
    """Build the named images, or all, and give them to the cluster; returns their full names."""
    settings = load()
    wanted = [_image(name) for name in names] or list(IMAGES)
    chosen = cluster_kind(settings)
    if chosen == "local":
        packages.check_machine()
        packages.ensure()
    with locked(settings.cache / "images.lock", purpose="builds images"):
        if chosen == "local":
            return [_make_local(settings, image) for image in wanted]
        return [_make_docker(settings, image, load_into_kind=chosen == "kind") for image in wanted]


@app.command()
def build(names: Annotated[list[str] | None, typer.Argument(help="Which images; all by default.")] = None) -> None:
    """Build images and make them available to the cluster."""
    build_images(names or ())


@app.command(name="list")
def list_images() -> None:
    """Print the full name of every image as its inputs are now."""
    for image in IMAGES:
        say(reference(image.name))


def main() -> None:
    """Turn a failure that has an explanation into that explanation."""
    try:
        app()
    except ClusterError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
