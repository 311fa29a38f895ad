"""A project with everything that dbt knows, on Postgres: each node is shown, and of a microbatch model each batch."""

from pathlib import Path
from typing import Any

from dev.chaos.project import IMAGE
from tests.archives import config_map, packed_folder
from tests.conftest import CHECKOUT
from tests.e2e.alike import assert_alike, warehouse
from tests.e2e.conftest import Cluster
from tests.e2e.postgres import Postgres, postgres

__all__ = ["postgres"]  # a fixture: pytest finds it in the module that uses it

PROJECT = CHECKOUT / "tests" / "projects" / "everything"


def _run() -> dict[str, Any]:
    password = {"secretKeyRef": {"name": "warehouse", "key": "password"}}
    env = [{"name": "EVERYTHING_TARGET", "value": "postgres"}, {"name": "PGPASSWORD", "valueFrom": password}]
    return {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {"name": "everything"},
        "spec": {
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "project": {"archive": {"configMapRef": {"name": "everything", "key": "project.tgz"}}},
            "profile": {"inProject": True},
            "vars": {"broken": True},
            # While the failed batch waits for its retry, the others can be seen to be done.
            "retry": {"reasons": ["PartialSuccess"], "backoff": {"duration": "10s"}},
            "podTemplate": {"spec": {"containers": [{"name": "dbt", "env": env}]}},
        },
    }


def test_every_kind_of_node_is_shown_and_only_the_batch_that_failed_is_executed_again(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    cluster.apply(config_map("everything", {"project.tgz": packed_folder(PROJECT)}))
    cluster.apply(_run())
    cluster.until("the producer has left a batch", lambda: _batches(cluster) == (2, 1, 3))
    status = cluster.wait_for_end("everything")
    # What breaks the contract is not retried.
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
    models = {model["spec"]["uniqueId"]: model for model in cluster.objects("dbtmodels")}
    days = models["model.everything.by_day"]["status"]
    assert (days["phase"], days["batches"]) == (
        "Succeeded",
        {"total": 3, "succeeded": 3, "failed": 0, "summary": "3/3"},
    )
    assert [(each["kind"], each["phase"]) for each in days["attempts"]] == [
        ("Producer", "Failed"),
        ("Retry", "Succeeded"),
    ]
    built_by = [row for (row,) in postgres.sql("select built_by from everything.by_day order by day")]
    assert len(built_by) == 3
    assert built_by[0] == built_by[2] != built_by[1]
    _check_nodes(models)
    with warehouse() as environ:
        assert_alike(cluster, "everything", folder=tmp_path, environ=environ)


def _batches(cluster: Cluster) -> tuple[int, int, int] | None:
    found = [each for each in cluster.objects("dbtmodels") if each["spec"]["name"] == "by_day"]
    batches = found[0].get("status", {}).get("batches") if found else None
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
