"""The same project with dbt and without, in an emulator that executes the SQL: the same ends, the same rows.

bqemulator is installed by `python -m dev.dbt_venv bqemulator` (half a gigabyte), as `make test-bigquery` does; it is
started without the network.
"""

import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.bigquery.conftest import PROFILE, Attempt, Warehouse
from tests.bigquery.fake import FakeBigQuery
from tests.bigquery.test_async import ASYNC, executors

PYTHON = "DBT_OPERATOR_TEST_BQEMULATOR_PYTHON"
pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} does not say where the emulator is")
# Its start downloads an extension for geography, of which nothing is used here.
START = """
import inspect
from bqemulator.cli import main
from bqemulator.storage import engine
for _, kind in inspect.getmembers(engine, inspect.isclass):
    if "_load_spatial" in vars(kind):
        kind._load_spatial = lambda self: None
main()
"""
PATIENCE = 120
PROJECT = {
    "name": "shop",
    "version": "1.0",
    "profile": "shop",
    "flags": {"send_anonymous_usage_stats": False},
}
MODELS = {
    "orders": "{{ config(materialized='table', partition_by={'field': 'day', 'data_type': 'date'}) }}"
    " select id, amount, date '2026-11-01' as day from {{ ref('raw') }}",
    "large": "{{ config(materialized='view') }} select * from {{ ref('orders') }} where amount > 10",
    "part": "{{ config(materialized='ephemeral') }} select id, amount * 2 as twice from {{ ref('large') }}",
    "report": "{{ config(materialized='table') }} select count(*) as n, sum(twice) as total from {{ ref('part') }}",
    "history": "{{ config(materialized='incremental', unique_key='id') }} select id, amount from {{ ref('orders') }}",
    "broken": "{{ config(materialized='table') }} select nothing from {{ ref('orders') }}",
    "below": "{{ config(materialized='table') }} select * from {{ ref('broken') }}",
}
WARNS = {"arguments": {"values": ["2"]}, "config": {"severity": "warn"}}
TESTS = {
    "version": 2,
    "models": [
        {"name": "orders", "columns": [{"name": "id", "data_tests": ["not_null", "unique"]}]},
        {"name": "large", "columns": [{"name": "id", "data_tests": [{"accepted_values": WARNS}]}]},
    ],
}


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[str]:
    """Its address, once it answers."""
    ports = [_free_port() for _ in range(2)]
    line = [os.environ[PYTHON], "-c", START, "start", "--rest-port", str(ports[0]), "--grpc-port", str(ports[1])]
    url = f"http://127.0.0.1:{ports[0]}"
    log = tmp_path / "emulator.log"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*line, "--project", "local"], env=environ, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the emulator did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _asked(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/bigquery/v2/projects/local/{path}", data=data, headers=headers)  # noqa: S310 - http, on this machine
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
        found: dict[str, Any] = json.load(answer)
    return found


def _answers(url: str) -> bool:
    try:
        _asked(url, "datasets")
    except OSError:
        return False
    return True


def rows(url: str, sql: str) -> list[list[Any]]:
    """What a query answers."""
    found = _asked(url, "queries", {"query": sql, "useLegacySql": False})
    return [[cell["v"] for cell in row["f"]] for row in found.get("rows", [])]


def built(attempt: Attempt, dataset: str) -> dict[str, tuple[str, str]]:
    """How each node ended, and which relation it has made."""
    return {
        result["unique_id"].split(".")[2]: (
            str(result["status"]),
            str(result.get("relation")).replace(dataset, "DATASET"),
        )
        for result in attempt.named("NodeResult")
    }


def test_the_rows_are_those_that_dbt_makes(
    emulator: str, bigquery_python: Path, warm_python: Path, archive: Path, tmp_path: Path
) -> None:
    made = Warehouse(FakeBigQuery(), emulator, bigquery_python, warm_python, archive, tmp_path)
    target = {**PROFILE["shop"]["outputs"]["dev"], "dataset": "{{ env_var('DATASET') }}"}  # type: ignore[index]
    made.file("profiles.yml", yaml.safe_dump({"shop": {"target": "dev", "outputs": {"dev": target}}}))
    made.file("dbt_project.yml", yaml.safe_dump(PROJECT))
    made.file("seeds/raw.csv", "id,amount\n1,10\n2,20\n3,30\n")
    made.write(MODELS, models__tests_yml=yaml.safe_dump(TESTS))
    ends, found = [], []
    for dataset, options in (("plain", ()), ("without", ASYNC)):
        for _ in range(2):  # when nothing is there, and when all is
            attempt = made.begin(options=options, environment={"DATASET": dataset})
            assert attempt.ends() == 1
        ends.append(built(attempt, dataset))
        names = ("raw", "orders", "large", "report", "history")
        found.append({name: sorted(rows(emulator, f"select * from {dataset}.{name}")) for name in names})  # noqa: S608 - our names
    assert ends[0] == ends[1]
    assert found[0] == found[1]
    assert found[1]["report"] == [["2", "100"]]
    assert ends[1]["below"][0] == "skipped"
    assert executors(attempt) == {
        **dict.fromkeys(("orders", "large", "report", "broken", "below"), "Async"),
        **dict.fromkeys(("not_null_orders_id", "unique_orders_id", "accepted_values_large_id__2"), "Async"),
        "history": "it is materialized as incremental",
        "raw": "it is a seed",
    }
