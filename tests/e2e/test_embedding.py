"""Runs that other tools create, as the examples for them do it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes.config.kube_config
import pytest

from tests.api import Api
from tests.conftest import CLUSTER, Kubectl
from tests.e2e.conftest import FEW, JAFFLE_SHOP_IMAGE, Cluster, own_cluster, run_manifest
from tests.embedding import examples

NO_VOLUME = {"volume": {"source": {"persistentVolumeClaim": {"claimname": "projects"}}}}
REFUSED = run_manifest(project=NO_VOLUME)["spec"]
"""The spec of a run that fails, and starts no pod for it: the API server knows no such field."""


@pytest.fixture(scope="class")
def cluster(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace for all tests of the class, with the rights of the examples."""
    with own_cluster(kubectl, api) as cluster:
        for manifest in examples.manifests("rights.yaml"):
            for subject in manifest.get("subjects", ()):
                subject["namespace"] = cluster.namespace
            create(cluster, manifest)
        yield cluster


@pytest.fixture
def tools(cluster: Cluster) -> Iterator[Path]:
    """A folder of the node with kubectl in it: no image of the cluster has it."""
    if not (CLUSTER / "bin" / "kubectl").exists():
        pytest.skip("the node of this cluster is another machine, to which kubectl cannot be handed")
    folder = Path("/var/tmp") / f"dbt-operator-{cluster.namespace}-tools"  # noqa: S108 - a name that nobody else has
    folder.mkdir()
    shutil.copy2(CLUSTER / "bin" / "kubectl", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def dbt(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the example for Airflow, with the cluster of the tests."""
    monkeypatch.setattr(kubernetes.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
    return examples.dbt_runs()


def create(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Create an object of any kind in the namespace."""
    cluster.kubectl("create", "-n", cluster.namespace, "-f", "-", stdin=examples.text_of(manifest))


def with_kubectl(pod: dict[str, Any], tools: Path) -> None:
    """Give the pod an image that the cluster has, and kubectl from the node."""
    pod["volumes"].append({"name": "tools", "hostPath": {"path": str(tools)}})
    for container in pod["containers"]:
        container |= {"image": JAFFLE_SHOP_IMAGE, "imagePullPolicy": "IfNotPresent"}
        container["volumeMounts"].append({"name": "tools", "mountPath": "/tools"})
        container["env"].append({"name": "PATH", "value": "/tools:/usr/bin:/bin"})


class TestEmbedding:
    """One namespace."""

    def test_a_cron_job_creates_a_run_that_ends_and_goes_with_its_job(
        self, cluster: Cluster, tools: Path, dbt: ModuleType
    ) -> None:
        for manifest in examples.manifests("cronjob.yaml"):
            if manifest["kind"] == "ConfigMap":
                manifest["data"]["run.yaml"] += f"  select: {FEW['select']}\n  exclude: {FEW['exclude']}\n"
            if manifest["kind"] == "CronJob":
                with_kubectl(manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"], tools)
            create(cluster, manifest)
        here = ("-n", cluster.namespace)
        cluster.kubectl("create", "job", "now", "--from=cronjob/nightly", *here)
        assert ended(dbt, cluster, "now") == ""  # as a task of Airflow sees it
        cluster.kubectl("wait", "job/now", "--for=condition=Complete", "--timeout=7m", *here)
        assert cluster.run("now")["status"]["phase"] == "Succeeded"
        said = cluster.kubectl("logs", "job/now", *here).strip()
        assert said.endswith(f"Succeeded: {cluster.run('now')['status']['message']}")
        cluster.kubectl("delete", "job", "now", *here)
        cluster.until("the run is gone", lambda: not cluster.objects("dbtruns"))

    def test_a_task_of_airflow_finds_its_run_again_and_retries_it(self, cluster: Cluster, dbt: ModuleType) -> None:
        namespace = cluster.namespace
        for _ in range(2):  # the second one is a task that was killed before it could say that it had succeeded
            dbt.create("failing", namespace=namespace, spec=REFUSED, attempt="one")
        assert "Failed (InvalidPodTemplate): " in ended(dbt, cluster, "failing")
        dbt.create("failing", namespace=namespace, spec=REFUSED, attempt="two")
        assert "Failed (InvalidPodTemplate): " in ended(dbt, cluster, "failing")
        assert cluster.run("failing")["status"]["handledRetry"] == "two"


def ended(dbt: ModuleType, cluster: Cluster, name: str) -> str:
    """What a run has failed with, as its task says it, once it has ended; nothing where it has succeeded."""
    cluster.until(f"run {name}", lambda: name in [run["metadata"]["name"] for run in cluster.objects("dbtruns")])
    try:
        cluster.until(f"the end of {name}", lambda: dbt.has_succeeded(name, namespace=cluster.namespace))
    except dbt.RunFailed as failure:
        return str(failure)
    return ""
