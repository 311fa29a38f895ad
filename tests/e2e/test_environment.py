"""A virtual environment for each run: several versions of dbt at once, kept on a volume."""

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import EXAMPLES, FEW, PROJECTS_IMAGE, Cluster
from tests.e2e.wheelhouse import ALL, NEWER, OLDER, virtualenv, wheelhouse

__all__ = ["wheelhouse"]  # a fixture
EITHER = ("dbt-core>=1.10,<1.12", "dbt-duckdb")
STEP = "dbt-operator-environment"


def version(status: dict[str, Any]) -> str:
    """The version of dbt that the run shows."""
    assert status["phase"] == "Succeeded", status["message"]
    shown: str = status["dbt"]["version"]
    return shown


def installers_log(cluster: Cluster, job: str) -> str:
    """The log of the container that makes the environment."""
    return cluster.kubectl("logs", "-n", cluster.namespace, f"job/{job}", "-c", STEP)


def without_image(cluster: Cluster) -> dict[str, Any]:
    """The fields of the spec of the example, for which the project is put into its ConfigMap."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(EXAMPLES / "project", arcname=".")
    data = {"shop.tgz": base64.b64encode(buffer.getvalue()).decode()}
    name = {"name": "jaffle-shop-project"}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "binaryData": data})
    manifest = yaml.safe_load((EXAMPLES.parent / "virtualenv" / "run.yaml").read_text())
    return {"image": None, **manifest["spec"]}


def test_two_versions_of_dbt_side_by_side_without_any_image(wheelhouse: Cluster) -> None:
    fields = without_image(wheelhouse)
    for name, dbt in (("older", OLDER), ("newer", NEWER)):
        environment = virtualenv(f"dbt-core=={dbt}", "dbt-duckdb")
        wheelhouse.create_run(name, pause=3, **FEW, **fields | {"environment": environment})
    assert [version(wheelhouse.wait_for_end(name)) for name in ("older", "newer")] == [OLDER, NEWER]
    assert "Using Python" in installers_log(wheelhouse, "older-producer-1")  # uv's words


def test_another_dbt_than_that_of_the_image_which_has_no_uv(wheelhouse: Cluster) -> None:
    wheelhouse.create_run(**FEW, environment=virtualenv(f"dbt-core=={OLDER}", "dbt-duckdb"))
    assert version(wheelhouse.wait_for_end()) == OLDER
    assert "Successfully installed" in installers_log(wheelhouse, "shop-producer-1")  # pip's words


def index_secret(cluster: Cluster, url: str) -> None:
    """The Secret with the index that runs use which begin from now on."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "index"}, "stringData": {"url": url}}
    cluster.apply(secret)


FROM_SECRET = {"indexFrom": {"secretKeyRef": {"name": "index", "key": "url"}}, "options": ["--trusted-host=wheelhouse"]}


PASSWORD = "hidden-in-the-index"  # noqa: S105 - of a server that asks for none
MISSING = {"requirements": ["dbt-core==1.9.99", "dbt-duckdb"]}


@pytest.mark.parametrize(
    ("fields", "url", "reason", "message"),
    [
        (MISSING, ALL, "EnvironmentFailed", "there is no version of dbt-core==1.9.99"),
        ({}, f"http://team:{PASSWORD}@nobody:8080/simple/", "SourceUnavailable", "nobody"),
    ],
    ids=["no such version", "no index"],
)
def test_run_says_why_there_is_no_environment_and_tells_no_secret(
    wheelhouse: Cluster, fields: dict[str, Any], url: str, reason: str, message: str
) -> None:
    index_secret(wheelhouse, url)
    environment = {"virtualenv": {"requirements": [*EITHER], **FROM_SECRET, **fields}}
    wheelhouse.create_run(**FEW, **without_image(wheelhouse) | {"environment": environment})
    status = wheelhouse.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", reason), status["message"]
    assert message in status["message"]
    assert PASSWORD not in f"{wheelhouse.run()}{wheelhouse.events()}{installers_log(wheelhouse, 'shop-producer-1')}"


@pytest.fixture
def claim(cluster: Cluster) -> Iterator[str]:
    """A PersistentVolumeClaim for a folder of the node that any user of a pod may write to; its name."""
    name = f"environments-{cluster.namespace}"
    folder = Path("/var/tmp") / f"dbt-operator-{cluster.namespace}"  # noqa: S108 - a name that nobody else has
    size = {"storage": "1Gi"}
    volume: dict[str, Any] = {
        "capacity": size,
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"},
        "claimRef": {"namespace": cluster.namespace, "name": name},
    }
    wanted = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": name}
    opening = {
        "name": "open-to-all",
        "image": PROJECTS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["chmod", "1777", "/data"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    data = {"name": "data", "persistentVolumeClaim": {"claimName": name}}
    for manifest in (
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": cluster.namespace},
            "spec": wanted | {"resources": {"requests": size}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "open-to-all", "namespace": cluster.namespace},
            "spec": {"containers": [opening], "volumes": [data], "restartPolicy": "Never"},
        },
    ):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    phase = "jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", "-n", cluster.namespace, "pod/open-to-all", f"--for={phase}", "--timeout=5m")
    yield name
    cluster.kubectl("delete", "pv", name, "--wait=false")
    shutil.rmtree(folder, ignore_errors=True)


def test_environment_is_kept_on_a_volume_and_found_by_later_runs(wheelhouse: Cluster, claim: str) -> None:
    cache = {"persistentVolumeClaim": {"claimName": claim}}
    fields = without_image(wheelhouse) | {"environment": virtualenv(*EITHER, cache=cache), "parseCache": cache}
    wheelhouse.create_run("first", **FEW, **fields)
    assert version(wheelhouse.wait_for_end("first")) == NEWER
    assert "in the cache" not in installers_log(wheelhouse, "first-producer-1")
    wheelhouse.kubectl("delete", "pod", "wheelhouse", "-n", wheelhouse.namespace)
    wheelhouse.create_run("second", **FEW, **fields)
    assert version(wheelhouse.wait_for_end("second")) == NEWER
    assert "in the cache" in installers_log(wheelhouse, "second-producer-1")
    # And what dbt has parsed.
    logs = [
        wheelhouse.kubectl("logs", "-n", wheelhouse.namespace, f"job/{run}-producer-1", "-c", "dbt")
        for run in ("first", "second")
    ]
    assert ["UnableToPartialParse" in log for log in logs] == [True, False]
