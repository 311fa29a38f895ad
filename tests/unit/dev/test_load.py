"""Which image a user's name means, and what is asked of Docker and kind where the cluster is kind's."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.cluster.settings import ClusterError
from dev.load import full_name, load_image

PROGRAM = '#!/bin/sh\necho "$(basename "$0") $*" >> "$(dirname "$0")/asked"\n'


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("shop:1", "docker.io/library/shop:1"),
        ("team/shop:1", "docker.io/team/shop:1"),
        ("localhost/shop:1", "localhost/shop:1"),
        ("registry.example.com/shop:1", "registry.example.com/shop:1"),
        ("registry:5000/team/shop:2026-11-20", "registry:5000/team/shop:2026-11-20"),
    ],
)
def test_a_name_means_what_it_means_to_kubernetes(name: str, full: str) -> None:
    assert full_name(name) == full


@pytest.mark.parametrize("name", ["shop", "shop:latest", "registry:5000/shop"])
def test_what_kubernetes_would_pull_anew_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match=f"{name} needs a tag"):
        full_name(name)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose cluster is kind's, and what Docker and kind were asked for, which do not run here."""
    for name in ("docker", "kind"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("dev.load.cluster_kind", lambda _settings: "kind")
    return tmp_path / "asked"


def test_kind_is_given_an_image_that_docker_has(asked: Path) -> None:
    load_image("shop:1", context=None)
    assert asked.read_text() == "kind load docker-image --name dbt-operator shop:1\n"


def test_it_is_built_first_where_a_folder_is_named(asked: Path) -> None:
    context = asked.parent / "context"
    with pytest.raises(ClusterError, match="no Dockerfile"):
        load_image("shop:1", context=context)
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    load_image("shop:1", context=context)
    build, given = asked.read_text().splitlines()
    assert build == f"docker build --quiet --tag shop:1 {context}"
    assert given == "kind load docker-image --name dbt-operator shop:1"


def test_a_cluster_of_others_needs_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dev.load.cluster_kind", lambda _settings: "current")
    with pytest.raises(ClusterError, match="push shop:1 to a registry"):
        load_image("shop:1", context=None)
