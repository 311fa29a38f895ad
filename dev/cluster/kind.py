"""Clusters that others run: kind, in Docker, or whatever the current context points to."""

from __future__ import annotations

import os
import shutil

from dev.cluster.commands import SYSTEM_PATH, find_program, run, say, succeeds
from dev.cluster.settings import KIND_NAME, ClusterError, Settings

DOCKER_TIMEOUT = 10.0


def docker_works() -> bool:
    docker = find_program("docker")
    return docker is not None and succeeds([docker, "info"], timeout=DOCKER_TIMEOUT)


def available() -> bool:
    return find_program("kind") is not None and docker_works()


def _require(program: str) -> str:
    found = find_program(program)
    if found is None:
        raise ClusterError(f"{program} is needed and was not found on the PATH.")
    return found


def _path_of_the_user(settings: Settings) -> str:
    """The PATH without this checkout's own links, which may stand first in it."""
    folders = os.environ.get("PATH", SYSTEM_PATH).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if folder != str(settings.client_binaries))


def client_programs(settings: Settings, names: tuple[str, ...]) -> dict[str, str]:
    """The user's own client programs; a link to one of our links would point to itself."""
    found = {name: shutil.which(name, path=_path_of_the_user(settings)) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ClusterError(f"{' and '.join(missing)} must be on the PATH to use a cluster that is not local.")
    return {name: path for name, path in found.items() if path is not None}


def _exists(program: str) -> bool:
    return KIND_NAME in run([program, "get", "clusters"], doing="Listing kind's clusters").split()


def up(settings: Settings) -> str:
    """Create the kind cluster unless it exists; returns its kubeconfig. The user's own file is not changed."""
    program = _require("kind")
    if not docker_works():
        raise ClusterError("kind needs a running Docker daemon. Start Docker, or use --kind local.")
    if not _exists(program):
        say("Creating the kind cluster …")
        settings.checkout_directory.mkdir(parents=True, exist_ok=True)
        argv = [program, "create", "cluster", "--name", KIND_NAME, "--wait", "180s"]
        run([*argv, "--kubeconfig", str(settings.kubeconfig)], doing="Creating the kind cluster")
    return run([program, "get", "kubeconfig", "--name", KIND_NAME], doing="Reading kind's kubeconfig")


def down(settings: Settings) -> None:
    program = _require("kind")
    if _exists(program):
        argv = [program, "delete", "cluster", "--name", KIND_NAME, "--kubeconfig", str(settings.kubeconfig)]
        run(argv, doing="Deleting the kind cluster")


def current(settings: Settings) -> str:
    """A copy of the current context alone, so that a later change of context cannot redirect this checkout."""
    kubectl = client_programs(settings, ("kubectl",))["kubectl"]
    env = dict(os.environ)
    if env.get("KUBECONFIG") == str(settings.kubeconfig):
        del env["KUBECONFIG"]  # set by this checkout's own targets: it is not what the user means by "current"
    argv = [kubectl, "config", "view", "--minify", "--flatten", "--raw"]
    kubeconfig = run(argv, doing="Reading the current context", env=env)
    if not succeeds([kubectl, "get", "--raw", "/readyz", "--request-timeout=10s"], env=env, timeout=20):
        raise ClusterError("The cluster of the current context does not answer. Check it with: kubectl get nodes")
    return kubeconfig
