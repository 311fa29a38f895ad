"""Two versions of the operator meet the same runs: the one in the checkout, and the one before it, which is kept here.

Both are processes of the tests' own. Each release replaces what is kept by what it was made of:

    git archive COMMIT:controller dbt_operator | xz -9e > tests/e2e/alone/version-before.tar.xz
"""

import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.install import NAMESPACE as SYSTEM
from tests.conftest import CHECKOUT, CLUSTER, Kubectl
from tests.e2e.conftest import SOME, Cluster, project

CURRENT = CHECKOUT / "controller"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the code of the version before."""
    folder = tmp_path_factory.mktemp("version-before")
    with tarfile.open(Path(__file__).with_name("version-before.tar.xz")) as kept:
        kept.extractall(folder)  # noqa: S202 - it is our own
    return folder


@pytest.fixture
def no_operator(kubectl: Kubectl) -> Iterator[None]:
    """The release has no pod meanwhile."""

    def scale(replicas: int) -> None:
        kubectl("scale", "deployment", "dbt-operator", "-n", SYSTEM, f"--replicas={replicas}")

    scale(0)
    kubectl("wait", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dbt-operator", "--for=delete", "--timeout=120s")
    yield
    scale(1)
    kubectl("rollout", "status", "deployment", "dbt-operator", "-n", SYSTEM, "--timeout=120s")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def operator_of(code: Path, *, namespace: str) -> Iterator[None]:
    """An operator for one namespace; told to end as a Deployment tells it."""
    settings = {"WATCH_NAMESPACES": namespace, "PROBE_PORT": _free_port(), "METRICS_PORT": _free_port()}
    environment = {f"DBT_OPERATOR_{name}": str(value) for name, value in settings.items()} | {"PYTHONPATH": str(code)}
    command = (sys.executable, "-m", "dbt_operator", "run", "--kubeconfig", str(CLUSTER / "kubeconfig"))
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        yield
        assert process.poll() is None, "the operator has ended by itself"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _stored(cluster: Cluster, run: str) -> list[dict[str, Any]]:
    """A run with its nodes, to the last resource version."""
    models = [model for model in cluster.objects("dbtmodels") if model["spec"]["runName"] == run]
    return [cluster.run(run), *models]


def _runners(cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.objects("configmaps") if "-runner-" in one["metadata"]["name"]]


@pytest.mark.parametrize("rollback", [False, True], ids=["upgrade", "rollback"])
def test_the_other_version_goes_on_with_live_runs_leaves_ended_ones_alone_and_retries_them(
    cluster: Cluster, volume: dict[str, Any], before: Path, no_operator: None, rollback: bool
) -> None:
    del no_operator
    first, second = (CURRENT, before) if rollback else (before, CURRENT)
    with operator_of(first, namespace=cluster.namespace):
        cluster.create_run("ended", **project("recovering"), podTemplate=volume)
        assert cluster.wait_for_end("ended")["reason"] == "NodesFailed"
        cluster.create_run("live", **SOME, pause=2)
        cluster.until(
            "a node has ended", lambda: cluster.run("live").get("status", {}).get("nodes", {}).get("succeeded", 0) > 0
        )
    ended = _stored(cluster, "ended")
    assert cluster.run("live")["status"]["phase"] == "Running"
    with operator_of(second, namespace=cluster.namespace):
        status = cluster.wait_for_end("live")
        assert (status["phase"], status["nodes"]["succeeded"]) == ("Succeeded", status["nodes"]["total"])
        live = {model["metadata"]["name"]: model["status"] for model in _stored(cluster, "live")[1:]}
        assert {(node["phase"], node["tries"]) for node in live.values()} == {("Succeeded", 1)}
        assert [job["metadata"]["name"] for job in cluster.objects("jobs")] == ["ended-producer-1", "live-producer-1"]
        assert _stored(cluster, "ended") == ended
        cluster.kubectl("annotate", "dbtrun", "ended", "-n", cluster.namespace, "dbt-operator.io/retry=please")
        cluster.until("the retry", lambda: cluster.run("ended")["status"]["phase"] == "Succeeded")
    status = cluster.run("ended")["status"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Resume"]
    nodes = {model["spec"]["name"]: model["status"] for model in _stored(cluster, "ended")[1:]}
    assert {name: node["tries"] for name, node in nodes.items()} == {"flaky": 2, "below": 1, "slow": 1}
    if not rollback:
        assert _runners(cluster) == []  # those of the version before with them
