"""Runs that cannot start: each ends with a reason of the closed list and one sentence that names the cause.

What dbt refuses, tests/bad_input has.
"""

import json
from typing import Any

import pytest

from tests.e2e.conftest import FEW, JAFFLE_SHOP_IMAGE, Cluster, condition

SECRET_VARIABLE = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "x"}}}

EXITING_SIDECAR = {
    "name": "proxy",
    "image": JAFFLE_SHOP_IMAGE,
    "restartPolicy": "Always",
    "command": ["sh", "-c", "exit 7"],
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def _container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "dbt", **fields}]}}


# For what would wait for ever. All else has the time it needs to start on a busy machine.
NOT_FOR_LONG = {"producer": {"startDeadlineSeconds": 6}}
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "an image that is not there": (
        {"image": "localhost/no-such-image:1", **NOT_FOR_LONG}, "ImagePullFailed", "localhost/no-such-image:1",
    ),
    "an image whose name is no legal one": (
        {"image": "localhost/SHOP:1"}, "ImagePullFailed", "localhost/SHOP:1",
    ),
    "an image that no registry is asked for": (
        {"image": "localhost/no-such-image:1", "imagePullPolicy": "Never"}, "ImagePullFailed", "no-such-image:1",
    ),
    "a sidecar that exits again and again": (
        {"podTemplate": {"spec": {"initContainers": [EXITING_SIDECAR]}}, **NOT_FOR_LONG},
        "ContainerStartFailed", "exit code 7",
    ),
    "a Secret of a variable that is not there": (
        {"podTemplate": _container(env=[SECRET_VARIABLE]), **NOT_FOR_LONG}, "ContainerConfigError", "no-such-secret",
    ),
    "a Secret with the profile that is not there": (
        {"profile": {"secretRef": {"name": "no-secret"}}, **NOT_FOR_LONG}, "ContainerConfigError", "no-secret",
    ),
    "a connection that is not there": (
        {"profile": {"connectionRef": {"name": "no-connection"}}, **NOT_FOR_LONG},
        "ConnectionNotFound", "There is no DbtConnection no-connection in namespace",
    ),
    "a Secret of a connection that is not there": (
        {"profile": {"connection": {"type": "duckdb", "secretFields": {"path": {"name": "no-secret", "key": "x"}}}}}
        | NOT_FOR_LONG,
        "ContainerConfigError", "no-secret",
    ),
    "no node that fits": (
        {"podTemplate": {"spec": {"nodeSelector": {"no": "such-node"}}}, **NOT_FOR_LONG}, "Unschedulable", "node",
    ),
    "a pod template that sets what the operator owns": (
        {"podTemplate": _container(command=["sh"])}, "InvalidPodTemplate", "containers[dbt].command",
    ),
    "a pod template that Kubernetes refuses": (
        {"podTemplate": {"spec": {"dnsPolicy": "Nonsense"}}}, "InvalidPodTemplate", "spec.podTemplate.spec.dnsPolicy",
    ),
    "a pod template with a typo": (
        {"podTemplate": _container(resource={"limits": {"memory": "1Gi"}})},
        "InvalidPodTemplate", "spec.podTemplate.spec.containers[dbt].resource",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_reason_names_the_cause(cluster: Cluster, case: str) -> None:
    spec, reason, named = CASES[case]
    cluster.create_run(**spec)
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", reason), status["message"]
    assert named in status["message"]
    assert "Traceback" not in status["message"]
    assert condition(status, "Failed") == "True"
    # Nothing half-done stays: no green node, and no pod that still tries.
    assert not any(m["status"]["phase"] == "Succeeded" for m in cluster.models().values())
    cluster.until(
        "no living pod",
        lambda: not [pod for pod in cluster.objects("pods") if pod["status"]["phase"] in ("Pending", "Running")],
    )


def test_an_image_without_dbt(cluster: Cluster) -> None:
    # The dbt of this image is on its PATH only.
    cluster.create_run(
        podTemplate=_container(env=[{"name": "PATH", "value": "/usr/bin:/bin"}]), image=JAFFLE_SHOP_IMAGE
    )
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "DbtNotFound"), status["message"]


def _quota(cluster: Cluster, limited: str, most: str = "0") -> None:
    """No more of this in the namespace."""
    spec = {"hard": {limited: most}}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": spec})


def _wait_until_queued(cluster: Cluster) -> None:
    cluster.until("Queued", lambda: cluster.run().get("status", {}).get("phase") == "Queued")
    assert cluster.run()["status"]["reason"] == "QuotaExceeded"
    assert "full" in cluster.run()["status"]["message"]


def test_a_full_quota_of_jobs_keeps_the_run_queued_until_there_is_room(cluster: Cluster) -> None:
    _quota(cluster, "count/jobs.batch")
    cluster.create_run(**FEW)
    _wait_until_queued(cluster)
    cluster.kubectl("delete", "resourcequota", "full", "-n", cluster.namespace)
    assert cluster.wait_for_end()["phase"] == "Succeeded"


def test_a_quota_that_wants_limits_which_the_pod_does_not_have(cluster: Cluster) -> None:
    _quota(cluster, "limits.memory", "100Gi")
    cluster.create_run(**FEW)
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "AdmissionDenied"), status["message"]
    assert "must specify limits.memory for: dbt" in status["message"]


def test_a_full_quota_of_pods_and_a_job_that_its_queue_holds_back_keep_it_queued(cluster: Cluster) -> None:
    _quota(cluster, "pods")
    cluster.create_run(**FEW)
    _wait_until_queued(cluster)
    # There is a Job now, and it has no pod.
    held = ("patch", "job", "shop-producer-1", "-n", cluster.namespace, "--type=merge", "-p")
    cluster.kubectl(*held, '{"spec": {"suspend": true}}')
    cluster.kubectl("delete", "resourcequota", "full", "-n", cluster.namespace)
    cluster.until("held back", lambda: cluster.run()["status"]["reason"] == "JobSuspended")
    assert cluster.run()["status"]["phase"] == "Queued"
    cluster.kubectl(*held, '{"spec": {"suspend": false}}')
    assert cluster.wait_for_end()["phase"] == "Succeeded"


def test_a_pod_that_the_namespaces_policy_refuses(cluster: Cluster) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", cluster.namespace, label)
    cluster.create_run(
        "refused", podTemplate=_container(securityContext={"privileged": True, "allowPrivilegeEscalation": True})
    )
    status = cluster.wait_for_end("refused")
    assert (status["phase"], status["reason"]) == ("Failed", "AdmissionDenied"), status["message"]
    assert "violates PodSecurity" in status["message"]
    # What the operator makes of a plain run is clean under the same policy.
    cluster.create_run("clean", **FEW)
    assert cluster.wait_for_end("clean")["phase"] == "Succeeded"


def test_a_name_that_is_taken_by_somebody_elses_job(cluster: Cluster) -> None:
    container = {"name": "x", "image": JAFFLE_SHOP_IMAGE, "command": ["sleep", "3600"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "shop-producer-1"},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    cluster.apply(job)
    cluster.create_run()
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "NameConflict"), status["message"]
    assert "shop-producer-1" in status["message"]
    left = cluster.kubectl.json("get", "job", "shop-producer-1", "-n", cluster.namespace)
    assert json.dumps(left["metadata"].get("ownerReferences", [])) == "[]"
