"""Packages from a hub: installed in the first pod of a run whose image lacks them, and in no other."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.conftest import PROJECTS_IMAGE, Cluster, project
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


def with_hub(template: dict[str, Any], url: str) -> dict[str, Any]:
    """The pod template, with the address of the hub."""
    (dbt,) = template["spec"]["containers"]
    dbt["env"] = [{"name": "DBT_PACKAGE_HUB_URL", "value": url}]
    return template


@pytest.fixture
def hub(cluster: Cluster) -> str:
    """A hub, which answers; its address."""
    url, manifests = hub_of(cluster)
    for manifest in manifests:
        cluster.apply(manifest)
    cluster.kubectl("wait", "-n", cluster.namespace, "pod/hub", "--for=condition=Ready", "--timeout=120s")
    return url


def test_packages_are_fetched_once_for_the_run(cluster: Cluster, volume: dict[str, Any], hub: str) -> None:
    retry = {"limit": 1, "backoff": {"duration": "1s"}}
    cluster.create_run(**project("packages"), podTemplate=with_hub(volume, hub), single_attempt=False, retry=retry)
    status = cluster.wait_for_end()
    assert (status["phase"], len(status["attempts"])) == ("Succeeded", 3), status["message"]
    asked = cluster.kubectl("logs", "-n", cluster.namespace, "pod/hub")
    assert asked.count("GET /greetings.tar.gz") == 1, asked
    assert "shop-packages" not in {each["metadata"]["name"] for each in cluster.objects("configmaps")}


def test_a_hub_that_is_not_there_is_said_in_one_sentence(cluster: Cluster, volume: dict[str, Any]) -> None:
    url, _ = hub_of(cluster)
    cluster.create_run(**project("packages"), podTemplate=with_hub(volume, url))
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "SourceUnavailable"), status["message"]
    assert f"hub.{cluster.namespace}.svc" in status["message"]


def test_without_leave_the_run_says_what_is_missing(cluster: Cluster, volume: dict[str, Any]) -> None:
    cluster.create_run(**project("packages"), podTemplate=volume, deps="Never")
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "DependenciesMissing"), status["message"]
    assert "spec.deps" in status["message"]
