"""Ending the local cluster so that nothing of it is left: processes, mounts, network, cgroups.

Every step works on a cluster that is half started, half stopped or crashed, and ends only what this package
started: daemons by their records, containers by the socket of the cluster's own containerd.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dev.cluster import network, processes, runtime
from dev.cluster.commands import run, succeeds
from dev.cluster.components import NAMES
from dev.cluster.settings import CNI_NETWORK, ClusterError, Settings

NODE_AGENTS = ("kube-proxy", "kubelet")  # first: they would bring back what the next steps remove
CGROUPS = Path("/sys/fs/cgroup")
CONTAINER_LOG_LINKS = Path("/var/log/containers")
CNI_RESULTS = Path("/var/lib/cni/results")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
SHIM_SOCKETS = Path("/run/containerd/s")
SHIM = "containerd-shim"
PATIENCE = 10.0


def pid_file(settings: Settings, name: str) -> Path:
    return settings.pids / f"{name}.json"


def _wait_until(done: Callable[[], bool], *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            yield int(directory.name), words


def is_shim_of(words: list[str], *, address: str) -> bool:
    """A shim's command line names the containerd that it reports to."""
    return Path(words[0]).name.startswith(SHIM) and address in words


def _shims(settings: Settings) -> list[int]:
    address = str(settings.containerd_socket)
    return [pid for pid, words in _command_lines() if is_shim_of(words, address=address)]


def _children(parent: int) -> list[int]:
    try:
        listed = (Path("/proc") / str(parent) / "task" / str(parent) / "children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in listed.split()]


def _descendants(parent: int) -> list[int]:
    return [pid for child in _children(parent) for pid in (*_descendants(child), child)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _stop_containers(settings: Settings) -> None:
    """Through containerd where it answers; what is left of shims and their containers then ends by force."""
    if processes.alive(processes.read_record(pid_file(settings, "containerd"))):
        with contextlib.suppress(ClusterError):  # if containerd does not answer, the next lines do without it
            runtime.remove_containers(settings)
    for shim in _shims(settings):
        for pid in (*_descendants(shim), shim):
            _kill(pid)
    _wait_until(lambda: not _shims(settings), timeout=PATIENCE)


def mount_points(mountinfo: str, *, below: Path) -> list[Path]:
    """Mounts at or below a folder, innermost first."""
    fields = (line.split()[4] for line in mountinfo.splitlines())
    found = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), field) for field in fields]
    return [Path(point) for point in reversed(found) if Path(point).is_relative_to(below)]


def _mounts(settings: Settings) -> list[Path]:
    """Those of the cluster, and those of image builds that broke off."""
    table = Path("/proc/self/mountinfo").read_text()
    return [point for below in (settings.state, settings.cache) for point in mount_points(table, below=below)]


def _unmount(settings: Settings) -> None:
    for point in _mounts(settings):
        if not succeeds(["umount", str(point)]):
            succeeds(["umount", "--lazy", str(point)])
    left = _mounts(settings)
    if left:
        raise ClusterError(f"{left[0]} cannot be unmounted: end what uses it, then try again.")


def _remove_cgroups() -> None:
    roots = [path for path in (CGROUPS / "kubepods", *CGROUPS.glob("*/kubepods")) if path.is_dir()]

    def removed() -> bool:
        for root in roots:
            for folder, _, _ in os.walk(root, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    continue
        return not any(root.exists() for root in roots)

    _wait_until(removed, timeout=PATIENCE)


def _is_dead(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(str(socket_file))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _remove_strays(settings: Settings) -> None:
    """What the kubelet, CNI and containerd write to places that cannot be configured."""
    for link in CONTAINER_LOG_LINKS.glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(settings.state):
            link.unlink()
    for result in CNI_RESULTS.glob(f"{CNI_NETWORK}-*-eth0"):
        sandbox = result.name.removeprefix(f"{CNI_NETWORK}-").removesuffix("-eth0")
        (CNI_RESULTS / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink()
    for name in ("kubelet.sock", "kubelet_internal_checkpoint"):
        (DEVICE_PLUGINS / name).unlink(missing_ok=True)
    for stray in SHIM_SOCKETS.glob("*"):
        if stray.is_socket() and _is_dead(stray):
            stray.unlink(missing_ok=True)
    for folder in (CONTAINER_LOG_LINKS, CNI_RESULTS, CNI_RESULTS.parent, DEVICE_PLUGINS, DEVICE_PLUGINS.parent):
        with contextlib.suppress(OSError):  # absent, or used by others
            folder.rmdir()


def _remove_files(settings: Settings, *, purge: bool) -> None:
    """Never while something is mounted below: that would delete the files of others."""
    if purge:
        shutil.rmtree(settings.state, ignore_errors=True)
        return
    for path in (
        settings.etcd_data,
        settings.kubelet_root,
        settings.pod_logs,
        settings.cni_state,
        settings.containerd_state,
        settings.pids,  # last: as long as it exists, there is something to take down
    ):
        shutil.rmtree(path, ignore_errors=True)


def exists(settings: Settings) -> bool:
    """Whether a cluster of this state folder was ever started and not yet taken down, in whole or in part."""
    return settings.pids.exists()


def down(settings: Settings, *, purge: bool = False) -> None:
    """Stop everything and remove its traces. Images, certificates and logs stay unless they are purged.

    Rules, bridge and cgroups have the same names for every cluster: without one of our own they belong to others.
    """
    if exists(settings):
        _stop_processes(settings)
        _unmount(settings)
        _remove_cgroups()
        network.remove_rules()
        network.remove_bridge()
        _remove_strays(settings)
    if not _mounts(settings):
        _remove_files(settings, purge=purge)


def _stop_processes(settings: Settings) -> None:
    for name in NODE_AGENTS:
        processes.stop(pid_file(settings, name))
    _stop_containers(settings)
    for name in reversed([name for name in NAMES if name not in NODE_AGENTS]):
        processes.stop(pid_file(settings, name))


def make_mounts_shared() -> None:
    """As every systemd machine does at boot: mounts of volumes must be seen in all containers."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == "/" and any(field.startswith("shared:") for field in fields[6:]):
            return
    run(["mount", "--make-rshared", "/"], doing="Sharing mounts with containers")
