"""Taking down ends what was started, keeps what makes the next start quick, and nothing of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster import network, processes, teardown
from dev.cluster.settings import Settings

MACHINE_WIDE = ("remove_rules", "remove_bridge", "_remove_cgroups", "_remove_strays")


@pytest.fixture
def cluster(tmp_path: Path) -> Settings:
    return Settings(checkout=tmp_path, cache=tmp_path / "cache", state=tmp_path / "state", api_port=6443)


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps that reach beyond the state folder, recorded instead of taken."""
    calls: list[str] = []
    for name in MACHINE_WIDE:
        owner = teardown if name.startswith("_") else network
        monkeypatch.setattr(owner, name, lambda *_, name=name: calls.append(name))
    return calls


def _start(cluster: Settings, name: str) -> processes.ProcessRecord:
    cluster.state.mkdir(exist_ok=True)
    return processes.start(
        ["/bin/sleep", "60"],
        pid_file=teardown.pid_file(cluster, name),
        log=cluster.logs / f"{name}.log",
        fingerprint="",
        cwd=cluster.state,
    )


@pytest.mark.parametrize("purge", [False, True])
def test_down_ends_everything(*, cluster: Settings, touched: list[str], purge: bool) -> None:
    records = [_start(cluster, name) for name in ("etcd", "kubelet", "coredns")]
    for folder in (cluster.containerd_root, cluster.etcd_data, cluster.kubelet_root, cluster.certificates):
        folder.mkdir()
    teardown.down(cluster, purge=purge)
    assert not any(processes.alive(record) for record in records)
    assert sorted(touched) == sorted(MACHINE_WIDE)
    assert not cluster.etcd_data.exists()
    assert not cluster.kubelet_root.exists()
    assert cluster.containerd_root.exists() is not purge
    assert cluster.certificates.exists() is not purge
    assert not teardown.exists(cluster)


def test_down_without_a_cluster_leaves_the_machine_alone(cluster: Settings, touched: list[str]) -> None:
    teardown.down(cluster)
    assert touched == []
