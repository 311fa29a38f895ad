"""The same manifests on the cluster and without one: run for run, node for node, the same ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, Object
from dbt_operator.local.manifests import PROJECT_ANNOTATION
from dbt_operator.local.place import NAMESPACE
from dbt_operator.local.store import Store
from dev import dbt_venv
from tests.api import Api
from tests.conftest import CHECKOUT, Kubectl
from tests.e2e.conftest import EXAMPLES, Cluster, condition, own_cluster, phases, project

# What a run has kept in its pod is gone for a retry there and not here: how often a node was tried is not compared.
OF_A_NODE = ("phase", "reason", "blockedBy")
OF_A_RUN = ("phase", "nodes", "tests")
DATABASE = "jaffle_shop.duckdb"  # as in the pod: its name is a part of those of the tables


def manifests() -> dict[str, list[dict[str, Any]]]:
    """All manifests of the jaffle shop, by their runs, and one of a project whose test fails."""
    found = {}
    for file in sorted(EXAMPLES.glob("*.yaml")):
        documents = list(yaml.safe_load_all(file.read_text()))
        (run,) = (one for one in documents if one["kind"] == "DbtRun")
        run["metadata"]["annotations"] = {PROJECT_ANNOTATION: str(EXAMPLES / "project")}
        run["spec"].setdefault("vars", {})["pause_seconds"] = 0
        found[run["metadata"]["name"]] = documents
    failing = {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {
            "name": "failing-test",
            "annotations": {PROJECT_ANNOTATION: str(CHECKOUT / "tests" / "projects" / "failing-test")},
        },
        "spec": {**project("failing-test"), "profile": {"inProject": True}, "retry": {"limit": 0}},
    }
    return {**found, "failing-test": [failing]}


MANIFESTS = manifests()


@dataclass(frozen=True, slots=True)
class Both:
    """Where the runs have ended."""

    cluster: Cluster
    state: Path

    def here(self, name: str) -> tuple[Object, list[Object]]:
        """The run, and its nodes, on this machine."""
        with Store(self.state) as store:
            run = store.get(DBT_RUNS, name, namespace=NAMESPACE)
            assert run is not None
            return run, store.all(DBT_MODELS, run=run["metadata"]["uid"])

    def there(self, name: str) -> tuple[Object, list[Object]]:
        """The same on the cluster."""
        self.cluster.wait_for_end(name)
        run = self.cluster.run(name)
        return run, [one for one in self.cluster.objects("dbtmodels") if one["spec"]["runName"] == name]


@pytest.fixture(scope="module")
def both(kubectl: Kubectl, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """All of them, on the cluster and here."""
    dbt, folder = dbt_venv.ensure(), tmp_path_factory.mktemp("local")
    with own_cluster(kubectl, api) as cluster:
        for documents in MANIFESTS.values():
            for document in documents:
                cluster.apply(document)
        for name, documents in MANIFESTS.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(documents))
            database = folder / name / DATABASE
            database.parent.mkdir()
            done = subprocess.run(
                [sys.executable, "-m", "dbt_operator", "local", "run", "-f", f"{name}.yaml"],
                cwd=folder,
                env={
                    **os.environ,
                    "PATH": f"{dbt.parent}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "JAFFLE_SHOP_DUCKDB": str(database),
                },
                capture_output=True,
                check=False,
            )
            assert done.returncode in (0, 1), done.stderr.decode()
        yield Both(cluster, folder / ".dbt-operator" / "state.db")


def shown(model: Object) -> dict[str, Any]:
    """What a person goes by."""
    status = model["status"]
    tests = status.get("tests") or {}
    failing = sorted(test["uniqueId"] for test in tests.get("failing") or ())
    return {field: status.get(field) for field in OF_A_NODE} | {"tests": tests.get("summary"), "failing": failing}


class TestOnBoth:
    """One class, so that the runs are executed once for all of it."""

    @pytest.mark.parametrize("name", MANIFESTS)
    def test_a_run_ends_here_as_on_the_cluster(self, both: Both, name: str) -> None:
        (run, models), (run_there, models_there) = both.here(name), both.there(name)
        here = {model["spec"]["uniqueId"]: shown(model) for model in models}
        there = {model["spec"]["uniqueId"]: shown(model) for model in models_there}
        assert here == there
        assert here
        assert {each: run["status"].get(each) for each in OF_A_RUN} == {
            each: run_there["status"].get(each) for each in OF_A_RUN
        }
        specs = {model["metadata"]["name"]: model["spec"] for model in models}
        assert specs == {model["metadata"]["name"]: model["spec"] for model in models_there}

    def test_a_broken_model_blocks_its_descendants_and_nothing_else(self, both: Both) -> None:
        run, nodes = both.there("jaffle-shop-broken")
        status, models = run["status"], {one["spec"]["name"]: one for one in nodes}
        by_phase: dict[str, set[str]] = {}
        for name, phase in phases(models).items():
            by_phase.setdefault(phase, set()).add(name)
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed")
        assert condition(status, "Succeeded") == "False"
        assert condition(status, "Failed") == "True"
        (culprit,) = by_phase["Failed"]
        broken = models[culprit]
        assert "Binder Error" in broken["status"]["message"]
        assert broken["status"]["reason"] == "Error"
        # Every node below the culprit, at any depth, is skipped and names it; no other node is.
        below = {broken["spec"]["uniqueId"]}
        while True:
            more = {
                m["spec"]["uniqueId"] for m in models.values() if below & set(m["spec"].get("dependsOn", ()))
            } | below
            if more == below:
                break
            below = more
        assert by_phase["Skipped"] == {n for n, m in models.items() if m["spec"]["uniqueId"] in below} - {culprit}
        assert len(by_phase["Skipped"]) >= 2
        assert {models[name]["status"]["blockedBy"] for name in by_phase["Skipped"]} == {broken["spec"]["uniqueId"]}
        assert by_phase["Succeeded"] == set(models) - {culprit} - by_phase["Skipped"]
        assert culprit in status["message"]
        assert status["failures"][0]["uniqueId"] == broken["spec"]["uniqueId"]
        both.cluster.until(
            "an Event of the failed node",
            lambda: any(event["reason"] == "NodeFailed" for event in both.cluster.events()),
        )

    def test_a_failing_test_fails_its_model_and_stops_the_children(self, both: Both) -> None:
        run, models = both.there("failing-test")
        assert (run["status"]["phase"], run["status"]["reason"]) == ("Failed", "TestsFailed")
        (model,) = (one for one in models if one["status"]["phase"] == "Failed")
        assert model["status"]["reason"] == "TestsFailed"
        assert model["status"]["tests"]["failed"] == 1
        assert model["status"]["tests"]["failing"][0]["uniqueId"].startswith("test.")
        skipped = [one for one in models if one["status"]["phase"] == "Skipped"]
        assert skipped
        assert {one["status"]["blockedBy"] for one in skipped} == {model["spec"]["uniqueId"]}
