"""Runs that are cancelled, and deleted some time after their end."""

import json

from tests.e2e.conftest import Cluster, condition, phases


def _patch(cluster: Cluster, **spec: object) -> None:
    patch = json.dumps({"spec": spec})
    cluster.kubectl("patch", "dbtrun", "shop", "-n", cluster.namespace, "--type=merge", "-p", patch)


def test_cancelling_ends_the_run_and_its_nodes_and_it_is_deleted_when_its_time_is_over(cluster: Cluster) -> None:
    cluster.create_run(pause=5)
    cluster.wait_for_nodes("Running")
    _patch(cluster, cancel=True)
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Cancelled", "Cancelled"), status["message"]
    assert condition(status, "Succeeded") == "False"
    shown = phases(cluster.models())
    assert "Cancelled" in shown.values()
    assert set(shown.values()) <= {"Succeeded", "Cancelled"}
    cluster.until("no pod", lambda: not cluster.objects("pods"))
    _patch(cluster, ttlSecondsAfterFinished=1)
    left = ("get", "dbtruns,dbtmodels,jobs,pods", "-n", cluster.namespace, "-o", "name")
    cluster.until("nothing is left", lambda: not cluster.kubectl(*left).strip())


def test_a_run_that_was_never_to_begin_creates_nothing(cluster: Cluster) -> None:
    cluster.create_run(cancel=True)
    assert cluster.wait_for_end()["phase"] == "Cancelled"
    assert cluster.objects("jobs") == []
