"""Runs on a real warehouse, in which every execution can be counted: what the operator shows is what happened there."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dev.chaos.project import SCHEMA
from tests.e2e.conftest import PATIENCE, Cluster
from tests.e2e.postgres import everything_said, manifests, producer_pod
from tests.e2e.repair import Runs, runs, shared
from tests.e2e.test_deletion_and_loss import kill_runner

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

MINUTES = 600_000
"""Milliseconds that no test waits for: a query that only a cancel ends."""
SOME: dict[str, Any] = {"exclude": ["resource_type:seed"], "settings": {"sleep_ms": 1000}, "threads": 3}
"""Fields for a run of UPPER, so slow that it can be seen to have done a few nodes, and not the others."""
UPPER, NODES, TESTS = "+layer2_0*", 19, 4
"""Two layers, and how many that is."""


@contextmanager
def _followed_log(cluster: Cluster, run: str, file: Path) -> Iterator[None]:
    """Write the producer's log to the file until its end. To be begun early: the container goes with its pod."""
    kubectl = cluster.kubectl
    target = ("logs", "-f", producer_pod(cluster, run), "-n", cluster.namespace, "-c", "dbt")
    with file.open("w") as output:
        argv = [kubectl.program, "--kubeconfig", str(kubectl.kubeconfig), *target]
        with subprocess.Popen(argv, stdout=output) as follower:
            try:
                yield
                assert follower.wait(timeout=PATIENCE) == 0
            finally:
                follower.kill()  # where the test has failed, nothing else ends it


def _green(runs: Runs, name: str) -> set[str]:
    return {node for node, phase in runs.phases(name).items() if phase == "Succeeded"}


def _a_few_are_done(runs: Runs, name: str) -> bool:
    """Few enough that nodes of the first layer are left, which those of the second one read."""
    count: int = runs.status(name).get("nodes", {}).get("succeeded", 0)
    return count >= 3


def _assert_green_means_executed(runs: Runs, name: str) -> None:
    """What the warehouse does not have is not green, and every node has an end."""
    counts = runs.status(name)["nodes"]
    assert counts["pending"] == counts["running"] == 0
    nodes, executed = runs.nodes(name), runs.postgres.executions()
    assert not {"Pending", "Running"} & {node["phase"] for node in nodes.values()}
    green = _green(runs, name)
    assert green <= set(executed)
    assert set(executed.values()) == {1}
    # Committed, and not reported before the end came: unknown, and said to be.
    unknown = {nodes[node].get("reason") for node in set(executed) - green}
    assert unknown <= {"Lost", "Cancelled"}, unknown


