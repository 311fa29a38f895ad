"""Runs that are told to rest, and to go on."""

from tests.e2e.conftest import condition
from tests.e2e.repair import Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them


class TestSuspension:
    """They share a warehouse, and so are a class."""

    def test_a_run_that_is_suspended_stops_its_queries_and_goes_on_later(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # for which two models wait
            runs.start("night", "layer1_05", "layer1_13", "layer1_03", "layer1_14", "layer2_04", "layer2_01")
            runs.wait_for_phase("night", "Succeeded", "layer1_05", "layer2_04")
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
        runs.set("night", suspend=False)
        runs.wait_for_condition("night", "Complete")
        status, nodes = runs.status("night"), runs.nodes("night")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert condition(status, "Suspended") is None
        assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Resume"]
        assert status["attempts"][1]["nodes"] == 4  # three models, and the test of one of them
        assert {name: node["tries"] for name, node in nodes.items() if node["tries"] > 1} == {
            "layer1_03": 2,
            "layer1_14": 2,
        }
        assert runs.postgres.executions() == dict.fromkeys(nodes, 1)

    def test_a_run_that_is_cancelled_stops_its_queries_and_ends(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # for which a model waits
            runs.start("dropped", "layer1_05", "layer1_03")
            runs.wait_for_phase("dropped", "Succeeded", "layer1_05")
            runs.cluster.until("a query waits", lambda: len(runs.postgres.active_queries()) == 1)
            runs.set("dropped", cancel=True)
            runs.wait_for_condition("dropped", "Failed")
            assert runs.postgres.active_queries() == []
        assert (runs.status("dropped")["phase"], runs.live_pods()) == ("Cancelled", [])
        assert runs.phases("dropped") == {"layer1_05": "Succeeded", "layer1_03": "Cancelled"}

    def test_a_job_that_loses_its_place_in_a_queue_is_followed_by_one_with_what_is_left(self, runs: Runs) -> None:
        """What Kueue does with a Job whose place is given to another one."""
        with runs.postgres.locked("seed_1"):
            runs.start("bumped", "layer1_05", "layer1_03", producer={"maxRestarts": 0})
            runs.wait_for_phase("bumped", "Succeeded", "layer1_05")
            runs.wait_for_phase("bumped", "Running", "layer1_03")
            suspend = ("--type=merge", "-p", '{"spec": {"suspend": true}}')
            runs.cluster.kubectl("patch", "job", "bumped-producer-1", "-n", runs.cluster.namespace, *suspend)
            runs.cluster.until("another attempt", lambda: "bumped-resume-1" in runs.jobs("bumped"))
        runs.wait_for_condition("bumped", "Complete")
        first, second = runs.attempts("bumped")
        assert (first["state"], first["reason"]) == ("Cancelled", "JobSuspended"), first["message"]
        assert (second["kind"], second["nodes"]) == ("Resume", 1)
        assert runs.jobs("bumped") == ["bumped-resume-1"]  # the first one must not come back
        assert runs.postgres.executions() == {"layer1_05": 1, "layer1_03": 1}

    def test_a_run_that_is_created_suspended_waits_for_its_start(self, runs: Runs) -> None:
        runs.start("held", "layer1_05", suspend=True)
        runs.wait_for_condition("held", "Suspended")
        assert runs.status("held")["phase"] == "Suspended"
        assert runs.jobs("held") == []
        runs.set("held", suspend=False)
        runs.wait_for_condition("held", "Complete")
        assert runs.jobs("held") == ["held-producer-1"]
        assert runs.status("held")["retries"] == 0
        assert runs.postgres.executions() == {"layer1_05": 1}
