"""The operator dies and comes back: the run does not notice, and the statuses end as if nothing had happened."""

import json
from functools import partial

from dev.install import NAMESPACE as SYSTEM
from tests.conftest import Kubectl
from tests.e2e.conftest import SOME, Cluster, metric, operator_pod, phases


def _kill(kubectl: Kubectl) -> None:
    """End the operator without any warning, as a lost node does; its Deployment may start another one."""
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dbt-operator", "--grace-period=0", "--force")


def _succeeded(cluster: Cluster, run: str, *, at_least: int) -> bool:
    nodes = cluster.run(run).get("status", {}).get("nodes", {})
    return bool(nodes.get("succeeded", 0) >= at_least)


def _wait_until_back(cluster: Cluster) -> None:
    def ready() -> bool:
        found = cluster.kubectl.json("get", "deployment", "dbt-operator", "-n", SYSTEM)
        return bool(found["status"].get("readyReplicas")) and found["status"].get("updatedReplicas") == 1

    cluster.until("the operator is back", ready)


def test_killing_the_operator_three_times_changes_nothing(cluster: Cluster) -> None:
    cluster.create_run("disturbed", pause=2)
    for running in (1, 4, 8):
        cluster.until(
            f"{running} nodes of the disturbed run have ended",
            partial(_succeeded, cluster, "disturbed", at_least=running),
        )
        if running == 8:
            cluster.until("a checkpoint is stored", lambda: cluster.checkpoint("disturbed") is not None)
        _kill(cluster.kubectl)
    checkpoint = cluster.checkpoint("disturbed")
    status = cluster.wait_for_end("disturbed")
    assert status["phase"] == "Succeeded", status["message"]
    models = cluster.objects("dbtmodels")
    assert status["nodes"]["succeeded"] == status["nodes"]["total"] == len(models)
    assert status["tests"]["succeeded"] == status["tests"]["total"] > 0
    assert [job["metadata"]["name"] for job in cluster.objects("jobs")] == ["disturbed-producer-1"]
    assert {m["status"]["phase"] for m in models} == {"Succeeded"}
    assert {m["status"]["tries"] for m in models} == {1}
    # The last operator has read on from where the one before it was.
    assert checkpoint is not None
    assert checkpoint.position is not None
    stamped = cluster.kubectl("logs", "--timestamps", "-n", cluster.namespace, "job/disturbed-producer-1", "-c", "dbt")
    since = f"{checkpoint.position:%Y-%m-%dT%H:%M:%S}"
    printed = [line.partition(" ")[0] for line in stamped.splitlines()]
    read = metric(cluster.kubectl, 'dbt_operator_log_lines_total{outcome="read"}')
    assert 0 < read <= sum(stamp >= since for stamp in printed) < len(printed)


def test_a_run_that_ends_while_the_operator_is_down_ends_right(cluster: Cluster) -> None:
    _wait_until_back(cluster)
    cluster.create_run(pause=1.5, vars={"broken": True})
    cluster.wait_for_nodes("Running")
    cluster.kubectl("scale", "deployment", "dbt-operator", "-n", SYSTEM, "--replicas=0")
    _kill(cluster.kubectl)
    try:
        cluster.until(
            "dbt has ended by itself",
            lambda: [pod["status"]["phase"] for pod in cluster.objects("pods")] == ["Failed"],
        )
        assert cluster.run()["status"]["phase"] == "Running"
    finally:
        cluster.kubectl("scale", "deployment", "dbt-operator", "-n", SYSTEM, "--replicas=1")
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
    assert "Running" not in phases(cluster.models()).values()
    assert "Pending" not in phases(cluster.models()).values()


def test_a_deleted_operator_pod_stops_within_its_grace_period(cluster: Cluster) -> None:
    _wait_until_back(cluster)
    pod = operator_pod(cluster.kubectl)
    cluster.create_run(**SOME, pause=1)
    cluster.wait_for_nodes("Running")
    cluster.kubectl("delete", "pod", pod, "-n", SYSTEM, "--wait=false")
    log = cluster.kubectl("logs", "-f", pod, "-n", SYSTEM)
    last = [json.loads(line) for line in log.splitlines() if line.startswith("{")][-1]
    assert last["event"] == "stopped", last
    assert last["all_statuses_stored"] is True, log
    assert cluster.wait_for_end()["phase"] == "Succeeded"


def test_the_liveness_probe_answers(cluster: Cluster) -> None:
    _wait_until_back(cluster)
    pod = cluster.kubectl.json("get", "pod", operator_pod(cluster.kubectl), "-n", SYSTEM)
    assert pod["status"]["containerStatuses"][0]["ready"] is True
    assert pod["spec"]["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/healthz"
