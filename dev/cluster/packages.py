"""Programs that come from the distribution: installed when they are missing, and only then."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.commands import find_program, run, say
from dev.cluster.settings import ClusterError

CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program and the Debian package that brings it."""

    program: str
    package: str


TOOLS = (
    Tool(program="containerd", package="containerd"),
    Tool(program="ctr", package="containerd"),
    Tool(program="runc", package="runc"),
    Tool(program="buildah", package="buildah"),
    Tool(program="mmdebstrap", package="mmdebstrap"),
    Tool(program="iptables", package="iptables"),
    Tool(program="conntrack", package="conntrack"),
    Tool(program="ipset", package="ipset"),
    Tool(program="socat", package="socat"),
    Tool(program="openssl", package="openssl"),
    Tool(program="ip", package="iproute2"),
    Tool(program="mount", package="mount"),
)
CNI_PACKAGE = "containernetworking-plugins"


def cni_directory() -> Path | None:
    return next((path for path in CNI_DIRECTORIES if (path / "bridge").exists()), None)


def missing() -> list[Tool]:
    found = [tool for tool in TOOLS if find_program(tool.program) is None]
    return found if cni_directory() else [*found, Tool(program="the CNI plugins", package=CNI_PACKAGE)]


def check_machine() -> None:
    """Before anything is changed: can this machine run a cluster of its own at all?"""
    if platform.system() != "Linux":
        raise ClusterError("A local cluster needs Linux. Install Docker and kind, and use --kind kind.")
    if os.geteuid() != 0:
        raise ClusterError("A local cluster must be started by root: use sudo, or install Docker and use --kind kind.")


def ensure() -> None:
    """Install what is missing with apt-get; elsewhere, name it."""
    wanted = missing()
    if not wanted:
        return
    programs = ", ".join(tool.program for tool in wanted)
    if find_program("apt-get") is None:
        raise ClusterError(f"These programs are needed and missing: {programs}. Install them, then try again.")
    packages = sorted({tool.package for tool in wanted})
    say(f"Installing {', '.join(packages)} …")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], doing="Updating the list of packages", env=env)
    argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    run(argv, doing=f"Installing {', '.join(packages)}", env=env)
    still = missing()
    if still:
        names = ", ".join(tool.program for tool in still)
        raise ClusterError(f"apt-get installed {', '.join(packages)}, and still these are missing: {names}.")
