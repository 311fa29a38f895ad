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
    """With a warehouse of the module."""

    def test_a_run_is_taken_up_again_after_what_was_wrong_is_corrected_and_then_a_node_with_what_it_had_blocked(
        self, runs: Runs
    ) -> None:
        runs.postgres.use_password("a-wrong-one")
        runs.start(
            "wrong",
            *("layer1_05", "layer1_13", "layer2_04", "layer2_10"),
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
        assert runs.phases("wrong") == {
            "layer1_05": "Succeeded",
            "layer1_13": "Failed",
            "layer2_04": "Skipped",
            "layer2_10": "Skipped",
        }
        runs.ask("dbtmodel", "wrong.layer1-13", "please")
        runs.wait_for_condition("wrong", "Complete")
        self._check_what_was_done(runs)
        self._check_that_what_is_green_is_left_alone(runs)

    def _check_what_was_done(self, runs: Runs) -> None:
        status, nodes = runs.status("wrong"), runs.nodes("wrong")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert [condition(status, kind) for kind in ("Succeeded", "Failed", "Stalled")] == ["True", None, None]
        attempts = [(attempt["kind"], attempt.get("nodes"), attempt.get("reason")) for attempt in status["attempts"]]
        # The first one has not even said what it selects; the second one has.
        assert attempts[:2] == [("Producer", None, "ProjectNotFound"), ("Producer", None, "ConnectionFailed")]
        # With the tests of the first layer; then the node with its test, and what it had blocked.
        assert [(kind, nodes) for kind, nodes, _ in attempts[2:]] == [("Resume", 6), ("Retry", 2), ("Resume", 2)]
        assert attempts[2][2] == "NodesFailed"
        names = [attempt["name"] for attempt in status["attempts"]]
        assert [runs.image(name) for name in names] == [WITHOUT_THE_PROJECT, *[CHAOS_IMAGE] * 4]
        assert nodes["layer1_13"]["handledRetry"] == "please"
        assert {name: node["tries"] for name, node in nodes.items() if node["tries"] > 1} == {"layer1_13": 2}
        assert runs.postgres.tries() == {name: node["tries"] for name, node in nodes.items()}
        assert runs.postgres.executions() == dict.fromkeys(nodes, 1)

    def _check_that_what_is_green_is_left_alone(self, runs: Runs) -> None:
        before = runs.status("wrong")
        self._ask_for_node(runs, "again")
        runs.ask("dbtrun", "wrong", "all")
        runs.cluster.until("the retry of the run is handled", lambda: runs.status("wrong").get("handledRetry") == "all")
        self._ask_for_node(runs, "once-more")
        runs.cluster.until("both are told of", lambda: len(set(_nothing_to_retry(runs, "wrong"))) == 2)
        assert any("layer1_05" in message for message in _nothing_to_retry(runs, "wrong"))
        assert runs.nodes("wrong")["layer1_05"]["handledRetry"] == "once-more"
        assert runs.nodes("wrong")["layer1_13"]["handledRetry"] == "please"
        assert runs.status("wrong") == {**before, "handledRetry": "all"}
        assert len(runs.jobs("wrong")) == len(before["attempts"])
        assert runs.postgres.executions()["layer1_05"] == 1
        runs.set("wrong", cancel=True)
        runs.ask("dbtmodel", "wrong.layer1-05", "while-cancelled")
        runs.cluster.until(
            "whoever has asked is told of the wait",
            lambda: (
                ("RetryWaits", "wrong.layer1-05")
                in [(event["reason"], event["involvedObject"]["name"]) for event in runs.cluster.events()]
            ),
        )
        assert runs.nodes("wrong")["layer1_05"]["handledRetry"] == "once-more"

    def _ask_for_node(self, runs: Runs, token: str) -> None:
        runs.ask("dbtmodel", "wrong.layer1-05", token)
        runs.cluster.until(
            "the retry of the node is handled", lambda: runs.nodes("wrong")["layer1_05"].get("handledRetry") == token
        )

    def _asked_for_all(self, runs: Runs, token: str) -> dict[str, Any]:
        """Ask for a retry of the run and wait for its next end; returns its status."""
        before = len(runs.attempts("wrong"))
        runs.ask("dbtrun", "wrong", token)
        runs.cluster.until("another attempt", lambda: len(runs.attempts("wrong")) > before)
        status = runs.end("wrong")
        assert status["handledRetry"] == token
        return status
