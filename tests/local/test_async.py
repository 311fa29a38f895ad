"""Runs whose simple nodes are executed without dbt: retried, and resumed when the process is killed."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.local.desk import Desk, manifest
from tests.unit.runner.conftest import PROJECTS


@pytest.fixture
def desk(server: dict[str, str], tmp_path: Path, warm_python: Path, operator: Path) -> Desk:
    """A folder to work in, with a project and its Postgres."""
    project = tmp_path / "project"
    shutil.copytree(PROJECTS / "async", project)
    shutil.rmtree(project / "snapshots")
    for file in (*project.glob("models/*"), *project.glob("seeds/*")):
        file.unlink()
    models = {
        "first": "{{ config(materialized='table') }} select 1 as id",
        "slow": "{{ config(materialized='table') }} select id, pg_sleep(5)::text as x from {{ ref('first') }}",
        "kept": "{{ config(materialized='incremental') }} select id from {{ ref('slow') }}",
        "last": "select id from {{ ref('kept') }}",
    }
    for name, text in models.items():
        (project / "models" / f"{name}.sql").write_text(text)
    return Desk(tmp_path, warm_python, server, python=operator)


def test_what_was_running_when_it_was_killed_is_executed_again_and_nothing_else(desk: Desk) -> None:
    run: dict[str, Any] = manifest(mode="Async")
    process = desk.start("run", "-f", desk.write(run))
    log = desk.folder / ".dbt-operator/runs/small/attempts/small-producer-1/log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and b"model.shop.slow" in _started(log)):
        time.sleep(0.1)
    os.kill(_attempt(desk), signal.SIGKILL)
    process.communicate(timeout=300)
    assert process.returncode == 0
    status = desk.status("small")
    assert (status["phase"], status["message"]) == ("Succeeded", "4 nodes succeeded.")
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Resume"]
    shown = {one["spec"]["name"]: one["status"] for one in desk.get("dbtmodels").values()}
    tries = {name: (one["tries"], one["executor"]) for name, one in shown.items()}
    assert tries == {"first": (1, "Async"), "slow": (2, "Async"), "kept": (1, "dbt"), "last": (1, "Async")}
    assert shown["kept"]["executorReason"] == "it is materialized as incremental"


def _started(log: Path) -> bytes:
    return b"\n".join(line for line in log.read_bytes().splitlines() if b'"LogStartLine"' in line)


def _attempt(desk: Desk) -> int:
    """The process that executes without dbt: the runner that is no part of another."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = any(str(desk.folder).encode() in word for word in words)
        if ours and b"--executor=Async" in words and not any(word.startswith(b"--part=") for word in words):
            return int(process.name)
    raise AssertionError("no process of the attempt was found")
