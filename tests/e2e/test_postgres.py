"""Runs on a real warehouse, in which every execution can be counted: what the operator shows is what happened there."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.conftest import PATIENCE, Cluster, phases
from tests.e2e.postgres import (
    CHAOS_NODES,
    CHAOS_TESTS,
    HOST,
    PORT,
    Postgres,
    chaos,
    everything_said,
    manifests,
    postgres,
    producer_pod,
)
from tests.e2e.test_deletion_and_loss import kill_runner

__all__ = ["postgres"]  # a fixture: pytest finds it in the module that uses it

MINUTES = 600_000
"""Milliseconds that no test waits for: a query that only a cancel ends."""


def _green(cluster: Cluster) -> set[str]:
    return {name for name, phase in phases(cluster.models()).items() if phase == "Succeeded"}


def _succeeded(cluster: Cluster) -> int:
    count: int = cluster.run().get("status", {}).get("nodes", {}).get("succeeded", 0)
    return count


def test_every_node_is_executed_exactly_once(cluster: Cluster, postgres: Postgres) -> None:
    cluster.create_run(**chaos())
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert status["dbt"]["adapter"] == "postgres"
    assert status["progress"] == f"{CHAOS_NODES}/{CHAOS_NODES}"
    assert status["nodes"]["total"] == status["nodes"]["succeeded"] == CHAOS_NODES
    assert status["tests"]["total"] == status["tests"]["succeeded"] == CHAOS_TESTS
    assert postgres.executions() == postgres.tries() == dict.fromkeys(_green(cluster), 1)
    assert len(_green(cluster)) == CHAOS_NODES


def test_the_example_runs_as_its_readme_says(cluster: Cluster, postgres: Postgres) -> None:
    (run,) = manifests("run.yaml")
    cluster.apply(run)
    name = run["metadata"]["name"]
    assert cluster.wait_for_end(name)["phase"] == "Succeeded", cluster.run(name)["status"]["message"]
    revenue = dict(cluster.models()["daily_revenue"]["status"])
    (days,) = postgres.sql("select count(*) from analytics_marts.daily_revenue")
    assert str(revenue["rowsAffected"]) == days[0]
    assert postgres.password not in everything_said(cluster, name)
    # The same without dbt, for what is simple.
    before = {one: (model["spec"], model["status"]["phase"]) for one, model in cluster.models().items()}
    cluster.kubectl("delete", "dbtrun", name, "-n", cluster.namespace)
    run["spec"]["mode"] = "Async"
    cluster.apply(run)
    assert cluster.wait_for_end(name)["phase"] == "Succeeded", cluster.run(name)["status"]["message"]
    models = cluster.models()
    assert models["daily_revenue"]["status"]["rowsAffected"] == revenue["rowsAffected"]
    assert {one: model["status"]["phase"] for one, model in models.items()} == {
        one: phase for one, (_, phase) in before.items()
    }
    executors = {one: model["status"].get("executor") for one, model in models.items()}
    assert executors["daily_revenue"] == "Async", executors
    assert {models[one]["status"]["executorReason"] for one, by in executors.items() if by == "dbt"} <= {
        *("it is a seed", "it is a snapshot", "it is materialized as incremental"),
    }
    assert postgres.password not in everything_said(cluster, name)


def test_runs_at_once_in_one_warehouse(cluster: Cluster, postgres: Postgres) -> None:
    names = {"odd": ["layer1_01", "layer1_03", "layer1_05"], "even": ["layer1_02", "layer1_04", "layer1_06"]}
    cluster.create_run("seeds", **chaos(select=["resource_type:seed"]))
    assert cluster.wait_for_end("seeds")["phase"] == "Succeeded"
    for name, select in names.items():
        cluster.create_run(name, **chaos(select=select, settings={"sleep_ms": 500}))
    for name in names:
        assert cluster.wait_for_end(name)["phase"] == "Succeeded", cluster.run(name)["status"]["message"]
    assert set(postgres.executions().values()) == {1}
    assert {node for select in names.values() for node in select} <= set(postgres.executions())


def test_a_lock_that_is_not_released_in_time_fails_its_node_only(cluster: Cluster, postgres: Postgres) -> None:
    spec = chaos(select=["resource_type:seed", "layer1_01", "layer1_03"], exclude=["resource_type:test"])
    cluster.create_run("first", **spec)
    assert cluster.wait_for_end("first")["phase"] == "Succeeded"
    cluster.kubectl("delete", "dbtrun", "first", "-n", cluster.namespace)
    postgres.sql("alter role dbt set lock_timeout = '500ms'")
    with postgres.locked("layer1_01"):
        cluster.create_run("second", **spec)
        status = cluster.wait_for_end("second")
    assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
    assert "lock timeout" in status["message"]
    assert {name for name, phase in phases(cluster.models()).items() if phase != "Succeeded"} == {"layer1_01"}
    assert (postgres.executions()["layer1_01"], postgres.executions()["layer1_03"]) == (1, 2)


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


def test_deleting_a_run_cancels_its_queries_in_the_warehouse(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    cluster.create_run(**chaos(settings={"sleep_ms": MINUTES}, threads=4))
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


def test_a_warehouse_that_refuses_connections(cluster: Cluster, postgres: Postgres) -> None:
    postgres.stop()
    cluster.create_run(**chaos())
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "ConnectionFailed"), status["message"]
    assert HOST in status["message"]
    assert str(PORT) in status["message"]
    assert "\n" not in status["message"].strip()
    assert postgres.password not in everything_said(cluster, "shop")


def test_a_wrong_password_is_named_and_not_told(cluster: Cluster, postgres: Postgres) -> None:
    wrong = "hunter2-wrong-password"
    postgres.use_password(wrong)
    cluster.create_run(**chaos())
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "ConnectionFailed"), status["message"]
    assert 'password authentication failed for user "dbt"' in status["message"]
    assert wrong not in everything_said(cluster, "shop")


def test_a_right_that_is_missing_is_not_taken_for_a_warehouse_that_is(cluster: Cluster, postgres: Postgres) -> None:
    postgres.use_reader()
    cluster.create_run(**chaos())
    status = cluster.wait_for_end()
    assert (status["phase"], status["reason"]) == ("Failed", "DatabaseError"), status["message"]
    assert "permission denied for database warehouse; check the rights of the user" in status["message"]


def _assert_green_means_executed(cluster: Cluster, postgres: Postgres, status: dict[str, Any]) -> None:
    """What the warehouse does not have is not green, and every node has an end."""
    assert status["nodes"]["pending"] == status["nodes"]["running"] == 0
    models = cluster.models()
    assert not {"Pending", "Running"} & set(phases(models).values())
    executed = postgres.executions()
    assert _green(cluster) <= set(executed)
    assert set(executed.values()) == {1}
    # Committed, and not reported before the end came: unknown, and said to be.
    unknown = {models[name]["status"].get("reason") for name in set(executed) - _green(cluster)}
    assert unknown <= {"Lost", "Cancelled"}, unknown


def test_a_killed_producer_leaves_no_green_node_that_was_not_executed(cluster: Cluster, postgres: Postgres) -> None:
    # As the first process of a container the runner could not be killed from inside.
    cluster.create_run(**chaos(settings={"sleep_ms": 300}, pod={"shareProcessNamespace": True}))
    cluster.until("a third of the nodes", lambda: _succeeded(cluster) >= CHAOS_NODES // 3)
    pod = producer_pod(cluster, "shop")
    kill_runner(cluster, pod)
    status = cluster.wait_for_end()
    # A process that was killed has cancelled nothing: Postgres notices only when the query has ended.
    cluster.until("the warehouse is quiet", lambda: not postgres.active_queries())
    assert (status["phase"], status["reason"]) == ("Failed", "PodLost"), status["message"]
    assert _green(cluster)
    _assert_green_means_executed(cluster, postgres, status)


def test_a_warehouse_that_goes_away_in_the_middle(cluster: Cluster, postgres: Postgres) -> None:
    retry = {"limit": 20, "reasons": ["Error", "ConnectionFailed"], "backoff": {"duration": "5s", "factor": 1}}
    cluster.create_run(**chaos(settings={"sleep_ms": 300}, retry=retry))
    cluster.until("a third of the nodes", lambda: _succeeded(cluster) >= CHAOS_NODES // 3)
    postgres.interrupt()
    cluster.until("dbt has ended", lambda: cluster.run()["status"]["phase"] == "Retrying")
    shown = phases(cluster.models())
    assert {"Succeeded", "Failed", "Skipped"} <= set(shown.values()) <= {"Succeeded", "Failed", "Skipped", "Pending"}
    postgres.resume()
    status = cluster.wait_for_end()
    assert status["phase"] == "Succeeded", status["message"]
    # What failed for the same cause was retried in one pod, not in one each.
    retries = [attempt["name"] for attempt in status["attempts"] if attempt["kind"] == "Retry"]
    assert [name for name in retries if "-retry-nodes-" in name]
    # dbt lost the connection after the commit of some at worst: they failed then, and were executed once more.
    executed = postgres.executions()
    assert len(executed) == CHAOS_NODES
    assert {executed[name] for name, phase in shown.items() if phase == "Succeeded"} == {1}
