"""How runs connect: of a connection in the run or kept for several, with the password in a Secret."""

import subprocess
from typing import Any

import pytest
import yaml

from dev.chaos.project import SCHEMA
from tests.conftest import CHECKOUT
from tests.e2e.conftest import FEW, Cluster, phases
from tests.e2e.postgres import HOST, Postgres, chaos, everything_said, postgres, producer_pod

__all__ = ["postgres"]  # a fixture: pytest finds it in the module that uses it

ONE: dict[str, Any] = {"select": ["layer1_01"], "exclude": ["resource_type:test"]}
SEEDS: dict[str, Any] = {"select": ["resource_type:seed"]}
CONNECTION: dict[str, Any] = {
    "type": "postgres",
    "fields": {"host": HOST, "user": "dbt", "dbname": "warehouse", "schema": SCHEMA, "connect_timeout": 10},
    "secretFields": {
        "password": {"name": "connection", "key": "password"},
        "port": {"name": "connection", "key": "port", "format": "JSON"},
    },
    "secretFiles": {"sslrootcert": {"name": "connection", "key": "ca.crt"}},
}
CERTIFICATE = "no certificate, as the server has none"
DEBUG = ("dbt", "debug", "--connection", "--profiles-dir", "/dbt-operator/profiles", "--log-path", "/tmp/debug")  # noqa: S108 - in a pod
MINUTES = 600_000
"""Milliseconds that no test waits for."""


@pytest.fixture
def secret(cluster: Cluster, postgres: Postgres) -> str:
    """The password, in a Secret with what else the connection takes from there."""
    values = {"password": postgres.password, "port": "5432", "ca.crt": CERTIFICATE}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "connection"}, "stringData": values})
    return postgres.password


def keep(cluster: Cluster, **fields: Any) -> None:
    """The DbtConnection, with some fields of the adapter replaced."""
    spec = CONNECTION | {"fields": CONNECTION["fields"] | fields}
    kind = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtConnection", "metadata": {"name": "dwh"}}
    cluster.apply(kind | {"spec": spec})


def debug(cluster: Cluster, run: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dbt debug` in the pod in which the run is at work, with what dbt has there."""
    pod = producer_pod(cluster, run)
    return cluster.kubectl.run("exec", pod, "-n", cluster.namespace, "-c", "dbt", "--", *DEBUG, *arguments)


def test_dbt_reaches_a_postgres_by_the_connection_of_the_run(cluster: Cluster, postgres: Postgres, secret: str) -> None:
    profile = {"connection": CONNECTION, "schema": "elsewhere", "target": "prod"}
    cluster.create_run(**chaos(profile=profile, settings={"sleep_ms": MINUTES}, **ONE))
    cluster.until("a query", lambda: bool(postgres.active_queries()))
    done = debug(cluster, "shop", "--profile=dbt_operator", "--target=prod")
    assert done.returncode == 0, done.stdout
    assert "All checks passed!" in done.stdout
    mounted = ("cat", "/dbt-operator/connection/sslrootcert/ca.crt")
    assert cluster.kubectl(
        "exec", producer_pod(cluster, "shop"), "-n", cluster.namespace, "-c", "dbt", "--", *mounted
    ) == (CERTIFICATE)
    assert ("elsewhere",) in postgres.sql("select schema_name from information_schema.schemata")
    assert cluster.run()["status"]["dbt"]["target"] == "prod"
    kept = cluster.api.get("configmaps", "shop-profile", namespace=cluster.namespace)
    assert secret not in str(kept)
    assert secret not in everything_said(cluster, "shop")


def test_dbt_debug_succeeds_on_duckdb(cluster: Cluster) -> None:
    connection = {"type": "duckdb", "fields": {"path": ":memory:", "settings": {"threads": 1}}}
    cluster.create_run(profile={"connection": connection}, pause=600, **FEW)
    cluster.wait_for_nodes("Running")
    done = debug(cluster, "shop", "--profile=dbt_operator", "--target=default")
    assert done.returncode == 0, done.stdout
    assert "All checks passed!" in done.stdout


def test_a_connection_that_changes_is_another_one_for_the_runs_that_start_afterwards(
    cluster: Cluster, postgres: Postgres, secret: str
) -> None:
    del secret
    keep(cluster)
    profile = {"connectionRef": {"name": "dwh"}}
    retry = {"limit": 1, "backoff": {"duration": "5s", "factor": 1}}
    spec = chaos(profile=profile, retry=retry, settings={"fail_times": {"layer1_01": 1}}, select=["+layer1_01"])
    cluster.create_run("first", **spec, exclude=["resource_type:test"])
    cluster.until("a failure", lambda: cluster.run("first").get("status", {}).get("nodes", {}).get("failed", 0) == 1)
    keep(cluster, user="nobody")
    status = cluster.wait_for_end("first")
    assert (status["phase"], status["retries"]) == ("Succeeded", 1), status["message"]
    cluster.create_run("second", **chaos(profile=profile, **SEEDS))
    status = cluster.wait_for_end("second")
    assert (status["phase"], status["reason"]) == ("Failed", "ConnectionFailed"), status["message"]
    assert "nobody" in status["message"]
    keep(cluster)
    cluster.create_run("third", **chaos(profile=profile, **SEEDS))
    assert cluster.wait_for_end("third")["phase"] == "Succeeded"
    assert set(postgres.executions()) >= {
        name for name, phase in phases(cluster.models()).items() if phase == "Succeeded"
    }


def test_the_example_runs_as_it_stands(cluster: Cluster, postgres: Postgres) -> None:
    for manifest in yaml.safe_load_all((CHECKOUT / "examples" / "connections" / "postgres.yaml").read_text()):
        cluster.apply(manifest)
    status = cluster.wait_for_end("bike-rental-mine")
    assert (status["phase"], status["dbt"]["target"]) == ("Succeeded", "dev"), status["message"]
    assert postgres.sql("select count(*) from mine_marts.daily_revenue") != [("0",)]


def test_a_run_waits_for_its_connection(cluster: Cluster, secret: str) -> None:
    del secret
    cluster.create_run(**chaos(profile={"connectionRef": {"name": "dwh"}}, **SEEDS))
    cluster.until("it waits", lambda: cluster.run().get("status", {}).get("reason") == "ConnectionNotFound")
    assert cluster.run()["status"]["phase"] == "Starting"
    assert "There is no DbtConnection dwh" in cluster.run()["status"]["message"]
    keep(cluster)
    assert cluster.wait_for_end()["phase"] == "Succeeded", cluster.run()["status"]["message"]
