"""Pods that are lost while dbt works: what is left is executed by further pods, what had succeeded is not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.e2e.repair import QUICK, Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

MODELS = (*(f"layer1_{number:02}" for number in range(1, 15)), "layer2_01", "layer2_10")
THREADS = 2
LIMIT = "400Mi"

# Takes memory in small processes until the kernel ends the largest one of the container, which is dbt.
HOG = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        taken = bytearray(b"x") * (24 * 1024 * 1024)
        time.sleep(15)
        os._exit(0)
    time.sleep(0.05)
time.sleep(15)
"""
POD = {
    "terminationGracePeriodSeconds": 5,
    "containers": [{"name": "dbt", "resources": {"limits": {"memory": LIMIT}}}],
}


def _delete(runs: Runs, pod: str) -> None:
    runs.cluster.kubectl("delete", "pod", pod, "-n", runs.cluster.namespace, "--wait=false")


def _delete_with_its_job(runs: Runs, pod: str) -> None:
    runs.cluster.kubectl("delete", "job", pod.rpartition("-")[0], "-n", runs.cluster.namespace, "--wait=false")


def _delete_by_force(runs: Runs, pod: str) -> None:
    runs.cluster.kubectl("delete", "pod", pod, "-n", runs.cluster.namespace, "--grace-period=0", "--force")


def _python(runs: Runs, pod: str, program: str) -> None:
    # What it kills may be the connection to it, too.
    runs.cluster.kubectl.run("exec", pod, "-n", runs.cluster.namespace, "-c", "dbt", "--", "python3", "-c", program)


def _exhaust(runs: Runs, pod: str) -> None:
    _python(runs, pod, HOG)


def _evict(runs: Runs, pod: str) -> None:
    metadata = {"name": pod, "namespace": runs.cluster.namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{runs.cluster.namespace}/pods/{pod}/eviction"
    runs.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


@dataclass(frozen=True, slots=True)
class Loss:
    """A way to lose a pod, the attempt that it meets, and the reason that is given for it."""

    lose: Callable[[Runs, str], None]
    job: str
    reason: str


LOSSES = (
    Loss(_delete, "lost-producer-1", "PodLost"),  # before dbt has said what it selects
    Loss(_evict, "lost-producer-2", "Evicted"),
    Loss(_delete_with_its_job, "lost-resume-1", "PodLost"),
    Loss(_delete_by_force, "lost-resume-2", "PodLost"),
)
LAST = "lost-resume-3"


@pytest.fixture(scope="class")
def survivor(shared: Runs) -> Iterator[Runs]:
    """A run that has ended, and that has lost a pod in many ways: for tests that only look at it."""
    shared.prepare()
    shared.start(
        "lost",
        *MODELS,
        threads=THREADS,
        settings={"sleep_ms": 800},  # long enough that no pod does it all before it is lost
        retry=QUICK,
        producer={"maxRestarts": len(LOSSES)},
        pod=POD,
    )
    for loss in LOSSES:
        shared.cluster.until(f"a pod of {loss.job}", partial(shared.has_pod, loss.job))
        if loss is not LOSSES[0]:
            shared.wait_for_work("lost", loss.job)
        loss.lose(shared, shared.pod(loss.job))
    shared.end("lost")
    # A process that is killed at once has cancelled nothing: Postgres notices only when the query has ended.
    shared.cluster.until("the warehouse is quiet", lambda: not shared.postgres.active_queries())
    yield shared
    shared.clear()


class TestALostPod:
    """The tests but for the first one look at one run."""

    def test_fails_the_run_that_allows_no_restart_and_says_what_memory_it_needed(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # for which a model waits
            runs.start("once", "layer1_05", "layer1_13", "layer1_14", producer={"maxRestarts": 0}, pod=POD)
            runs.wait_for_phase("once", "Succeeded", "layer1_05", "layer1_13")
            runs.wait_for_phase("once", "Running", "layer1_14")
            _exhaust(runs, runs.pod("once-producer-1"))
            status = runs.end("once")
        assert (status["phase"], status["reason"]) == ("Failed", "OOMKilled"), status["message"]
        assert [(each["name"], each["reason"]) for each in status["attempts"]] == [("once-producer-1", "OOMKilled")]
        assert LIMIT in status["message"]
        assert f"{status['peakMemoryBytes'] / 2**20:.0f} MiB" in status["message"]
        shown = runs.phases("once")
        assert {name for name, phase in shown.items() if phase == "Succeeded"} == {"layer1_05", "layer1_13"}
        assert not {"Pending", "Running"} & set(shown.values())

    def test_does_not_keep_the_run_from_its_success(self, survivor: Runs) -> None:
        status = survivor.status("lost")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert status["nodes"]["succeeded"] == status["nodes"]["total"] == len(MODELS)
        assert status["tests"]["succeeded"] == status["tests"]["total"] > 0
        assert status["retries"] == len(LOSSES)
        assert set(survivor.phases("lost").values()) == {"Succeeded"}

    def test_is_named_with_its_reason(self, survivor: Runs) -> None:
        attempts = survivor.attempts("lost")
        shown = [(attempt["name"], attempt["state"], attempt.get("reason")) for attempt in attempts]
        assert shown[:-1] == [(loss.job, "Lost", loss.reason) for loss in LOSSES]
        assert shown[-1][:2] == (LAST, "Succeeded")

    def test_costs_only_what_was_running_a_second_execution(self, survivor: Runs) -> None:
        nodes, executions = survivor.nodes("lost"), survivor.postgres.executions()
        assert set(nodes) == set(MODELS) == set(executions)
        for name, node in nodes.items():
            *before, last = [attempt["phase"] for attempt in node["attempts"]]
            assert last == "Succeeded", name
            assert "Succeeded" not in before, name
        again = sum(node["tries"] - 1 for node in nodes.values())
        assert 0 < again <= THREADS * len(LOSSES)
        # A commit of which nobody has heard is possible only in a node that was begun twice.
        assert {name for name, count in executions.items() if count > 1} <= {
            name for name, node in nodes.items() if node["tries"] > 1
        }

    def test_is_followed_by_another_one_only_when_its_process_is_gone(self, survivor: Runs) -> None:
        assert survivor.postgres.sql("select node from analytics.tries where not alone") == []
