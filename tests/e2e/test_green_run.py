"""Runs that work, at once: every node is seen Pending, Running and Succeeded, while dbt runs."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbt_operator.kube.resources import Object
from tests.api import Api
from tests.conftest import Kubectl
from tests.e2e.alike import assert_alike
from tests.e2e.conftest import EXAMPLES, Cluster, condition, example, own_cluster

PART = "jaffle-shop-select"


@dataclass(frozen=True, slots=True)
class Watched:
    """The runs `shop` and PART that have ended, and what a watch of the DbtModels of the shop has shown.

    moves: names with phases, as they followed.
    """

    cluster: Cluster
    moves: list[tuple[str, ...]]

    def nodes(self, run: str = "shop") -> dict[str, Object]:
        """The DbtModels of a run, by dbt's name."""
        return {one["spec"]["name"]: one for one in self.cluster.objects("dbtmodels") if one["spec"]["runName"] == run}


@contextmanager
def _watch_of_models(cluster: Cluster, file: Path) -> Iterator[None]:
    """What a user sees who watches the nodes, one line for each change, for as long as the context lasts."""
    kubectl = (cluster.kubectl.program, "--kubeconfig", str(cluster.kubectl.kubeconfig), "-n", cluster.namespace)
    command = ("get", "dbtmodels", "-w", "-l", "dbt-operator.io/run=shop", "--no-headers", "-o")
    columns = "custom-columns=NAME:.spec.name,PHASE:.status.phase"
    with file.open("w") as output:
        watcher = subprocess.Popen([*kubectl, *command, columns], stdout=output)
        try:
            yield
        finally:
            watcher.terminate()
            watcher.wait(timeout=30)


@pytest.fixture(scope="class")
def watched(kubectl: Kubectl, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run of all of the shop and one of a part of it, for tests that only look at them."""
    seen = tmp_path_factory.mktemp("watch") / "dbtmodels"
    with own_cluster(kubectl, api) as cluster:
        with _watch_of_models(cluster, seen):
            cluster.create_run(pause=0.5)
            (part,) = example("select.yaml")
            cluster.apply(part)
            total = cluster.wait_for_end()["nodes"]["total"]
            cluster.until("the watch has shown the end", lambda: seen.read_text().count("Succeeded") >= total)
        cluster.wait_for_end(PART)
        yield Watched(cluster, list(dict.fromkeys(tuple(line.split()) for line in seen.read_text().splitlines())))


class TestGreenRuns:
    """Only looked at, and so made once."""

    def test_every_node_and_the_run_succeed(self, watched: Watched) -> None:
        status, models = watched.cluster.run()["status"], watched.nodes()
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert {model["status"]["phase"] for model in models.values()} == {"Succeeded"}
        assert status["nodes"]["total"] == status["nodes"]["succeeded"] == len(models)
        assert status["progress"] == f"{len(models)}/{len(models)}"
        assert status["tests"]["total"] == status["tests"]["succeeded"] > 0
        assert [condition(status, kind) for kind in ("Succeeded", "Complete", "Failed", "Reconciling")] == [
            "True",
            "True",
            None,
            None,
        ]
        assert status["dbt"]["adapter"] == "duckdb"
        assert status["dbt"]["version"].startswith("1.")
        assert status["attempts"][0]["state"] == "Succeeded"
        assert status["attempts"][0]["exitCode"] == 0

    def test_what_dbt_told_of_a_node_is_shown(self, watched: Watched) -> None:
        models = watched.nodes()
        orders = models["orders"]
        assert orders["spec"]["uniqueId"] == "model.jaffle_shop.orders"
        assert orders["spec"]["materialized"] == "table"
        assert "orders" in orders["spec"]["relation"]
        assert orders["status"]["executionSeconds"] > 0
        assert orders["status"]["startedAt"] < orders["status"]["finishedAt"]
        tests = orders["status"]["tests"]
        assert tests["total"] == tests["passed"] == len(orders["spec"]["tests"]) > 0
        assert tests["summary"] == f"{tests['total']}/{tests['total']}"
        # An ephemeral model has a DbtModel as well, although nothing is built for it.
        inlined = models["int_order_amounts"]
        assert (inlined["status"]["reason"], inlined["spec"].get("relation")) == ("Inlined", None)
        assert inlined["spec"]["uniqueId"] in models["orders"]["spec"]["dependsOn"]

    def test_a_run_tells_its_transitions_as_events(self, watched: Watched) -> None:
        def mine() -> list[Object]:
            about = [(e, e["involvedObject"]) for e in watched.cluster.events()]
            return [e for e, what in about if (what["kind"], what["name"]) == ("DbtRun", "shop")]

        watched.cluster.until("the last event", lambda: "AllSucceeded" in {e["reason"] for e in mine()})
        assert {"Executing", "AllSucceeded"} <= {e["reason"] for e in mine()}
        assert {e["type"] for e in mine()} == {"Normal"}

    @pytest.mark.parametrize("name", ["shop", PART])
    def test_a_run_ends_like_that_without_a_cluster(self, watched: Watched, tmp_path: Path, name: str) -> None:
        environ = {"JAFFLE_SHOP_DUCKDB": str(tmp_path / "jaffle_shop.duckdb")}
        assert_alike(watched.cluster, name, folder=tmp_path, project=EXAMPLES / "project", environ=environ)

    def test_statuses_move_while_dbt_runs(self, watched: Watched) -> None:
        names, moves = set(watched.nodes()), watched.moves
        for name in names:
            assert [phase for shown, phase in moves if shown == name] in (
                ["Pending", "Running", "Succeeded"],
                ["Pending", "Succeeded"],  # quicker than the interval in which an object is written twice
            ), moves
        assert sum(phase == "Running" for _, phase in moves) > len(names) / 2
        # Some node had ended before another began: this was seen during the run, not after it.
        first_end = next(at for at, (_, phase) in enumerate(moves) if phase == "Succeeded")
        assert any(phase == "Running" for _, phase in moves[first_end:])

    def test_two_runs_at_once_do_not_mix_and_have_what_dbt_selects(self, watched: Watched) -> None:
        status = watched.cluster.run(PART)["status"]
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        whole, part = watched.nodes(), watched.nodes(PART)
        assert status["nodes"]["total"] == len(part)
        assert part.keys() < whole.keys()
        assert "orders" in part
        assert "monthly_revenue" not in part
        for run, nodes in (("shop", whole), (PART, part)):
            assert {one["metadata"]["ownerReferences"][0]["name"] for one in nodes.values()} == {run}


def test_the_spec_of_a_started_run_is_closed(cluster: Cluster) -> None:
    # On no node: that it can no longer change is a matter of having been started, not of what dbt does.
    cluster.create_run(podTemplate={"spec": {"nodeSelector": {"no": "such-node"}}})
    cluster.until("the start", lambda: "startTime" in cluster.run().get("status", {}))
    patch = json.dumps({"spec": {"threads": 7}})
    said = cluster.kubectl.refused("patch", "dbtrun", "shop", "-n", cluster.namespace, "--type=merge", "-p", patch)
    assert "spec can no longer change" in said
