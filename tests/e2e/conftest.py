"""End-to-end: the operator as the chart installs it, real pods, real dbt. Nothing is simulated."""

import fcntl
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.plan.attempt import Checkpoint
from dbt_operator.pods.record import parse_record
from dev.install import NAMESPACE as SYSTEM
from dev.install import install
from tests.api import Api
from tests.conftest import CHECKOUT, CLUSTER, Kubectl, new_namespace
from tests.e2e.leaks import readable_secrets
from tests.e2e.turns import Turns

# What is compared there is shown where it differs.
pytest.register_assert_rewrite("tests.e2e.alike")

EXAMPLES = CHECKOUT / "examples" / "jaffle-shop"
JAFFLE_SHOP_IMAGE = "localhost/dbt-operator/jaffle-shop:dev"
PROJECTS_IMAGE = "localhost/dbt-operator/test-projects:dev"
PATIENCE = 420.0
"""Seconds after which nothing is waited for any more: only for what never comes, also on a busy machine."""
ENDED = ("Succeeded", "Failed", "Cancelled")
FEW: dict[str, Any] = {"select": ["+stg_orders"], "exclude": ["resource_type:test"]}
"""Fields of the spec for a seed and a model: for runs of which only how they begin or end matters."""
SOME: dict[str, Any] = {"select": ["+orders"], "exclude": ["resource_type:test"]}
"""Fields of the spec for about a dozen nodes. A selected test may well read a node that is not selected."""


TURNS = Turns(CLUSTER / "turns")


HERE = Path(__file__).parent


