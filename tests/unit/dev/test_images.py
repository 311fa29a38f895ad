"""An image is rebuilt when, and only when, one of its inputs has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import images
from dev.cluster.settings import ClusterError

DOCKERFILE = """\
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE} AS build
# COPY nothing /
ARG PIP_CERT
COPY requirements.txt \\
     pyproject.toml /src/
RUN make
FROM ${BASE}
COPY --from=build /src /src
COPY --chown=1:1 controller/ /app/
ADD ["a b", "/b"]
"""


def test_copied_paths_are_the_inputs() -> None:
    without_json = DOCKERFILE.replace('ADD ["a b", "/b"]\n', "")
    assert images.copied_paths(without_json) == ["controller", "pyproject.toml", "requirements.txt"]


def test_json_form_of_copy() -> None:
    assert "a b" in images.copied_paths(DOCKERFILE)


def test_declared_arguments() -> None:
    assert images.declared_arguments(DOCKERFILE) == {"BASE", "PIP_CERT"}


def test_digest_follows_content_name_and_mode(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    file.chmod(0o644)
    before = images.inputs_digest(tmp_path, ["a"], extra=["Dockerfile"])
    assert images.inputs_digest(tmp_path, ["a", "gone"], extra=["Dockerfile"]) == before
    assert images.inputs_digest(tmp_path, ["a"], extra=["other"]) != before
    file.chmod(0o755)
    executable = images.inputs_digest(tmp_path, ["a"], extra=["Dockerfile"])
    assert executable != before
    file.write_text("2")
    assert images.inputs_digest(tmp_path, ["a"], extra=["Dockerfile"]) not in {before, executable}


def test_unknown_image_names_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="dbt-operator, tools, jaffle-shop"):
        images.reference("nothing")
