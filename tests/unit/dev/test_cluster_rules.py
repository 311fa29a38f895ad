"""What is decided without touching the machine: order, ports, rules, mounts, versions."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dev.cluster import binaries, certificates, components, local, settings, teardown
from dev.cluster.network import Port, check_ports, cleanup_script
from dev.cluster.settings import ClusterError, Settings

SETTINGS = Settings(checkout=Path("/checkout"), cache=Path("/cache"), state=Path("/state"), api_port=6443)

NAT = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-5a - [0:0]
:CNI-7b - [0:0]
:CNI-DN-9c - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-SERVICES - [0:0]
:MINE - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -j MINE
-A POSTROUTING -s 10.244.0.5/32 -m comment --comment "name: \\"dbt-operator\\" id: \\"ab\\"" -j CNI-5a
-A POSTROUTING -s 10.9.0.5/32 -m comment --comment "name: \\"podman\\" id: \\"cd\\"" -j CNI-7b
-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \\"podman\\" id: \\"cd\\"" -j CNI-DN-9c
-A KUBE-SERVICES -j MINE
COMMIT
"""


def test_table_is_started_after_what_it_needs() -> None:
    table = components.table(SETTINGS, programs=Path("/programs"), node_address="192.0.2.10")
    assert tuple(component.name for component in table) == components.NAMES
    order = [{component.name for component in wave} for wave in local.waves(table)]
    assert order[0] == {"etcd", "containerd"}
    assert order[1] == {"kube-apiserver"}


def test_cleanup_leaves_the_rules_of_others() -> None:
    script = cleanup_script(NAT, network="dbt-operator").splitlines()
    assert script[0] == "*nat"
    assert script[-1] == "COMMIT"
    assert {line for line in script if line.startswith("-X")} == {"-X CNI-5a", "-X KUBE-SERVICES"}
    deleted = [line for line in script if line.startswith("-D")]
    assert [line.split()[1] for line in deleted] == ["PREROUTING", "POSTROUTING"]
    assert all("podman" not in line and "MINE" not in line for line in deleted)


def test_cleanup_of_a_clean_table_does_nothing() -> None:
    assert cleanup_script("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", network="dbt-operator") == ""


def test_taken_port_is_named_with_the_remedy() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = Port(number=other.getsockname()[1], address="127.0.0.1", variable="SOME_PORT")
        with pytest.raises(ClusterError, match=rf"Port {port.number}/tcp .*kube-apiserver.* set SOME_PORT"):
            check_ports([port], component="kube-apiserver")


def test_port_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recorded = tmp_path / "port"
    monkeypatch.delenv(settings.API_PORT_VARIABLE, raising=False)
    assert settings.api_port(recorded) == settings.DEFAULT_API_PORT
    recorded.write_text("7443\n")
    assert settings.api_port(recorded) == 7443
    monkeypatch.setenv(settings.API_PORT_VARIABLE, "8443")
    assert settings.api_port(recorded) == 8443
    monkeypatch.setenv(settings.API_PORT_VARIABLE, "many")
    with pytest.raises(ClusterError, match="must be a port number"):
        settings.api_port(recorded)


def test_mounts_are_undone_from_the_inside() -> None:
    mountinfo = "1 0 8:1 / / rw\n2 1 8:1 / /state/a rw\n3 2 8:1 / /state/a/b\\040c rw\n4 1 8:1 / /statement rw\n"
    assert teardown.mount_points(mountinfo, below=Path("/state")) == [Path("/state/a/b c"), Path("/state/a")]


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (["/usr/bin/containerd-shim-runc-v2", "-address", "/state/c.sock"], True),
        (["/usr/bin/containerd-shim-runc-v2", "-address", "/run/containerd/containerd.sock"], False),
        (["/usr/bin/less", "/state/c.sock"], False),
        ([""], False),
    ],
)
def test_shims_of_other_containerds_are_left_alone(*, words: list[str], ours: bool) -> None:
    assert teardown.is_shim_of(words, address="/state/c.sock") is ours


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26)), ("go version go1.25rc1 linux/arm64", (1, 25)), ("", (0, 0))],
)
def test_go_version(text: str, version: tuple[int, int]) -> None:
    assert binaries.parse_go_version(text) == version


def test_digest_of_programs_follows_the_module(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a\n")
    (tmp_path / "go.sum").write_text("")
    before = binaries.digest(tmp_path)
    assert binaries.digest(tmp_path) == before
    (tmp_path / "go.sum").write_text("example.com/x v1.0.0 h1:=\n")
    assert binaries.digest(tmp_path) != before


def test_another_address_needs_other_certificates() -> None:
    one = certificates.identity(SETTINGS, node_address="192.0.2.10")
    assert one != certificates.identity(SETTINGS, node_address="192.0.2.11")
