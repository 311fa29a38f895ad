"""A package index of the test's own, with two minor versions of dbt."""

from typing import Any

import pytest

from tests.e2e.conftest import Cluster

IMAGE = "localhost/dbt-operator/wheelhouse:dev"
OLDER, NEWER = "1.10.23", "1.11.16"
HOST = "wheelhouse:8080"
ALL = f"http://{HOST}/simple/"


def virtualenv(*requirements: str, **fields: Any) -> dict[str, Any]:
    """The field `environment` of a spec, installed from the index with both versions."""
    options = [f"--index-url={ALL}", "--trusted-host=wheelhouse"]  # pip trusts only https
    return {"virtualenv": {"requirements": list(requirements), "options": options, **fields}}


def manifests() -> list[dict[str, Any]]:
    """The server, and the Service by which pods find it."""
    container = {
        "name": "wheelhouse",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/simple/", "port": 8080}, "periodSeconds": 1},
    }
    labels = {"app": "wheelhouse"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wheelhouse", "labels": labels}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wheelhouse"}}
    return [
        pod | {"spec": {"containers": [container], "terminationGracePeriodSeconds": 0}},
        service | {"spec": {"selector": labels, "ports": [{"port": 8080}]}},
    ]


@pytest.fixture
def wheelhouse(cluster: Cluster) -> Cluster:
    """The test's namespace with the server in it, which answers."""
    for manifest in manifests():
        cluster.apply(manifest)
    cluster.kubectl("wait", "-n", cluster.namespace, "pod/wheelhouse", "--for=condition=Ready", "--timeout=5m")
    return cluster