def _is_alone(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE / "alone")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Let the tests in the folder `alone` have the operator to themselves.

    Around the whole test, so that its timeout begins after the wait, and so that a namespace goes before the turn does.
    """
    if not item.path.is_relative_to(HERE):  # the hook of a folder is asked about every test
        return (yield)
    TURNS.take(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        # Tests that are alone follow each other without the wait for the others, whose turn comes after the last one.
        if not (_is_alone(item) and nextitem is not None and _is_alone(nextitem)):
            TURNS.give_back()


@pytest.fixture(scope="session", autouse=True)
def operator(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> None:
    """The release, with the operator as it is in the checkout; installed by the first worker that comes."""
    del kubectl  # the cluster has to answer first
    if worker_id == "master":  # the tests are not spread over workers
        install()
        return
    installed = tmp_path_factory.getbasetemp().parent / "installed"
    with installed.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists():
            install()
            installed.touch()


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a user does with runs in one namespace."""

    kubectl: Kubectl
    api: Api
    namespace: str

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply a manifest in the namespace."""
        self.api.apply(manifest, namespace=self.namespace)

    def create_run(self, name: str = "shop", *, single_attempt: bool = True, pause: float = 0, **spec: Any) -> str:
        """Create a DbtRun of the jaffle shop; `spec` replaces fields. Returns its name. See run_manifest."""
        self.apply(run_manifest(name, single_attempt=single_attempt, pause=pause, **spec))
        return name

    def run(self, name: str = "shop") -> dict[str, Any]:
        """The DbtRun."""
        return self.api.get("dbtruns", name, namespace=self.namespace)

    def models(self) -> dict[str, dict[str, Any]]:
        """The DbtModels of the namespace, by dbt's name."""
        return {item["spec"]["name"]: item for item in self.objects("dbtmodels")}

    def events(self) -> list[dict[str, Any]]:
        """The Events of the namespace."""
        return self.objects("events")

    def objects(self, resource: str, *, labels: str = "") -> list[dict[str, Any]]:
        """The objects of a resource in the namespace, those with the labels only if any are given."""
        return self.api.objects(resource, namespace=self.namespace, labels=labels)

    def checkpoint(self, run: str) -> Checkpoint | None:
        """How far the log of the first attempt of a run was read, as it is stored."""
        record = self.api.get("configmaps", f"{run}-attempt-1", namespace=self.namespace)
        return parse_record(record).checkpoint

    def log(self, run: str = "shop") -> str:
        """The log of the producer's pod."""
        return self.kubectl("logs", "-n", self.namespace, f"job/{run}-producer-1", "-c", "dbt")

    def producer_pod(self) -> str:
        """Name of the only pod in the namespace."""
        (name,) = self.pods()
        return name

    def pods(self) -> list[str]:
        """Names of the pods in the namespace."""
        return [pod["metadata"]["name"] for pod in self.objects("pods")]

    def until(self, what: str, holds: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
        """Wait until something holds; fail the test, with what the run says, when it takes too long."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                shown = self.kubectl.run("get", "dbtruns,dbtmodels,pods", "-n", self.namespace, "-o", "wide").stdout
                pytest.fail(f"waited {seconds:.0f} s for: {what}\n{shown}", pytrace=False)
            time.sleep(0.5)

    def wait_for_end(self, name: str = "shop") -> dict[str, Any]:
        """Wait until the run has ended; returns its status."""
        self.until(f"the end of run {name}", lambda: self.run(name).get("status", {}).get("phase") in ENDED)
        status: dict[str, Any] = self.run(name)["status"]
        return status

    def wait_for_nodes(self, phase: str, *, count: int = 1) -> None:
        """Wait until at least so many DbtModels are in the phase."""
        self.until(
            f"{count} nodes in phase {phase}",
            lambda: sum(m["status"]["phase"] == phase for m in self.models().values()) >= count,
        )


def run_manifest(name: str = "shop", *, single_attempt: bool = True, pause: float = 0, **spec: Any) -> dict[str, Any]:
    """A DbtRun of the jaffle shop, with some fields of the spec replaced, or left out where they are None.

    single_attempt: nothing is retried or taken up again unless `spec` says so. The shop's database is a file in the
        pod: another pod would find it empty.
    pause: seconds by which a node is held back. By a variable of the pod: for other vars than when the image was built
        dbt would parse the whole shop anew.
    """
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / "run.yaml").read_text())
    manifest["metadata"]["name"] = name
    manifest["spec"].pop("vars", None)
    manifest["spec"] = {field: value for field, value in (manifest["spec"] | spec).items() if value is not None}
    if pause:
        pod = manifest["spec"].setdefault("podTemplate", {}).setdefault("spec", {})
        variable = {"name": "JAFFLE_SHOP_PAUSE_SECONDS", "value": str(pause)}
        pod["containers"] = [{"name": "dbt", "env": [variable]}]
    if single_attempt:
        manifest["spec"].setdefault("retry", {"limit": 0})
        manifest["spec"]["producer"] = {"maxRestarts": 0} | manifest["spec"].get("producer", {})
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


@contextmanager
def own_cluster(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace for as long as the context lasts. At its end no value of a Secret may be readable anywhere."""
    with new_namespace(api) as namespace:
        yield Cluster(kubectl=kubectl, api=api, namespace=namespace)
        assert readable_secrets(api=api, kubectl=kubectl, namespace=namespace) == []


@pytest.fixture
def cluster(kubectl: Kubectl, api: Api) -> Iterator[Cluster]:
    """A namespace of the test's own."""
    with own_cluster(kubectl, api) as cluster:
        yield cluster


@pytest.fixture
def volume(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """A pod template with a folder of the node at /data, which any user of the pod may write to."""
    with folder_of_the_node(cluster.namespace) as template:
        yield template


@contextmanager
def folder_of_the_node(name: str) -> Iterator[dict[str, Any]]:
    """The same, for as long as the context lasts."""
    folder = Path("/var/tmp") / f"dbt-operator-{name}"  # noqa: S108 - a name that nobody else has
    mount = {"name": "data", "mountPath": "/data"}
    open_to_all = {
        "name": "open-to-all",
        "image": PROJECTS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["chmod", "1777", "/data"],
        "securityContext": {"runAsUser": 0, "runAsNonRoot": False},
        "volumeMounts": [mount],
    }
    yield {
        "spec": {
            "volumes": [{"name": "data", "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}],
            "initContainers": [open_to_all],
            "containers": [{"name": "dbt", "volumeMounts": [mount]}],
        }
    }
    # Where the node is a container it takes the folder along.
    shutil.rmtree(folder, ignore_errors=True)


def operator_pod(kubectl: Kubectl) -> str:
    """Name of the operator's running pod."""
    pods = kubectl.json("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dbt-operator")["items"]
    (alive,) = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    name: str = alive["metadata"]["name"]
    return name


def metric(kubectl: Kubectl, *parts: str) -> float:
    """The sum of the operator's metrics in whose lines all of these stand."""
    read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    metrics = kubectl("exec", "-n", SYSTEM, operator_pod(kubectl), "--", "python3", "-c", read)
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if all(part in line for part in parts))


def example(name: str) -> list[dict[str, Any]]:
    """The manifests of an example file."""
    return list(yaml.safe_load_all(Path(EXAMPLES / name).read_text()))
