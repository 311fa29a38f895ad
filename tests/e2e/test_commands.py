"""Runs of other commands than `build`, on a database that outlives their pods."""

from typing import Any

from tests.e2e.conftest import Cluster, phases, project

BACKOFF = {"duration": "1s", "factor": 1}


def _models(cluster: Cluster, run: str) -> dict[str, dict[str, Any]]:
    found = cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={run}")
    return {item["spec"]["name"]: item for item in found}


def test_run_builds_models_and_no_tests_and_a_model_that_fails_is_retried(
    cluster: Cluster, volume: dict[str, Any]
) -> None:
    spec = project("commands") | {"command": "run", "retry": {"backoff": BACKOFF}, "podTemplate": volume}
    cluster.create_run("models", single_attempt=False, **spec)
    status = cluster.wait_for_end("models")
    assert (status["phase"], status["message"]) == ("Succeeded", "3 nodes succeeded.")
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry", "Resume"]
    assert [attempt.get("nodes") for attempt in status["attempts"]] == [None, 1, 1]
    assert status["tests"]["total"] == 0
    models = _models(cluster, "models")
    assert phases(models) == {"orders": "Succeeded", "flaky": "Succeeded", "report": "Succeeded"}
    assert {name: model["status"]["tries"] for name, model in models.items()} == {"orders": 1, "flaky": 2, "report": 1}


def test_test_says_what_the_tests_say_and_a_test_that_fails_is_retried_alone(
    cluster: Cluster, volume: dict[str, Any]
) -> None:
    spec = project("commands") | {"select": ["orders"], "podTemplate": volume}
    cluster.create_run("models", single_attempt=False, command="run", **spec)
    status = cluster.wait_for_end("models")
    assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
    retry = {"backoff": BACKOFF, "reasons": ["TestsFailed"]}
    cluster.create_run("tests", single_attempt=False, command="test", retry=retry, **spec)
    status = cluster.wait_for_end("tests")
    assert (status["phase"], status["message"]) == ("Succeeded", "2 tests succeeded.")
    assert [(attempt["kind"], attempt.get("nodes")) for attempt in status["attempts"]] == [
        ("Producer", None),
        ("Retry", 1),
    ]
    (orders,) = _models(cluster, "tests").values()
    assert orders["spec"]["selected"] is False
    # Nothing of it says that it was built.
    assert orders["status"]["phase"] == "Succeeded"
    assert not {"tries", "startedAt", "finishedAt", "executionSeconds"} & orders["status"].keys()
    assert (orders["status"]["tests"]["total"], orders["status"]["tests"]["passed"]) == (2, 2)
    cluster.create_run("again", single_attempt=False, command="test", retry=retry, **spec)
    status = cluster.wait_for_end("again")
    assert (status["phase"], len(status["attempts"])) == ("Succeeded", 1), status["message"]
