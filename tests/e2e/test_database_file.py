"""A DuckDB file in the pod is gone with it. One on a volume outlives the pod: see `tested` of test_local.py."""

from tests.e2e.conftest import Cluster, phases, project


def test_a_database_in_the_pod_is_not_retried_into_emptiness(cluster: Cluster) -> None:
    cluster.create_run(**project("failing-test"), single_attempt=False, retry={"reasons": ["TestsFailed"]})
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "TestsFailed"), status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer"]
    assert "the database file /tmp/failing_test.duckdb is gone with the pod" in status["message"]
    assert status["dbt"]["podDatabase"] == "/tmp/failing_test.duckdb"  # noqa: S108 - a path in the pod
    models = cluster.models()
    (failed,) = (one for one in models.values() if one["status"]["phase"] == "Failed")
    assert failed["status"]["reason"] == "TestsFailed"
    assert failed["status"]["tests"]["failed"] == 1
    assert failed["status"]["tests"]["failing"][0]["uniqueId"].startswith("test.")
    skipped = {name: one["status"] for name, one in models.items() if one["status"]["phase"] == "Skipped"}
    assert {one["blockedBy"] for one in skipped.values()} == {failed["spec"]["uniqueId"]}
    # What somebody asks for is the whole command: nothing else can do it.
    node = failed["metadata"]["name"]
    cluster.kubectl("annotate", "dbtmodel", node, "-n", cluster.namespace, "dbt-operator.io/retry=once-more")
    cluster.until("a second attempt", lambda: len(cluster.run()["status"]["attempts"]) == 2)
    status = cluster.wait_for_end()
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Producer"]
    models = cluster.models()
    assert {name for name, phase in phases(models).items() if phase == "Skipped"} == skipped.keys()
    built = {name: model["status"]["tries"] for name, model in models.items() if name not in skipped}
    assert built == dict.fromkeys(built, 2)
