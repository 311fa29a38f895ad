"""Runs that end on the cluster as they do without one: run for run, node for node. `alike` compares.

Others look at runs that are there for another reason; tests/unit/dev/test_alike.py has the list.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.kube.resources import Object
from tests.api import Api
from tests.archives import config_map, packed_folder
from tests.conftest import CHECKOUT, Kubectl
from tests.e2e.alike import assert_alike
from tests.e2e.conftest import (
    EXAMPLES,
    JAFFLE_SHOP_IMAGE,
    Cluster,
    condition,
    example,
    folder_of_the_node,
    own_cluster,
    phases,
    run_manifest,
)

PROJECTS = CHECKOUT / "tests" / "projects"
LOAD = {"macro": "load", "args": {"hours": {"orders": 0, "customers": 100, "rates": 0}}}
# By the project from an archive: how its runs follow each other, on a database that outlives their pods.
ON_A_VOLUME: dict[str, dict[str, dict[str, Any]]] = {
    "tested": {"tested": {"tests": "AfterAll", "storeFailures": True}},
    "freshness": {
        "load": {"command": "run-operation", "runOperation": LOAD},
        "stale": {"sourceFreshness": "SkipStale"},
    },
}
DATABASES = {"SHOP_DUCKDB": "shop.duckdb", "DBT_DUCK": "tested.duckdb"}  # as on the volume


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of several kinds, on the cluster."""

    cluster: Cluster

    def ended(self, name: str) -> tuple[Object, list[Object]]:
        """The run, and its nodes."""
        self.cluster.wait_for_end(name)
        models = [one for one in self.cluster.objects("dbtmodels") if one["spec"]["runName"] == name]
        return self.cluster.run(name), models


@pytest.fixture(scope="class")
def runs(kubectl: Kubectl, api: Api) -> Iterator[Runs]:
    """All of them, at work or at their end."""
    with ExitStack() as stack:
        cluster = stack.enter_context(own_cluster(kubectl, api))
        (broken,) = example("broken.yaml")
        del broken["spec"]["vars"]["pause_seconds"]
        # Nothing else can be retried there than the whole command; here it would be the model.
        cluster.apply(broken | {"spec": broken["spec"] | {"retry": {"limit": 0}}})
        template = stack.enter_context(folder_of_the_node(cluster.namespace))
        for name in ON_A_VOLUME:
            cluster.apply(config_map(name, {"project.tgz": packed_folder(PROJECTS / name)}))
        following = [[_on_a_volume(*run, template) for run in _runs_of(name)] for name in ON_A_VOLUME]
        for step in range(max(map(len, following))):
            now = [runs[step] for runs in following if step < len(runs)]
            for run in now:
                cluster.apply(run)
            for run in now:
                cluster.wait_for_end(run["metadata"]["name"])
        yield Runs(cluster)


def _runs_of(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [(name, run, spec) for run, spec in ON_A_VOLUME[name].items()]


def _on_a_volume(source: str, name: str, spec: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    archive = {"configMapRef": {"name": source, "key": "project.tgz"}}
    given: dict[str, Any] = {"image": JAFFLE_SHOP_IMAGE, "project": {"archive": archive}, "podTemplate": template}
    return run_manifest(name, single_attempt=False, **given, **spec)


class TestOnBoth:
    """One class, so that the runs are executed once for all of it."""

    def test_a_run_of_a_project_in_an_image_ends_here_as_on_the_cluster(self, runs: Runs, tmp_path: Path) -> None:
        environ = {"JAFFLE_SHOP_DUCKDB": str(tmp_path / "jaffle_shop.duckdb")}  # of the name of the file are tables
        project = EXAMPLES / "project"
        assert_alike(runs.cluster, "jaffle-shop-broken", folder=tmp_path, project=project, environ=environ)

    @pytest.mark.parametrize("name", ON_A_VOLUME)
    def test_runs_of_a_project_in_an_archive_end_here_as_on_the_cluster(
        self, runs: Runs, tmp_path: Path, name: str
    ) -> None:
        environ = {variable: str(tmp_path / file) for variable, file in DATABASES.items()}
        assert_alike(runs.cluster, *ON_A_VOLUME[name], folder=tmp_path, environ=environ)

    def test_a_stale_source_holds_back_what_depends_on_it(self, runs: Runs) -> None:
        run, models = runs.ended("stale")
        assert (run["status"]["phase"], run["status"]["reason"]) == ("Succeeded", "SucceededWithWarnings")
        skipped = {one["spec"]["name"]: one["status"] for one in models if one["status"]["phase"] == "Skipped"}
        assert len(skipped) == 5
        assert {(one["reason"], one["blockedBy"]) for one in skipped.values()} == {
            ("Stale", "source.shop.raw.customers")
        }

    def test_a_broken_model_blocks_its_descendants_and_nothing_else(self, runs: Runs) -> None:
        run, nodes = runs.ended("jaffle-shop-broken")
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
        runs.cluster.until(
            "an Event of the failed node",
            lambda: any(event["reason"] == "NodeFailed" for event in runs.cluster.events()),
        )
