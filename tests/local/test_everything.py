"""A project with everything that dbt knows, on Postgres: each node is shown, and of a microbatch model each batch."""

from pathlib import Path
from typing import Any

import pytest

from dbt_operator.kube.resources import DBT_MODELS, Object
from dbt_operator.local.store import Store
from tests.local.desk import PROJECTS, Desk, manifest
from tests.unit.runner.postgres_server import query

EVERYTHING = manifest(
    "everything",
    at=str(PROJECTS / "everything"),
    vars={"broken": True},
    # While the failed batch waits for its retry, the others can be seen to be done.
    retry={"reasons": ["PartialSuccess"], "backoff": {"duration": "3s"}},
)


@pytest.fixture
def desk(server: dict[str, str], tmp_path: Path, warm_python: Path, operator: Path) -> Desk:
    """A folder to work in, and a Postgres."""
    return Desk(tmp_path, warm_python, {**server, "EVERYTHING_TARGET": "postgres"}, python=operator)


def test_every_kind_of_node_is_shown_and_only_the_batch_that_failed_is_executed_again(desk: Desk) -> None:
    process = desk.start("run", "-f", desk.write(EVERYTHING))
    desk.wait(lambda: _batches(desk) == (2, 1, 3), process=process)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    status = desk.status("everything")
    # What breaks the contract is not retried.
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
    models = _models(desk)
    days = models["model.everything.by_day"]["status"]
    assert (days["phase"], days["batches"]) == (
        "Succeeded",
        {"total": 3, "succeeded": 3, "failed": 0, "summary": "3/3"},
    )
    assert [(each["kind"], each["phase"]) for each in days["attempts"]] == [
        ("Producer", "Failed"),
        ("Retry", "Succeeded"),
    ]
    built_by = query("select built_by from everything.by_day order by day", desk.environ)
    assert len(built_by) == 3
    assert built_by[0] == built_by[2] != built_by[1]
    _check_nodes(models)


def _models(desk: Desk) -> dict[str, Object]:
    """By dbt's id: two of them have the same name."""
    with Store(desk.place.state) as store:
        return {model["spec"]["uniqueId"]: model for model in store.all(DBT_MODELS)}


def _batches(desk: Desk) -> tuple[int, int, int] | None:
    found = _models(desk).get("model.everything.by_day", {}) if desk.place.state.exists() else {}
    batches = found.get("status", {}).get("batches")
    return (batches["succeeded"], batches["failed"], batches["total"]) if batches else None


def _check_nodes(models: dict[str, dict[str, Any]]) -> None:
    phases = {one: model["status"]["phase"] for one, model in models.items()}
    failed = {one for one, phase in phases.items() if phase != "Succeeded"}
    held_back = "model.everything.after_agreed"
    assert failed == {"model.everything.agreed", held_back, *(f"model.everything.customers.v{v}" for v in (1, 2))}
    assert models[held_back]["status"]["blockedBy"] == "model.everything.agreed"
    refreshed, doubled = models["model.everything.refreshed"], models["function.everything.doubled"]
    assert refreshed["spec"]["materialized"] == "materialized_view"
    assert doubled["spec"]["resourceType"] == "function"
    assert {models[f"model.everything.customers.v{version}"]["spec"]["name"] for version in (1, 2)} == {"customers"}
    assert models["model.everything.paid_back"]["status"]["reason"] == "Inlined"
