"""Runs that cannot start: each ends with a reason of the closed list and one sentence that names the cause.

What dbt refuses, tests/bad_input has.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import Api
from tests.conftest import Kubectl
from tests.e2e.conftest import FEW, JAFFLE_SHOP_IMAGE, Cluster, condition, own_cluster

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


OF_SOMEBODY_ELSE = "a name that is taken by somebody else's Job"
BUDGET = "example.com/budget"
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
    # The dbt of this image is on its PATH only.
    "an image without dbt": (
        {"podTemplate": _container(env=[{"name": "PATH", "value": "/usr/bin:/bin"}])}, "DbtNotFound", "dbt",
    ),
    OF_SOMEBODY_ELSE: ({}, "NameConflict", "-producer-1"),
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


RUNS = {case: f"run-{number}" for number, case in enumerate(CASES)}
TAKEN = f"{RUNS[OF_SOMEBODY_ELSE]}-producer-1"


@pytest.fixture(scope="class")
def failing(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """All runs of the table, at once."""
    with own_cluster(kubectl, api) as cluster:
        container = {"name": "x", "image": JAFFLE_SHOP_IMAGE, "command": ["sleep", "3600"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": TAKEN}}
        cluster.apply({**job, "spec": {"suspend": True, "template": template}})
        for case, (spec, _, _) in CASES.items():
            cluster.create_run(RUNS[case], **spec)
        yield cluster


class TestNothingStarts:
    """The runs are executed once for all of them."""

    @pytest.mark.parametrize("case", CASES)
    def test_the_reason_names_the_cause(self, failing: Cluster, case: str) -> None:
        (_, reason, named), run = CASES[case], RUNS[case]
        status = failing.wait_for_end(run)
        assert (status["phase"], status["reason"]) == ("Failed", reason), status["message"]
        assert named in status["message"]
        assert "Traceback" not in status["message"]
        assert condition(status, "Failed") == "True"
        # Nothing half-done stays: no green node, and no pod that still tries.
        of_run = f"dbt-operator.io/run={run}"
        models = failing.objects("dbtmodels", labels=of_run)
        assert not any(model["status"]["phase"] == "Succeeded" for model in models)
        failing.until(
            "no living pod",
            lambda: (
                not [
                    pod
                    for pod in failing.objects("pods", labels=of_run)
                    if pod["status"]["phase"] in ("Pending", "Running")
                ]
            ),
        )

    def test_somebody_elses_job_is_left_alone(self, failing: Cluster) -> None:
        failing.wait_for_end(TAKEN.removesuffix("-producer-1"))
        left = failing.api.get("jobs", TAKEN, namespace=failing.namespace)
        assert left["metadata"].get("ownerReferences", []) == []


@pytest.fixture(scope="class")
def strict(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace with a policy for pods."""
    with own_cluster(kubectl, api) as cluster:
        kubectl("label", "namespace", cluster.namespace, "pod-security.kubernetes.io/enforce=restricted")
        yield cluster


class TestANamespaceThatLimitsPods:
    """Each of the tests leaves it as it was."""

    def test_a_pod_that_the_namespaces_policy_refuses(self, strict: Cluster) -> None:
        privileged = _container(securityContext={"privileged": True, "allowPrivilegeEscalation": True})
        strict.create_run("refused", podTemplate=privileged)
        status = strict.wait_for_end("refused")
        assert (status["phase"], status["reason"]) == ("Failed", "AdmissionDenied"), status["message"]
        assert "violates PodSecurity" in status["message"]

    def test_a_quota_that_wants_limits_which_the_pod_does_not_have(self, strict: Cluster) -> None:
        _quota(strict, "limits.memory", "100Gi")
        strict.create_run("unlimited", **FEW)
        status = strict.wait_for_end("unlimited")
        assert (status["phase"], status["reason"]) == ("Failed", "AdmissionDenied"), status["message"]
        assert "must specify limits.memory for: dbt" in status["message"]
        _no_quota(strict)

    def test_a_run_is_queued_as_long_as_anything_keeps_it_waiting(self, strict: Cluster) -> None:
        """Quotas, its Job's queue, and a gate of the user's own. The policy lets the operator's pods pass."""
        _quota(strict, "count/jobs.batch")
        strict.create_run(**FEW, podTemplate={"spec": {"schedulingGates": [{"name": BUDGET}]}})
        _wait_until_queued(strict, "QuotaExceeded", "full")
        assert strict.objects("jobs", labels="dbt-operator.io/run=shop") == []
        _no_quota(strict)
        _quota(strict, "pods")
        strict.until("a Job without a pod", lambda: bool(strict.objects("jobs", labels="dbt-operator.io/run=shop")))
        _wait_until_queued(strict, "QuotaExceeded", "full")
        held = ("patch", "job", "shop-producer-1", "-n", strict.namespace, "--type=merge", "-p")
        strict.kubectl(*held, '{"spec": {"suspend": true}}')
        _no_quota(strict)
        _wait_until_queued(strict, "JobSuspended", "")
        strict.kubectl(*held, '{"spec": {"suspend": false}}')
        strict.until("the gate is named", lambda: BUDGET in strict.run()["status"]["message"])
        strict.kubectl(
            "patch", "pod", strict.producer_pod(), "-n", strict.namespace, "-p", '{"spec": {"schedulingGates": null}}'
        )
        status = strict.wait_for_end()
        assert status["phase"] == "Succeeded", status["message"]


def _quota(cluster: Cluster, limited: str, most: str = "0") -> None:
    """No more of this in the namespace."""
    spec = {"hard": {limited: most}}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}, "spec": spec})


def _no_quota(cluster: Cluster) -> None:
    cluster.kubectl("delete", "resourcequota", "full", "-n", cluster.namespace)


def _wait_until_queued(cluster: Cluster, reason: str, named: str) -> None:
    cluster.until(f"Queued for {reason}", lambda: cluster.run().get("status", {}).get("reason") == reason)
    status = cluster.run()["status"]
    assert status["phase"] == "Queued"
    assert named in status["message"]
