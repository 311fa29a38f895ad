"""kopf connects as the operator's own client does."""

from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml
from kubernetes.aio.config import incluster_config

from dbt_operator.kube.login import connection_info


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    path = folder / "kubeconfig"
    content = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": "https://api.example:6443", **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def headers(info: kopf.ConnectionInfo) -> dict[str, str]:
    return {name: value.lower() for name, value in info.as_http_headers().items()}


async def test_in_a_pod_with_the_pods_own_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("t1\n")
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    info = await connection_info(kubeconfig=None)
    assert (info.server, info.ca_path, info.insecure) == ("https://10.0.0.1:443", str(tmp_path / "ca.crt"), False)
    assert headers(info) == {"Authorization": "bearer t1"}
    (tmp_path / "token").write_text("t2")  # it is rotated
    assert headers(await connection_info(kubeconfig=None)) == {"Authorization": "bearer t2"}


async def test_with_what_a_plugin_of_a_kubeconfig_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    says = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t"}}'
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo", "args": [says]}
    path = kubeconfig(tmp_path, {"exec": plugin}, **{"insecure-skip-tls-verify": True})
    info = await connection_info(kubeconfig=path)
    assert (info.server, info.insecure) == ("https://api.example:6443", True)
    assert headers(info) == {"Authorization": "bearer t"}
    assert info.proxy_url == "http://proxy.example:3128"


async def test_a_proxy_of_the_kubeconfig_is_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    path = kubeconfig(tmp_path, {"username": "me", "password": "p"}, **{"proxy-url": "http://other.example:3128"})
    info = await connection_info(kubeconfig=path)
    assert info.proxy_url == "http://other.example:3128"
    assert headers(info)["Authorization"].startswith("basic ")
