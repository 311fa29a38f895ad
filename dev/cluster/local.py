"""A cluster on this machine, without a container engine: started, repaired and described."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dev.cluster import binaries, certificates, components, configs, network, packages, processes, runtime, teardown
from dev.cluster.commands import say
from dev.cluster.components import Component
from dev.cluster.settings import NODE_NAME, ClusterError, Settings

START_TIMEOUT = 90.0
PORT_TIMEOUT = 10.0
GRACE = 20.0  # for a running component to become healthy again after one that it needs was started anew
NODE_TIMEOUT = 90.0
POLL = 0.1


def waves(table: Sequence[Component]) -> Iterator[list[Component]]:
    """Groups of components that can start together, each after those it depends on."""
    started: set[str] = set()
    pending = list(table)
    while pending:
        wave = [component for component in pending if started.issuperset(component.depends_on)]
        if not wave:
            raise ValueError(f"components depend on each other: {[component.name for component in pending]}")
        yield wave
        started.update(component.name for component in wave)
        pending = [component for component in pending if component not in wave]


def _log(settings: Settings, component: Component) -> Path:
    return settings.logs / f"{component.name}.log"


def _wait_until(condition: Callable[[], bool], *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def _launch(settings: Settings, component: Component) -> None:
    # The kernel closes the sockets of a process some time after it shows the process as ended.
    _wait_until(lambda: all(network.is_free(port) for port in component.ports), timeout=PORT_TIMEOUT)
    network.check_ports(component.ports, component=component.name)
    processes.start(
        component.argv,
        pid_file=teardown.pid_file(settings, component.name),
        log=_log(settings, component),
        fingerprint=component.fingerprint,
        cwd=settings.state,
    )


def _runs_as_wanted(settings: Settings, component: Component) -> bool:
    record = processes.read_record(teardown.pid_file(settings, component.name))
    return processes.alive(record) and record is not None and record.fingerprint == component.fingerprint


def _wait_ready(settings: Settings, component: Component, *, timeout: float) -> bool:
    """False when it ended or did not become ready in time."""
    deadline = time.monotonic() + timeout
    while not component.ready():
        record = processes.read_record(teardown.pid_file(settings, component.name))
        if not processes.alive(record) or time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def _restart(settings: Settings, component: Component) -> None:
    processes.stop(teardown.pid_file(settings, component.name))
    _launch(settings, component)


def _start_wave(settings: Settings, wave: Sequence[Component]) -> list[str]:
    """Start what does not run, leave what is healthy, and replace what stays unhealthy."""
    launched = [component for component in wave if not _runs_as_wanted(settings, component)]
    for component in launched:
        _restart(settings, component)
    for component in wave:
        if component not in launched and not _wait_ready(settings, component, timeout=GRACE):
            _restart(settings, component)
            launched.append(component)
    for component in launched:
        if not _wait_ready(settings, component, timeout=START_TIMEOUT):
            log = _log(settings, component)
            raise ClusterError(f"{component.name} does not start; its log is {log}:\n{processes.last_lines(log)}")
    return [component.name for component in launched]


def _forget_previous_boot(settings: Settings) -> None:
    """After a reboot no container, mount or network namespace exists, whatever these files say."""
    path, boot = settings.state / "boot", processes.boot_id()
    if path.exists() and path.read_text() != boot:
        shutil.rmtree(settings.containerd_state, ignore_errors=True)
        shutil.rmtree(settings.cni_state, ignore_errors=True)
    path.write_text(boot)


def _check_ports(settings: Settings, table: Sequence[Component]) -> None:
    """Before anything is changed: what listens there may be a cluster of somebody else."""
    for component in table:
        if not processes.alive(processes.read_record(teardown.pid_file(settings, component.name))):
            network.check_ports(component.ports, component=component.name)


def _prepare(settings: Settings, *, node_address: str) -> None:
    if not certificates.fit(settings, node_address=node_address):
        if settings.etcd_data.exists():
            say("The machine's address or the port has changed: the cluster is made anew.")
        teardown.down(settings)
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        certificates.make(settings, node_address=node_address)
        settings.port_file.write_text(f"{settings.api_port}\n")
    _forget_previous_boot(settings)
    cni_plugins = packages.cni_directory()
    configs.write(
        settings,
        node_address=node_address,
        pause_image=runtime.pause_image(settings),
        cni_plugins=str(cni_plugins),
    )
    teardown.make_mounts_shared()
    network.prepare()


def _start_components(settings: Settings, table: Sequence[Component]) -> list[str]:
    is_new = not settings.etcd_data.exists()
    launched: list[str] = []
    for wave in waves(table):
        launched += _start_wave(settings, wave)
        if any(component.name == "containerd" for component in wave):
            if is_new:  # containers that an earlier cluster left behind are nobody's
                runtime.remove_containers(settings)
            runtime.ensure_pause_image(settings)
    return launched


def _wait_for(condition: Callable[[], bool], *, timeout: float, sentence: str) -> None:
    if not _wait_until(condition, timeout=timeout):
        raise ClusterError(sentence)


def node_is_ready(node: dict[str, Any] | None) -> bool:
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _wait_until_usable(settings: Settings) -> None:
    """A pod can be created only when its node and its namespace's service account exist."""
    kubelet_log = settings.logs / "kubelet.log"
    _wait_for(
        lambda: node_is_ready(components.read_api(settings, f"/api/v1/nodes/{NODE_NAME}")),
        timeout=NODE_TIMEOUT,
        sentence=f"The node did not become Ready within {NODE_TIMEOUT:.0f} s; see {kubelet_log}.",
    )
    _wait_for(
        lambda: components.read_api(settings, "/api/v1/namespaces/default/serviceaccounts/default") is not None,
        timeout=NODE_TIMEOUT,
        sentence="kube-controller-manager made no service account; see its log in the same folder as the others.",
    )


