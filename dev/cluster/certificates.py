"""Certificates and kubeconfig files: one authority, one client certificate per component."""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from dev.cluster.commands import run, write_file
from dev.cluster.settings import CLUSTER_DOMAIN, FIRST_SERVICE_IP, NODE_NAME, Settings

DAYS = "3650"
SERVICE_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
)


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who a certificate makes its holder, in Kubernetes' terms: user (CN) and group (O)."""

    name: str
    user: str
    group: str = ""
    kubeconfig: bool = True

    @property
    def subject(self) -> str:
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"


CLIENTS = (
    Client(name="admin", user="kubernetes-admin", group="system:masters"),
    Client(name="apiserver-kubelet-client", user="kube-apiserver", group="system:masters", kubeconfig=False),
    Client(name="kubelet", user=f"system:node:{NODE_NAME}", group="system:nodes"),
    Client(name="kube-controller-manager", user="system:kube-controller-manager"),
    Client(name="kube-scheduler", user="system:kube-scheduler"),
    Client(name="kube-proxy", user="system:kube-proxy"),
)


def alternative_names(*, node_address: str) -> str:
    names = [f"DNS:{name}" for name in SERVICE_NAMES]
    names += [f"IP:{address}" for address in ("127.0.0.1", FIRST_SERVICE_IP, node_address)]
    return ",".join(names)


def _openssl(directory: Path, *arguments: str) -> None:
    run(["openssl", *arguments], doing="Making the cluster's certificates", cwd=directory)


def _make_key(directory: Path, name: str) -> None:
    """Elliptic curves: the keys are made in an instant, and every start can afford new ones."""
    _openssl(directory, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")


def _make_authority(directory: Path) -> None:
    _make_key(directory, "ca")
    _openssl(
        directory, "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=kubernetes", "-days", DAYS, "-out", "ca.crt"
    )


def _make_certificate(directory: Path, name: str, *, subject: str, usage: str, names: str = "") -> None:
    _make_key(directory, name)
    extensions = f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
    extensions += f"subjectAltName={names}\n" if names else ""
    (directory / f"{name}.ext").write_text(extensions)
    _openssl(directory, "req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
    _openssl(
        directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", DAYS, "-extfile", f"{name}.ext", "-out", f"{name}.crt",
    )  # fmt: skip


def _kubeconfig(directory: Path, client: Client, *, server: str) -> str:
    def embedded(name: str) -> str:
        return base64.b64encode((directory / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "dbt-operator",
                "cluster": {"server": server, "certificate-authority-data": embedded("ca.crt")},
            }
        ],
        "users": [
            {
                "name": client.name,
                "user": {
                    "client-certificate-data": embedded(f"{client.name}.crt"),
                    "client-key-data": embedded(f"{client.name}.key"),
                },
            }
        ],
        "contexts": [{"name": "dbt-operator", "context": {"cluster": "dbt-operator", "user": client.name}}],
        "current-context": "dbt-operator",
    }
    return yaml.safe_dump(content, sort_keys=False)


def identity(settings: Settings, *, node_address: str) -> str:
    """What the certificates were made for; when it changes they no longer fit."""
    return f"{alternative_names(node_address=node_address)}\nport {settings.api_port}\n"


def _identity_file(settings: Settings) -> Path:
    return settings.certificates / "identity"


def fit(settings: Settings, *, node_address: str) -> bool:
    path = _identity_file(settings)
    return path.exists() and path.read_text() == identity(settings, node_address=node_address)


def make(settings: Settings, *, node_address: str) -> None:
    """Everything anew; the identity is written last, so that an interrupted run counts as none."""
    directory = settings.certificates
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    _make_authority(directory)
    names = alternative_names(node_address=node_address)
    _make_certificate(directory, "kube-apiserver", subject="/CN=kube-apiserver", usage="serverAuth", names=names)
    for client in CLIENTS:
        _make_certificate(directory, client.name, subject=client.subject, usage="clientAuth")
    _make_key(directory, "service-account")
    _openssl(directory, "ec", "-in", "service-account.key", "-pubout", "-out", "service-account.pub")
    server = f"https://127.0.0.1:{settings.api_port}"
    for client in CLIENTS:
        if client.kubeconfig:
            content = _kubeconfig(directory, client, server=server)
            write_file(settings.kubeconfigs / f"{client.name}.yaml", content, mode=0o600)
    _identity_file(settings).write_text(identity(settings, node_address=node_address))
