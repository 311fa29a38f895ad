"""A hub of dbt packages of the test's own."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.conftest import PROJECTS_IMAGE, Cluster
from tests.packages import package_files, tarball

VERSION = "1.0.0"
ENTRY = {"id": f"acme/greetings/{VERSION}", "name": "greetings", "version": VERSION, "packages": []}


def hub_of(cluster: Cluster) -> tuple[str, list[dict[str, Any]]]:
    """The address of a hub in the namespace, and its manifests: files of a ConfigMap behind Python's web server."""
    url = f"http://hub.{cluster.namespace}.svc:8080/"
    versions = {VERSION: ENTRY | {"downloads": {"tarball": f"{url}greetings.tar.gz", "format": "tgz", "sha1": ""}}}
    files = {"name": "acme/greetings", "namespace": "acme", "versions": versions}
    archive = tarball("greetings", package_files("greetings", "hello from the hub"))
    paths = {"index": "api/v1/index.json", "greetings": "api/v1/acme/greetings.json", "archive": "greetings.tar.gz"}
    content = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "hub"},
        "data": {"index": json.dumps(["acme/greetings"]), "greetings": json.dumps(files)},
        "binaryData": {"archive": base64.b64encode(archive).decode()},
    }
    container = {
        "name": "hub",
        "image": PROJECTS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-m", "http.server", "8080", "--directory", "/hub"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/hub"}],
    }
    items = [{"key": key, "path": path} for key, path in paths.items()]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hub", "labels": {"app": "hub"}},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "files", "configMap": {"name": "hub", "items": items}}],
            "terminationGracePeriodSeconds": 0,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "hub"},
        "spec": {"selector": {"app": "hub"}, "ports": [{"port": 8080}]},
    }
    return url, [content, pod, service]


@pytest.fixture
def hub(cluster: Cluster) -> str:
    """A hub that answers; its address."""
    url, manifests = hub_of(cluster)
    for manifest in manifests:
        cluster.apply(manifest)
    cluster.kubectl("wait", "-n", cluster.namespace, "pod/hub", "--for=condition=Ready", "--timeout=120s")
    return url