def up(settings: Settings) -> Path:
    """Start or repair the cluster; returns the folder of its programs."""
    packages.check_machine()
    packages.ensure()
    programs = binaries.ensure(settings)
    began = time.monotonic()
    address = network.node_address()
    table = components.table(settings, programs=programs, node_address=address)
    _check_ports(settings, table)
    _prepare(settings, node_address=address)
    launched = _start_components(settings, table)
    _wait_until_usable(settings)
    took = f"{time.monotonic() - began:.1f} s"
    if launched:
        say(f"Started {', '.join(launched)}. The node is Ready after {took}.")
    else:
        say("The cluster is already running.")
    return programs


def restart(settings: Settings, name: str, *, patience: float) -> None:
    """End a component that runs, start it again as it was, and wait until it is ready.

    patience: seconds that it has to end by itself; with 0 it is killed.
    """
    programs = binaries.directory(settings)
    table = components.table(settings, programs=programs, node_address=network.node_address())
    component = next(one for one in table if one.name == name)
    processes.stop(teardown.pid_file(settings, name), timeout=patience)
    _launch(settings, component)
    if not _wait_ready(settings, component, timeout=START_TIMEOUT):
        raise ClusterError(f"{name} does not start again:\n{processes.last_lines(_log(settings, component))}")


def admin_kubeconfig(settings: Settings) -> str:
    return (settings.kubeconfigs / "admin.yaml").read_text()


def status(settings: Settings) -> list[str]:
    """One line per component, and one for the node."""
    programs = binaries.directory(settings)
    table = components.table(settings, programs=programs, node_address=network.node_address())
    lines = []
    for component in table:
        record = processes.read_record(teardown.pid_file(settings, component.name))
        if record is None or not processes.alive(record):
            state = "not running"
        else:
            state = f"{'healthy' if component.ready() else 'unhealthy'} (process {record.pid})"
        lines.append(f"{component.name:<24} {state}")
    node = components.read_api(settings, f"/api/v1/nodes/{NODE_NAME}") if settings.certificates.exists() else None
    return [*lines, f"{'node ' + NODE_NAME:<24} {'Ready' if node_is_ready(node) else 'not ready'}"]


def is_running(settings: Settings) -> bool:
    return processes.alive(processes.read_record(teardown.pid_file(settings, "containerd")))
