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
from tests.e2e.conftest import EXAMPLES, Cluster, own_cluster, project

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


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_run_ends_here_as_on_the_cluster(both: Both, name: str) -> None:
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
