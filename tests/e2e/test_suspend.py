"""A run that is told to rest, and to go on: before its start, at work, and by a queue that gives its place away."""

from tests.e2e.conftest import condition
from tests.e2e.repair import Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them


class TestSuspension:
    """With a warehouse of the module."""

    def test_a_run_that_is_suspended_stops_its_queries_and_goes_on_later(self, runs: Runs) -> None:
        self._check_that_a_run_waits_for_its_start(runs)
        with runs.postgres.locked("seed_1"):  # for which two models wait
            runs.set("night", suspend=False)
            runs.wait_for_phase("night", "Succeeded", "layer1_05", "layer2_04")
            self._check_that_it_rests(runs)
            runs.set("night", suspend=False)
            self._check_that_another_job_comes_for_one_that_loses_its_place(runs)
        runs.wait_for_condition("night", "Complete")
        status, nodes = runs.status("night"), runs.nodes("night")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert condition(status, "Suspended") is None
        assert [(attempt["state"], attempt.get("reason")) for attempt in status["attempts"][:-1]] == [
            ("Cancelled", "Suspended"),
            ("Cancelled", "JobSuspended"),
        ]
        # Three models, and the test of one of them, each time.
        assert [(attempt["kind"], attempt["nodes"]) for attempt in status["attempts"][1:]] == [("Resume", 4)] * 2
        assert {name: node["tries"] for name, node in nodes.items() if node["tries"] > 1} == {
            "layer1_03": 3,
            "layer1_14": 3,
        }
        assert runs.jobs("night") == ["night-resume-2"]  # the others must not come back
        assert runs.postgres.executions() == dict.fromkeys(nodes, 1)

    def _check_that_a_run_waits_for_its_start(self, runs: Runs) -> None:
        models = ("layer1_05", "layer1_13", "layer1_03", "layer1_14", "layer2_04", "layer2_01")
        runs.start("night", *models, suspend=True, producer={"maxRestarts": 0})
        runs.wait_for_condition("night", "Suspended")
        assert runs.status("night")["phase"] == "Suspended"
        assert runs.jobs("night") == []

    def _check_that_it_rests(self, runs: Runs) -> None:
        runs.wait_for_phase("night", "Running", "layer1_03", "layer1_14")
        runs.cluster.until("two queries wait", lambda: len(runs.postgres.active_queries()) == 2)
        runs.set("night", suspend=True)
        runs.wait_for_condition("night", "Suspended")
        # What they wait for has not come: they were cancelled.
        assert runs.postgres.active_queries() == []
        status, nodes = runs.status("night"), runs.nodes("night")
        assert (status["phase"], status["reason"]) == ("Suspended", "Suspended"), status["message"]
        assert runs.columns("night")["PHASE"] == "Suspended"
        assert "3 of 6 nodes have succeeded" in status["message"]
        assert condition(status, "Succeeded") == "Unknown"
        assert condition(status, "Reconciling") is None
        assert "completionTime" not in status
        assert [attempt["reason"] for attempt in status["attempts"]] == ["Suspended"]
        done = {name for name, node in nodes.items() if node["phase"] == "Succeeded"}
        assert done == {"layer1_05", "layer1_13", "layer2_04"}
        assert {node["phase"] for name, node in nodes.items() if name not in done} == {"Pending"}
        assert runs.live_pods() == []

    def _check_that_another_job_comes_for_one_that_loses_its_place(self, runs: Runs) -> None:
        """What Kueue does with a Job whose place is given to another one."""
        runs.wait_for_phase("night", "Running", "layer1_03", "layer1_14")
        runs.cluster.until("two queries wait", lambda: len(runs.postgres.active_queries()) == 2)
        suspend = ("--type=merge", "-p", '{"spec": {"suspend": true}}')
        runs.cluster.kubectl("patch", "job", "night-resume-1", "-n", runs.cluster.namespace, *suspend)
        runs.cluster.until("another attempt", lambda: "night-resume-2" in runs.jobs("night"))
