"""A DuckDB file on a volume outlives the pod and is open in one process at a time; one in the pod is gone with it."""

from typing import Any

from tests.e2e.conftest import Cluster, phases, project


def test_a_retry_waits_for_the_process_that_has_the_file_and_finds_what_it_has_built(
    cluster: Cluster, volume: dict[str, Any]
) -> None:
    retry = {"backoff": {"duration": "1s", "factor": 1}}
    cluster.create_run(**project("recovering"), single_attempt=False, retry=retry, podTemplate=volume)
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry", "Resume"]
    producer, retried, resumed = status["attempts"]
    assert producer["completionTime"] <= retried["startTime"]
    assert retried["completionTime"] <= resumed["startTime"]
    models = cluster.models()
    assert phases(models) == {"flaky": "Succeeded", "below": "Succeeded", "slow": "Succeeded"}
    assert {name: model["status"]["tries"] for name, model in models.items()} == {"flaky": 2, "below": 1, "slow": 1}
    first, second = models["flaky"]["status"]["attempts"]
    assert "flaky fails the first time" in first["message"]
    assert second["phase"] == "Succeeded"


def test_a_database_in_the_pod_is_not_retried_into_emptiness(cluster: Cluster) -> None:
    select: dict[str, Any] = {"select": ["+product_sales"], "exclude": ["resource_type:test"]}
    cluster.create_run(**select, single_attempt=False, vars={"broken": True})
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer"]
    assert "product_sales" in status["message"]
    assert "the database file /tmp/jaffle_shop.duckdb is gone with the pod" in status["message"]
    assert status["dbt"]["podDatabase"] == "/tmp/jaffle_shop.duckdb"  # noqa: S108 - a path in the pod
    # What somebody asks for is the whole command: nothing else can do it.
    node = cluster.models()["product_sales"]["metadata"]["name"]
    cluster.kubectl("annotate", "dbtmodel", node, "-n", cluster.namespace, "dbt-operator.io/retry=once-more")
    cluster.until("a second attempt", lambda: len(cluster.run()["status"]["attempts"]) == 2)
    status = cluster.wait_for_end()
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Producer"]
    models = cluster.models()
    assert {name: model["status"]["tries"] for name, model in models.items()} == dict.fromkeys(models, 2)
    assert phases(models).pop("product_sales") == "Failed"
