"""Retries that a person asks for with an annotation, after the end of the run."""

from typing import Any

from dev.chaos.project import IMAGE as CHAOS_IMAGE
from tests.e2e.conftest import condition
from tests.e2e.repair import Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

NO_RETRIES = {"limit": 0}
WITHOUT_THE_PROJECT = "localhost/dbt-operator/postgres-example:dev"


def _nothing_to_retry(runs: Runs, run: str) -> list[str]:
    """What the user was told of retries of a run for which there was nothing to do."""
    return [
        event["message"]
        for event in runs.cluster.events()
        if event["reason"] == "NothingToRetry" and event["involvedObject"]["name"] == run
    ]


class TestAskingForARetry:
    """They share a warehouse, and so are a class."""

    def test_a_node_is_executed_again_with_what_it_had_blocked(self, runs: Runs) -> None:
        runs.start(
            "nightly",
            *("layer1_05", "layer1_13", "layer2_04", "layer2_10"),
            settings={"fail_times": {"layer1_13": 1}},
            retry=NO_RETRIES,
        )
        status = runs.end("nightly")
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer"]
        runs.ask("dbtmodel", "nightly.layer1-13", "please")
        runs.wait_for_condition("nightly", "Complete")
        status, nodes = runs.status("nightly"), runs.nodes("nightly")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert [condition(status, kind) for kind in ("Succeeded", "Failed", "Stalled")] == ["True", None, None]
        kinds = [(attempt["kind"], attempt.get("nodes")) for attempt in status["attempts"]]
        assert kinds == [("Producer", None), ("Retry", 2), ("Resume", 2)]
        assert nodes["layer1_13"]["handledRetry"] == "please"
        assert {name: node["tries"] for name, node in nodes.items() if node["tries"] > 1} == {"layer1_13": 2}
        assert runs.postgres.executions() == dict.fromkeys(nodes, 1)
        self._check_that_what_is_green_is_left_alone(runs)

    def _check_that_what_is_green_is_left_alone(self, runs: Runs) -> None:
        before = runs.status("nightly")
        self._ask_for_node(runs, "again")
        runs.ask("dbtrun", "nightly", "all")
        runs.cluster.until(
            "the retry of the run is handled", lambda: runs.status("nightly").get("handledRetry") == "all"
        )
        self._ask_for_node(runs, "once-more")
        runs.cluster.until("both are told of", lambda: len(set(_nothing_to_retry(runs, "nightly"))) == 2)
        assert any("layer1_05" in message for message in _nothing_to_retry(runs, "nightly"))
        assert runs.nodes("nightly")["layer1_05"]["handledRetry"] == "once-more"
        assert runs.nodes("nightly")["layer1_13"]["handledRetry"] == "please"
        assert runs.status("nightly") == {**before, "handledRetry": "all"}
        assert len(runs.jobs("nightly")) == 3
        assert runs.postgres.executions()["layer1_05"] == 1
        runs.set("nightly", cancel=True)
        runs.ask("dbtmodel", "nightly.layer1-05", "while-cancelled")
        runs.cluster.until(
            "whoever has asked is told of the wait",
            lambda: (
                ("RetryWaits", "nightly.layer1-05")
                in [(event["reason"], event["involvedObject"]["name"]) for event in runs.cluster.events()]
            ),
        )
        assert runs.nodes("nightly")["layer1_05"]["handledRetry"] == "once-more"

    def _ask_for_node(self, runs: Runs, token: str) -> None:
        runs.ask("dbtmodel", "nightly.layer1-05", token)
        runs.cluster.until(
            "the retry of the node is handled", lambda: runs.nodes("nightly")["layer1_05"].get("handledRetry") == token
        )

    def test_a_run_is_taken_up_again_after_what_was_wrong_is_corrected(self, runs: Runs) -> None:
        runs.postgres.use_password("a-wrong-one")
        runs.start(
            "wrong",
            *("layer1_05", "layer1_13", "layer2_10"),
            image=WITHOUT_THE_PROJECT,
            settings={"fail_times": {"layer1_13": 1}},
            retry=NO_RETRIES,
        )
        assert runs.end("wrong")["reason"] == "ProjectNotFound"
        runs.set("wrong", image=CHAOS_IMAGE)
        assert self._asked_for_all(runs, "the-image")["reason"] == "ConnectionFailed"
        runs.postgres.use_password(runs.postgres.password)
        status = self._asked_for_all(runs, "the-secret")
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert runs.phases("wrong") == {"layer1_05": "Succeeded", "layer1_13": "Failed", "layer2_10": "Skipped"}
        status = self._asked_for_all(runs, "the-node")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        attempts = [attempt["name"] for attempt in status["attempts"]]
        # The first one has not even said what it selects; the second one has.
        assert attempts == ["wrong-producer-1", "wrong-producer-2", "wrong-resume-1", "wrong-resume-2"]
        reasons = [attempt.get("reason") for attempt in status["attempts"]]
        assert reasons[:3] == ["ProjectNotFound", "ConnectionFailed", "NodesFailed"]
        images = [runs.image(name) for name in attempts]
        assert images == [WITHOUT_THE_PROJECT, CHAOS_IMAGE, CHAOS_IMAGE, CHAOS_IMAGE]
        assert runs.postgres.tries() == {"layer1_05": 1, "layer1_13": 2, "layer2_10": 1}
        assert runs.postgres.executions() == {"layer1_05": 1, "layer1_13": 1, "layer2_10": 1}

    def _asked_for_all(self, runs: Runs, token: str) -> dict[str, Any]:
        """Ask for a retry of the run and wait for its next end; returns its status."""
        before = len(runs.attempts("wrong"))
        runs.ask("dbtrun", "wrong", token)
        runs.cluster.until("another attempt", lambda: len(runs.attempts("wrong")) > before)
        status = runs.end("wrong")
        assert status["handledRetry"] == token
        return status
