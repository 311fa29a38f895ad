"""End-to-end: the operator as the chart installs it, real pods, real dbt. Nothing is simulated."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev.install import NAMESPACE as SYSTEM
from dev.install import install
from tests.conftest import CHECKOUT, Kubectl

EXAMPLES = CHECKOUT / "examples" / "jaffle-shop"
JAFFLE_SHOP_IMAGE = "localhost/dbt-operator/jaffle-shop:dev"
PROJECTS_IMAGE = "localhost/dbt-operator/test-projects:dev"
ENDED = ("Succeeded", "Failed", "Cancelled")


@pytest.fixture(scope="session", autouse=True)
def operator(kubectl: Kubectl) -> None:
    """The release, with the operator as it is in the checkout."""
    del kubectl  # the cluster has to answer first
    install()


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a user does with runs in one namespace."""

    kubectl: Kubectl
    namespace: str

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply a manifest in the namespace."""
        self.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    def create_run(self, name: str = "shop", **spec: Any) -> str:
        """Create a DbtRun of the jaffle shop; `spec` replaces fields. Returns its name."""
        self.apply(run_manifest(name, **spec))
        return name

    def run(self, name: str = "shop") -> dict[str, Any]:
        """The DbtRun."""
        found: dict[str, Any] = self.kubectl.json("get", "dbtrun", name, "-n", self.namespace)
        return found

    def models(self) -> dict[str, dict[str, Any]]:
        """The DbtModels of the namespace, by dbt's name."""
        items = self.kubectl.json("get", "dbtmodels", "-n", self.namespace)["items"]
        return {item["spec"]["name"]: item for item in items}

    def events(self) -> list[dict[str, Any]]:
        """The Events of the namespace."""
        items: list[dict[str, Any]] = self.kubectl.json("get", "events", "-n", self.namespace)["items"]
        return items

    def log(self, run: str = "shop") -> str:
        """The log of the producer's pod."""
        return self.kubectl("logs", "-n", self.namespace, f"job/{run}-producer-1", "-c", "dbt")

    def producer_pod(self) -> str:
        """Name of the only pod in the namespace."""
        (pod,) = self.kubectl.json("get", "pods", "-n", self.namespace)["items"]
        name: str = pod["metadata"]["name"]
        return name

    def until(self, what: str, holds: Callable[[], bool], *, seconds: float = 120) -> None:
        """Wait until something holds; fail the test, with what the run says, when it takes too long."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                shown = self.kubectl.run("get", "dbtruns,dbtmodels,pods", "-n", self.namespace, "-o", "wide").stdout
                pytest.fail(f"waited {seconds:.0f} s for: {what}\n{shown}", pytrace=False)
            time.sleep(0.3)

    def wait_for_end(self, name: str = "shop", *, seconds: float = 120) -> dict[str, Any]:
        """Wait until the run has ended; returns its status."""
        self.until(
            f"the end of run {name}", lambda: self.run(name).get("status", {}).get("phase") in ENDED, seconds=seconds
        )
        status: dict[str, Any] = self.run(name)["status"]
        return status

    def wait_for_nodes(self, phase: str, *, count: int = 1) -> None:
        """Wait until at least so many DbtModels are in the phase."""
        self.until(
            f"{count} nodes in phase {phase}",
            lambda: sum(m["status"]["phase"] == phase for m in self.models().values()) >= count,
        )


def run_manifest(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """A DbtRun of the jaffle shop at full speed, with some fields of the spec replaced."""
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / "run.yaml").read_text())
    manifest["metadata"]["name"] = name
    manifest["spec"].pop("vars", None)
    manifest["spec"].update(spec)
    return manifest


def project(name: str) -> dict[str, Any]:
    """The fields of the spec for one of the tests' own projects."""
    return {"image": PROJECTS_IMAGE, "project": {"image": {"path": f"/dbt/{name}"}}}


def phases(models: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Phase by name of node."""
    return {name: model["status"]["phase"] for name, model in models.items()}


def condition(status: dict[str, Any], kind: str) -> str | None:
    """The status of a condition, None where it is absent."""
    return next((c["status"] for c in status.get("conditions", ()) if c["type"] == kind), None)


@pytest.fixture
def cluster(kubectl: Kubectl, namespace: str) -> Cluster:
    """A namespace of the test's own."""
    return Cluster(kubectl=kubectl, namespace=namespace)


def operator_pod(kubectl: Kubectl) -> str:
    """Name of the operator's running pod."""
    pods = kubectl.json("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dbt-operator")["items"]
    (alive,) = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    name: str = alive["metadata"]["name"]
    return name


def example(name: str) -> list[dict[str, Any]]:
    """The manifests of an example file."""
    return list(yaml.safe_load_all(Path(EXAMPLES / name).read_text()))
