"""The cluster's container runtime: images in and out, and the sandbox image that every pod needs."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dev.cluster import binaries
from dev.cluster.commands import find_program, run
from dev.cluster.settings import Settings

NAMESPACE = "k8s.io"  # the one in which the kubelet looks for images and containers
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PARALLEL = 8


def ctr(settings: Settings, *arguments: str, doing: str) -> str:
    program = find_program("ctr") or "ctr"
    return run([program, "--address", str(settings.containerd_socket), "--namespace", NAMESPACE, *arguments],
               doing=doing)  # fmt: skip


def image_names(settings: Settings) -> set[str]:
    return set(ctr(settings, "images", "list", "--quiet", doing="Listing the cluster's images").split())


def import_archive(settings: Settings, archive: Path) -> None:
    ctr(settings, "images", "import", str(archive), doing="Importing an image into the cluster")


def tag_image(settings: Settings, name: str, *, alias: str) -> None:
    ctr(settings, "images", "tag", "--force", name, alias, doing="Tagging an image in the cluster")


def remove_images(settings: Settings, names: set[str]) -> None:
    if names:
        ctr(settings, "images", "remove", *sorted(names), doing="Removing old images from the cluster")


def remove_containers(settings: Settings) -> None:
    """End and forget every container of the cluster; its images stay."""
    doing = "Removing the cluster's containers"

    def remove_task(name: str) -> None:
        ctr(settings, "tasks", "rm", "--force", name, doing=doing)

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        list(pool.map(remove_task, ctr(settings, "tasks", "list", "--quiet", doing=doing).split()))
    containers = ctr(settings, "containers", "list", "--quiet", doing=doing).split()
    if containers:
        ctr(settings, "containers", "rm", *containers, doing=doing)


def pause_image(settings: Settings) -> str:
    """Named after its source: another source is another image."""
    digest = hashlib.sha256(settings.pause_source.read_bytes()).hexdigest()[:12]
    return f"localhost/dbt-operator/pause:{digest}"


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def single_program_archive(program: bytes, *, name: str, architecture: str) -> bytes:
    """An image archive with one layer that holds one program: too little to need a builder for."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "pause", program, mode=0o755)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "config.json", json.dumps(config).encode())
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return archive.getvalue()


def ensure_pause_image(settings: Settings) -> None:
    name = pause_image(settings)
    if name in image_names(settings):
        return
    architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
    with tempfile.TemporaryDirectory() as folder:
        program, archive = Path(folder) / "pause", Path(folder) / "pause.tar"
        binaries.build_single(settings, settings.pause_source, output=program)
        archive.write_bytes(single_program_archive(program.read_bytes(), name=name, architecture=architecture))
        import_archive(settings, archive)
