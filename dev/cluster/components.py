"""The table of components: what each one runs, needs, listens on, and how it shows that it is ready."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.cluster import binaries, configs
from dev.cluster.commands import find_program, succeeds
from dev.cluster.network import Port, api_server_port
from dev.cluster.settings import NODE_NAME, POD_CIDR, SERVICE_CIDR, Settings

LOOPBACK = "127.0.0.1"
ETCD_URL = f"http://{LOOPBACK}:2379"
ETCD_PEER_URL = f"http://{LOOPBACK}:2380"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One daemon; `files` are the files it reads only when it starts."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    depends_on: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A running daemon with another fingerprint was started for another configuration."""
        digest = hashlib.sha256("\0".join(self.argv).encode())
        for file in self.files:
            digest.update(file.read_bytes() if file.exists() else b"")
        return digest.hexdigest()[:16]


def _unverified() -> ssl.SSLContext:
    """For health checks of daemons that make their own certificates on each start."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _answers(url: str, *, context: ssl.SSLContext | None = None) -> bool:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context or _unverified())
    )
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return False


def healthy(url: str) -> Callable[[], bool]:
    return lambda: _answers(url)


def admin_context(settings: Settings) -> ssl.SSLContext:
    certificates = settings.certificates
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
    return context


def read_api(settings: Settings, path: str) -> dict[str, Any] | None:
    """A GET request as administrator; None while there is no answer."""
    try:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=admin_context(settings))
        )
        with opener.open(f"https://{LOOPBACK}:{settings.api_port}{path}", timeout=5) as response:
            body: dict[str, Any] = json.load(response)
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError):
        return None
    return body


def _api_server_ready(settings: Settings) -> bool:
    url = f"https://{LOOPBACK}:{settings.api_port}/readyz"
    try:
        return _answers(url, context=admin_context(settings))
    except OSError:
        return False


def _program(name: str) -> str:
    return find_program(name) or name


def _etcd(settings: Settings, programs: Path) -> Component:
    """Without fsync: the data of a development cluster need not survive a power cut."""
    return Component(
        name="etcd",
        argv=(
            str(programs / binaries.ETCD),
            f"--name={NODE_NAME}",
            f"--data-dir={settings.etcd_data}",
            f"--listen-client-urls={ETCD_URL}",
            f"--advertise-client-urls={ETCD_URL}",
            f"--listen-peer-urls={ETCD_PEER_URL}",
            f"--initial-advertise-peer-urls={ETCD_PEER_URL}",
            f"--initial-cluster={NODE_NAME}={ETCD_PEER_URL}",
            "--unsafe-no-fsync",
            "--auto-compaction-retention=1h",
            "--quota-backend-bytes=4294967296",
            "--log-level=warn",
        ),
        ready=healthy(f"{ETCD_URL}/health"),
        ports=(Port(number=2379, address=LOOPBACK), Port(number=2380, address=LOOPBACK)),
    )


def _containerd(settings: Settings) -> Component:
    config = settings.configuration / configs.CONTAINERD
    ctr = _program("ctr")
    return Component(
        name="containerd",
        argv=(_program("containerd"), "--config", str(config), "--log-level", "warn"),
        ready=lambda: succeeds([ctr, "--address", str(settings.containerd_socket), "version"], timeout=5),
        files=(config,),
    )


def _api_server(settings: Settings, programs: Path, *, node_address: str) -> Component:
    certificates = settings.certificates
    return Component(
        name="kube-apiserver",
        argv=(
            str(programs / "kube-apiserver"),
            f"--etcd-servers={ETCD_URL}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            f"--secure-port={settings.api_port}",
            f"--advertise-address={node_address}",
            f"--tls-cert-file={certificates}/kube-apiserver.crt",
            f"--tls-private-key-file={certificates}/kube-apiserver.key",
            f"--client-ca-file={certificates}/ca.crt",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={certificates}/service-account.key",
            f"--service-account-key-file={certificates}/service-account.pub",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--kubelet-client-certificate={certificates}/apiserver-kubelet-client.crt",
            f"--kubelet-client-key={certificates}/apiserver-kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ),
        ready=lambda: _api_server_ready(settings),
        depends_on=("etcd",),
        ports=(api_server_port(settings.api_port),),
        files=(certificates / "kube-apiserver.crt",),
    )


def _controller_manager(settings: Settings, programs: Path) -> Component:
    kubeconfig = settings.kubeconfigs / "kube-controller-manager.yaml"
    return Component(
        name="kube-controller-manager",
        argv=(
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            f"--service-account-private-key-file={settings.certificates}/service-account.key",
            f"--root-ca-file={settings.certificates}/ca.crt",
            f"--flex-volume-plugin-dir={settings.kubelet_root}/volume-plugins",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--cluster-cidr={POD_CIDR}",
        ),
        ready=healthy(f"https://{LOOPBACK}:10257/healthz"),
        depends_on=("kube-apiserver",),
        ports=(Port(number=10257, address=LOOPBACK),),
        files=(kubeconfig,),
    )


def _scheduler(settings: Settings, programs: Path) -> Component:
    kubeconfig = settings.kubeconfigs / "kube-scheduler.yaml"
    return Component(
        name="kube-scheduler",
        argv=(
            str(programs / "kube-scheduler"),
            f"--kubeconfig={kubeconfig}",
            f"--bind-address={LOOPBACK}",
            "--leader-elect=false",
        ),
        ready=healthy(f"https://{LOOPBACK}:10259/healthz"),
        depends_on=("kube-apiserver",),
        ports=(Port(number=10259, address=LOOPBACK),),
        files=(kubeconfig,),
    )


def _kubelet(settings: Settings, programs: Path, *, node_address: str) -> Component:
    kubeconfig = settings.kubeconfigs / "kubelet.yaml"
    config = settings.configuration / configs.KUBELET
    return Component(
        name="kubelet",
        argv=(
            str(programs / "kubelet"),
            f"--config={config}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={settings.kubelet_root}",
            f"--cert-dir={settings.kubelet_root}/pki",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={node_address}",
        ),
        ready=healthy(f"http://{LOOPBACK}:10248/healthz"),
        depends_on=("kube-apiserver", "containerd"),
        ports=(Port(number=10250, address=node_address), Port(number=10248, address=LOOPBACK)),
        files=(config, kubeconfig),
    )


def _kube_proxy(settings: Settings, programs: Path) -> Component:
    config = settings.configuration / configs.KUBE_PROXY
    return Component(
        name="kube-proxy",
        argv=(str(programs / "kube-proxy"), f"--config={config}"),
        ready=healthy(f"http://{LOOPBACK}:10256/healthz"),
        depends_on=("kube-apiserver",),
        ports=(Port(number=10256, address=LOOPBACK), Port(number=10249, address=LOOPBACK)),
        files=(config, settings.kubeconfigs / "kube-proxy.yaml"),
    )


def _coredns(settings: Settings, programs: Path, *, node_address: str) -> Component:
    config = settings.configuration / configs.COREDNS
    return Component(
        name="coredns",
        argv=(str(programs / "coredns"), "-conf", str(config)),
        ready=healthy(f"http://{LOOPBACK}:10254/health"),
        depends_on=("kube-apiserver",),
        ports=(
            Port(number=53, address=node_address),
            Port(number=53, address=node_address, udp=True),
            Port(number=10254, address=LOOPBACK),
        ),
        files=(config, settings.kubeconfigs / "admin.yaml"),
    )


def table(settings: Settings, *, programs: Path, node_address: str) -> tuple[Component, ...]:
    """In the order of starting; stopping goes the other way."""
    return (
        _etcd(settings, programs),
        _containerd(settings),
        _api_server(settings, programs, node_address=node_address),
        _controller_manager(settings, programs),
        _scheduler(settings, programs),
        _kubelet(settings, programs, node_address=node_address),
        _kube_proxy(settings, programs),
        _coredns(settings, programs, node_address=node_address),
    )


NAMES = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)