class TestPostgres:
    """They share a warehouse, and so are a class."""

    def test_the_example_runs_without_dbt_where_its_nodes_are_simple(self, runs: Runs) -> None:
        """In the mode in which it is written down it is a part of the example slim-ci."""
        (run,) = manifests("run.yaml")
        run["spec"]["mode"] = "Async"
        runs.cluster.apply(run)
        name = run["metadata"]["name"]
        assert runs.end(name)["phase"] == "Succeeded", runs.status(name)["message"]
        models = runs.nodes(name)
        (days,) = runs.postgres.sql("select count(*) from analytics_marts.daily_revenue")
        assert str(models["daily_revenue"]["rowsAffected"]) == days[0]
        executors = {one: model.get("executor") for one, model in models.items()}
        assert executors["daily_revenue"] == "Async", executors
        assert {models[one]["executorReason"] for one, by in executors.items() if by == "dbt"} <= {
            *("it is a seed", "it is a snapshot", "it is materialized as incremental"),
        }
        assert runs.postgres.password not in everything_said(runs.cluster, name)

    def test_of_runs_at_once_each_executes_its_nodes_once_and_a_lock_fails_the_node_that_needs_it(
        self, runs: Runs
    ) -> None:
        runs.postgres.sql(f"create table {SCHEMA}.layer1_01 as select 0 as id")
        runs.postgres.sql("alter role dbt set lock_timeout = '500ms'")
        try:
            with runs.postgres.locked("layer1_01"):
                runs.start("locked", "layer1_01", "layer1_03", exclude=["resource_type:test"], retry={"limit": 0})
                runs.start("free", "layer1_02", "layer1_05", settings={"sleep_ms": 500}, retry={"limit": 0})
                locked, free = runs.end("locked"), runs.end("free")
        finally:
            runs.postgres.sql("alter role dbt reset lock_timeout")
        assert (locked["phase"], locked["reason"]) == ("Failed", "NodesFailed"), locked["message"]
        assert "lock timeout" in locked["message"]
        assert runs.phases("locked") == {"layer1_01": "Failed", "layer1_03": "Succeeded"}
        assert (free["phase"], free["reason"], free["progress"]) == ("Succeeded", "AllSucceeded", "2/2")
        assert free["dbt"]["adapter"] == "postgres"
        assert (free["nodes"]["total"], free["nodes"]["succeeded"]) == (2, 2)
        assert (free["tests"]["total"], free["tests"]["succeeded"]) == (1, 1)
        done = dict.fromkeys(_green(runs, "locked") | _green(runs, "free"), 1)
        assert (runs.postgres.executions(), runs.postgres.tries()) == (done, done | {"layer1_01": 1})

    def test_deleting_a_run_cancels_its_queries_in_the_warehouse(self, runs: Runs, tmp_path: Path) -> None:
        cluster, postgres = runs.cluster, runs.postgres
        runs.start("shop", "layer1_0*", settings={"sleep_ms": MINUTES}, threads=4)
        cluster.until("four queries that do not end", lambda: len(postgres.active_queries()) == 4)
        log = tmp_path / "log"
        with _followed_log(cluster, "shop", log):
            cluster.kubectl("delete", "dbtrun", "shop", "-n", cluster.namespace, "--wait=false")
            deleted = datetime.now(UTC)
            # The deadline is for a busy machine, and far below the ten minutes that the queries take by themselves.
            cluster.until("no query is left in the warehouse", lambda: not postgres.active_queries(), seconds=30)
            empty = datetime.now(UTC)
        events = [json.loads(line) for line in log.read_text().splitlines()]
        (asked,) = [event["info"]["ts"] for event in events if event["info"]["name"] == "CancelRequested"]
        since = empty - datetime.fromisoformat(asked)
        print(f"queries gone {empty - deleted} after the deletion, {since} after SIGTERM")  # noqa: T201 - a measurement
        assert events[-1]["info"]["name"] == "RunFinished"
        assert sum(postgres.executions().values()) == 0

    def test_a_killed_producer_leaves_no_green_node_that_was_not_executed(self, runs: Runs) -> None:
        cluster, postgres = runs.cluster, runs.postgres
        # As the first process of a container the runner could not be killed from inside.
        single = {"retry": {"limit": 0}, "producer": {"maxRestarts": 0}}
        runs.start("shop", UPPER, **SOME, pod={"shareProcessNamespace": True}, **single)
        cluster.until("a few nodes", lambda: _a_few_are_done(runs, "shop"))
        kill_runner(cluster, producer_pod(cluster, "shop"))
        status = runs.end("shop")
        # A process that was killed has cancelled nothing: Postgres notices only when the query has ended.
        cluster.until("the warehouse is quiet", lambda: not postgres.active_queries())
        assert (status["phase"], status["reason"]) == ("Failed", "PodLost"), status["message"]
        assert _green(runs, "shop")
        _assert_green_means_executed(runs, "shop")

    def test_a_warehouse_that_goes_away_in_the_middle(self, runs: Runs) -> None:
        cluster, postgres = runs.cluster, runs.postgres
        retry = {"limit": 20, "reasons": ["Error", "ConnectionFailed"], "backoff": {"duration": "5s", "factor": 1}}
        runs.start("shop", UPPER, **SOME, retry=retry)
        cluster.until("a few nodes", lambda: _a_few_are_done(runs, "shop"))
        postgres.interrupt()
        cluster.until("dbt has ended", lambda: runs.status("shop")["phase"] == "Retrying")
        shown = runs.phases("shop")
        assert (
            {"Succeeded", "Failed", "Skipped"} <= set(shown.values()) <= {"Succeeded", "Failed", "Skipped", "Pending"}
        )
        postgres.resume()
        status = runs.end("shop")
        assert status["phase"] == "Succeeded", status["message"]
        assert status["nodes"]["total"] == status["nodes"]["succeeded"] == NODES
        assert status["tests"]["total"] == status["tests"]["succeeded"] == TESTS
        # What failed for the same cause was retried in one pod, not in one each.
        retries = [attempt["name"] for attempt in status["attempts"] if attempt["kind"] == "Retry"]
        assert [name for name in retries if "-retry-nodes-" in name]
        # dbt lost the connection after the commit of some at worst: they failed then, and were executed once more.
        executed = postgres.executions()
        assert len(executed) == NODES
        assert {executed[name] for name, phase in shown.items() if phase == "Succeeded"} == {1}
