"""Runs in which something fails: what failed is red and says why, what it blocked names it, all else is green."""

import json
from collections.abc import Iterator

import pytest

from tests.api import Api
from tests.conftest import Kubectl
from tests.e2e.conftest import Cluster, condition, own_cluster, phases, project


@pytest.fixture(scope="class")
def forger(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """An ended run of a model that prints what looks like dbt's events, for tests that only look at it."""
    with own_cluster(kubectl, api) as cluster:
        cluster.create_run(**project("print-forger"))
        cluster.wait_for_end()
        yield cluster


def test_a_broken_model_blocks_its_descendants_and_nothing_else(cluster: Cluster) -> None:
    cluster.create_run(vars={"broken": True})
    status = cluster.wait_for_end()
    models = cluster.models()
    by_phase: dict[str, set[str]] = {}
    for name, phase in phases(models).items():
        by_phase.setdefault(phase, set()).add(name)
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
    assert condition(status, "Succeeded") == "False"
    assert condition(status, "Failed") == "True"
    (culprit,) = by_phase["Failed"]
    broken = models[culprit]
    assert "Binder Error" in broken["status"]["message"]
    assert broken["status"]["reason"] == "Error"
    # Every node below the culprit, at any depth, is skipped and names it; no other node is.
    below = {broken["spec"]["uniqueId"]}
    while True:
        more = {m["spec"]["uniqueId"] for m in models.values() if below & set(m["spec"].get("dependsOn", ()))} | below
        if more == below:
            break
        below = more
    assert by_phase["Skipped"] == {n for n, m in models.items() if m["spec"]["uniqueId"] in below} - {culprit}
    assert len(by_phase["Skipped"]) >= 2
    assert {models[name]["status"]["blockedBy"] for name in by_phase["Skipped"]} == {broken["spec"]["uniqueId"]}
    assert by_phase["Succeeded"] == set(models) - {culprit} - by_phase["Skipped"]
    assert culprit in status["message"]
    assert status["failures"][0]["uniqueId"] == broken["spec"]["uniqueId"]
    cluster.until("an Event of the failed node", lambda: any(e["reason"] == "NodeFailed" for e in cluster.events()))


def test_a_failing_test_fails_its_model_and_stops_the_children(cluster: Cluster) -> None:
    cluster.create_run(**project("failing-test"))
    status = cluster.wait_for_end()
    models = cluster.models()
    failed = {name: model for name, model in models.items() if model["status"]["phase"] == "Failed"}
    assert status["phase"] == "Failed"
    assert status["reason"] == "TestsFailed"
    ((name, model),) = failed.items()
    assert model["status"]["reason"] == "TestsFailed"
    assert model["status"]["tests"]["failed"] == 1
    assert model["status"]["tests"]["failing"][0]["uniqueId"].startswith("test.")
    skipped = [m for m in models.values() if m["status"]["phase"] == "Skipped"]
    assert skipped
    assert {m["status"]["blockedBy"] for m in skipped} == {model["spec"]["uniqueId"]}, name


class TestOneForger:
    """Only looked at, and so made once."""

    def test_what_a_model_prints_is_no_event(self, forger: Cluster) -> None:
        assert phases(forger.models()) == {"forger": "Succeeded", "victim": "Failed", "witness": "Skipped"}
        assert forger.run()["status"]["phase"] == "Failed"
        assert not any("FORGED" in json.dumps(model["status"]) for model in forger.models().values())

    def test_the_pods_log_is_lines_of_json_of_bounded_length(self, forger: Cluster) -> None:
        lines = forger.log().splitlines()
        assert all(len(line.encode()) < 8 * 1024 for line in lines)
        events = [json.loads(line) for line in lines]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[0]["info"]["name"] == "RunnerStarted"
        assert events[-1]["info"]["name"] == "RunFinished"
