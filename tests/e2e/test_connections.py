"""How runs connect: of a connection in the run or kept for several, with the password in a Secret."""

import subprocess
from typing import Any

import pytest

from dev.chaos.project import SCHEMA
from tests.e2e.conftest import Cluster
from tests.e2e.postgres import HOST, everything_said, producer_pod
from tests.e2e.repair import Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

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
LATER: dict[str, Any] = {"limit": 1, "backoff": {"duration": "5s", "factor": 1}}


@pytest.fixture
def secret(runs: Runs) -> str:
    """The password, in a Secret with what else the connection takes from there."""
    values = {"password": runs.postgres.password, "port": "5432", "ca.crt": CERTIFICATE}
    kind = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "connection"}}
    runs.cluster.apply(kind | {"stringData": values})
    return runs.postgres.password


def keep(cluster: Cluster, **fields: Any) -> None:
    """The DbtConnection, with some fields of the adapter replaced."""
    spec = CONNECTION | {"fields": CONNECTION["fields"] | fields}
    kind = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtConnection", "metadata": {"name": "dwh"}}
    cluster.apply(kind | {"spec": spec})


def debug(cluster: Cluster, run: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dbt debug` in the pod in which the run is at work, with what dbt has there."""
    pod = producer_pod(cluster, run)
    return cluster.kubectl.run("exec", pod, "-n", cluster.namespace, "-c", "dbt", "--", *DEBUG, *arguments)


class TestConnections:
    """They share a warehouse, and so are a class."""

    def test_dbt_reaches_a_postgres_by_the_connection_of_the_run(self, runs: Runs, secret: str) -> None:
        cluster, postgres = runs.cluster, runs.postgres
        profile = {"connection": CONNECTION, "schema": "elsewhere", "target": "prod"}
        runs.start("shop", "layer1_01", profile=profile, settings={"sleep_ms": MINUTES})
        cluster.until("a query", lambda: bool(postgres.active_queries()))
        done = debug(cluster, "shop", "--profile=dbt_operator", "--target=prod")
        assert done.returncode == 0, done.stdout
        assert "All checks passed!" in done.stdout
        mounted = ("cat", "/dbt-operator/connection/sslrootcert/ca.crt")
        assert cluster.kubectl(
            "exec", producer_pod(cluster, "shop"), "-n", cluster.namespace, "-c", "dbt", "--", *mounted
        ) == (CERTIFICATE)
        assert ("elsewhere",) in postgres.sql("select schema_name from information_schema.schemata")
        assert runs.status("shop")["dbt"]["target"] == "prod"
        kept = cluster.api.get("configmaps", "shop-profile", namespace=cluster.namespace)
        assert secret not in str(kept)
        assert secret not in everything_said(cluster, "shop")

    def test_a_run_waits_for_its_connection_and_has_the_same_one_to_its_end(self, runs: Runs, secret: str) -> None:
        del secret
        profile = {"connectionRef": {"name": "dwh"}}
        runs.start("first", "layer1_02", profile=profile, settings={"fail_times": {"layer1_02": 1}}, retry=LATER)
        runs.cluster.until("it waits", lambda: runs.status("first").get("reason") == "ConnectionNotFound")
        assert runs.status("first")["phase"] == "Starting"
        assert "There is no DbtConnection dwh" in runs.status("first")["message"]
        keep(runs.cluster)
        runs.wait_for_phase("first", "Failed", "layer1_02")
        keep(runs.cluster, user="nobody")
        runs.start("second", "layer1_03", profile=profile, retry={"limit": 0})
        status = runs.end("first")
        assert (status["phase"], status["retries"]) == ("Succeeded", 1), status["message"]
        # A run that starts later has the connection as it is by then.
        status = runs.end("second")
        assert (status["phase"], status["reason"]) == ("Failed", "ConnectionFailed"), status["message"]
        assert "nobody" in status["message"]
        assert runs.postgres.executions() == {"layer1_02": 1}
