"""Where the cluster keeps its files, which ports it uses, and how it reports what went wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
NODE_NAME = "dbt-operator"
KIND_NAME = "dbt-operator"
POD_CIDR = "10.244.0.0/16"
NODE_POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
FIRST_SERVICE_IP = "10.96.0.1"
CLUSTER_DOMAIN = "cluster.local"
BRIDGE = "cni0"
CNI_NETWORK = "dbt-operator"

API_PORT_VARIABLE = "DBT_OPERATOR_CLUSTER_PORT"
DEFAULT_API_PORT = 6443
PORT_FILE = "api-port"


class ClusterError(Exception):
    """A failure that one sentence explains: shown without a traceback."""


def _base_directory(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    base = Path(value) if value.startswith("/") else Path.home() / fallback
    return base / "dbt-operator"


def api_port(recorded: Path) -> int:
    """The port of kube-apiserver: a setting, because the default may be taken on a developer's machine.

    An existing cluster keeps its port when the setting is absent: a shell without it must not make a new cluster.
    """
    value = os.environ.get(API_PORT_VARIABLE)
    if not value:
        value = recorded.read_text().strip() if recorded.exists() else str(DEFAULT_API_PORT)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise ClusterError(f"{API_PORT_VARIABLE} is {value!r}: it must be a port number.")
    return int(value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every path and setting of the cluster; nothing else in this package knows where a file lives.

    Binaries and state live outside the checkout, so that all checkouts of one user share one cluster.
    """

    checkout: Path
    cache: Path
    state: Path
    api_port: int

    @property
    def checkout_directory(self) -> Path:
        """What belongs to this checkout only: its kubeconfig and the client programs that fit it."""
        return self.checkout / ".cluster"

    @property
    def kubeconfig(self) -> Path:
        return self.checkout_directory / "kubeconfig"

    @property
    def kind_file(self) -> Path:
        return self.checkout_directory / "kind"

    @property
    def client_binaries(self) -> Path:
        return self.checkout_directory / "bin"

    @property
    def binaries_module(self) -> Path:
        return self.checkout / "dev" / "cluster" / "binaries"

    @property
    def pause_source(self) -> Path:
        return self.checkout / "dev" / "cluster" / "pause" / "main.go"

    @property
    def lock_file(self) -> Path:
        """Outside the state folder, which a purge deletes while the lock is held."""
        return self.state.parent / "cluster.lock"

    @property
    def port_file(self) -> Path:
        return self.state / PORT_FILE

    @property
    def certificates(self) -> Path:
        return self.state / "certificates"

    @property
    def kubeconfigs(self) -> Path:
        return self.state / "kubeconfigs"

    @property
    def configuration(self) -> Path:
        return self.state / "configuration"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def etcd_data(self) -> Path:
        return self.state / "etcd"

    @property
    def kubelet_root(self) -> Path:
        return self.state / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.state / "pod-logs"

    @property
    def cni_state(self) -> Path:
        return self.state / "cni"

    @property
    def containerd_root(self) -> Path:
        """Image store: kept by `down`, so that the next start needs no import."""
        return self.state / "containerd"

    @property
    def containerd_state(self) -> Path:
        return self.state / "containerd-state"

    @property
    def containerd_socket(self) -> Path:
        return self.containerd_state / "containerd.sock"


def load() -> Settings:
    state = _base_directory("XDG_STATE_HOME", ".local/state") / "cluster"
    return Settings(
        checkout=Path(__file__).resolve().parents[2],
        cache=_base_directory("XDG_CACHE_HOME", ".cache"),
        state=state,
        api_port=api_port(state / PORT_FILE),
    )
