"""A virtual environment for each run: several versions of dbt at once, kept on a volume."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api import Api
from tests.archives import config_map, packed_folder
from tests.conftest import CHECKOUT, Kubectl
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, PROJECTS_IMAGE, Cluster, own_cluster
from tests.e2e.wheelhouse import NEWER, OLDER, virtualenv, wheelhouse

__all__ = ["wheelhouse"]  # a fixture
EITHER = ("dbt-core>=1.10,<1.12", "dbt-duckdb")
STEP = "dbt-operator-environment"
PASSWORD = "hidden-in-the-index"  # noqa: S105 - of a server that asks for none
EXAMPLE = yaml.safe_load((CHECKOUT / "examples" / "virtualenv" / "run.yaml").read_text())
SPEC: dict[str, Any] = {"image": None, **EXAMPLE["spec"]}
"""The fields of the spec of the example, which has no image."""
SMALL = CHECKOUT / "tests" / "gitserver" / "project"  # the jaffle shop takes longer to parse


def version(status: dict[str, Any]) -> str:
    """The version of dbt that the run shows."""
    assert status["phase"] == "Succeeded", status["message"]
    shown: str = status["dbt"]["version"]
    return shown


def installers_log(cluster: Cluster, job: str) -> str:
    """The log of the container that makes the environment."""
    return cluster.kubectl("logs", "-n", cluster.namespace, f"job/{job}", "-c", STEP)


@pytest.fixture(scope="class")
def cluster(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace for all tests of the class, with a project."""
    with own_cluster(kubectl, api) as cluster:
        cluster.apply(config_map("jaffle-shop-project", {"shop.tgz": packed_folder(SMALL)}))
        yield cluster


@pytest.fixture(scope="class")
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


class TestEnvironment:
    """They share what the first one has installed, and so are a class."""

    @pytest.fixture
    def cached(self, claim: str) -> dict[str, Any]:
        """The fields of the spec of a run that keeps all on the volume."""
        cache = {"persistentVolumeClaim": {"claimName": claim}}
        return SPEC | {"environment": virtualenv(*EITHER, cache=cache), "parseCache": cache}

    def test_two_versions_of_dbt_side_by_side(self, wheelhouse: Cluster, cached: dict[str, Any]) -> None:
        """One without any image, the other in an image that has another dbt, and no uv."""
        of_image = SPEC | {"image": JAFFLE_SHOP_IMAGE, "environment": virtualenv(f"dbt-core=={OLDER}", "dbt-duckdb")}
        wheelhouse.create_run("first", **cached)
        wheelhouse.create_run("older", **of_image)
        assert [version(wheelhouse.wait_for_end(name)) for name in ("older", "first")] == [OLDER, NEWER]
        assert "Successfully installed" in installers_log(wheelhouse, "older-producer-1")  # pip's words
        said = installers_log(wheelhouse, "first-producer-1")
        assert "Using Python" in said  # uv's words
        assert "in the cache" not in said

    def test_environment_is_kept_on_a_volume_and_found_by_later_runs(
        self, wheelhouse: Cluster, cached: dict[str, Any]
    ) -> None:
        wheelhouse.kubectl("delete", "pod", "wheelhouse", "-n", wheelhouse.namespace)
        wheelhouse.create_run("second", **cached)
        assert version(wheelhouse.wait_for_end("second")) == NEWER
        assert "in the cache" in installers_log(wheelhouse, "second-producer-1")
        # And what dbt has parsed.
        logs = [
            wheelhouse.kubectl("logs", "-n", wheelhouse.namespace, f"job/{run}-producer-1", "-c", "dbt")
            for run in ("first", "second")
        ]
        assert ["UnableToPartialParse" in log for log in logs] == [True, False]

    def test_run_says_why_there_is_no_environment_and_tells_no_secret(self, cluster: Cluster) -> None:
        url = {"url": f"http://team:{PASSWORD}@nobody:8080/simple/"}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "index"}, "stringData": url})
        index = {"indexFrom": {"secretKeyRef": {"name": "index", "key": "url"}}}
        cluster.create_run(**SPEC | {"environment": {"virtualenv": {"requirements": [*EITHER], **index}}})
        status = cluster.wait_for_end()
        assert (status["phase"], status["reason"]) == ("Failed", "SourceUnavailable"), status["message"]
        assert "nobody" in status["message"]
        assert PASSWORD not in f"{cluster.run()}{cluster.events()}{installers_log(cluster, 'shop-producer-1')}"
