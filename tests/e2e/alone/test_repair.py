"""The operator dies while a run loses its pods: what is left is executed all the same, and only once."""

from collections.abc import Iterator
from contextlib import contextmanager

from dbt_operator.api.phases import NodePhase
from dev.install import NAMESPACE as SYSTEM
from tests.conftest import Kubectl
from tests.e2e.repair import QUICK, Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

MODELS = tuple(f"layer1_{number:02}" for number in range(1, 13))


def _kill_operator(kubectl: Kubectl) -> None:
    """Without any warning; its Deployment starts another one, if it is to."""
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=dbt-operator", "--grace-period=0", "--force")


@contextmanager
def _no_operator(kubectl: Kubectl) -> Iterator[None]:
    """Kill it, and have none as long as the context lasts."""
    scale = ("scale", "deployment", "dbt-operator", "-n", SYSTEM)
    kubectl(*scale, "--replicas=0")
    try:
        _kill_operator(kubectl)
        yield
    finally:
        kubectl(*scale, "--replicas=1")


def _stored(runs: Runs) -> set[str]:
    """The nodes of which it is stored that the first attempt has built them."""
    checkpoint = runs.cluster.checkpoint("orphan")
    nodes = checkpoint.state.nodes.values() if checkpoint is not None else ()
    return {node.name for node in nodes if node.phase is NodePhase.SUCCEEDED}


class TestWithoutTheOperator:
    """With a warehouse of the module."""

    def test_a_lost_pod_is_followed_by_one_other(self, runs: Runs) -> None:
        # Nobody sees the pod end, so it is given its grace period before another one begins.
        grace = {"terminationGracePeriodSeconds": 5}
        runs.start("orphan", *MODELS, threads=2, settings={"sleep_ms": 400}, retry=QUICK, pod=grace)
        runs.wait_for_work("orphan", "orphan-producer-1")
        # No node comes to its end after the operator has stopped listening: what nobody heard is executed once more.
        with runs.postgres.locked("executions", readable=True):
            runs.cluster.until(
                "all that was executed is stored", lambda: _stored(runs) >= runs.postgres.executions().keys()
            )
            pod = runs.pod("orphan-producer-1")
            with _no_operator(runs.cluster.kubectl):
                runs.cluster.kubectl("delete", "pod", pod, "-n", runs.cluster.namespace, "--wait=false")
                runs.cluster.until("the pod is gone with its log", lambda: not runs.has_pod("orphan-producer-1"))
        runs.wait_for_work("orphan", "orphan-resume-1")
        _kill_operator(runs.cluster.kubectl)
        status = runs.end("orphan")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        shown = [(attempt["name"], attempt["state"], attempt.get("reason")) for attempt in status["attempts"]]
        assert shown[0] == ("orphan-producer-1", "Lost", "PodLost")
        assert shown[1][:2] == ("orphan-resume-1", "Succeeded")
        assert runs.jobs("orphan") == ["orphan-producer-1", "orphan-resume-1"]
        assert set(runs.phases("orphan")) == set(MODELS)
        # dbt was told to stop, and took back what it was doing: nothing was executed twice.
        assert runs.postgres.executions() == dict.fromkeys(MODELS, 1)
