"""Nodes that fail are executed again by themselves, and what they had blocked after them; nothing else is."""

from contextlib import ExitStack

from tests.e2e.repair import QUICK, Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them


class TestRetries:
    """They share a warehouse, and so are a class."""

    def test_a_node_is_mended_while_dbt_goes_on_and_what_it_blocked_gets_pods_of_its_own(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # which keeps layer1_14, and so the producer, at work
            runs.start(
                "mended",
                *("layer1_13", "layer1_14", "layer2_04", "layer2_10"),
                settings={"null_times": {"layer1_13": 1}},
                # With vars of its own the run cannot use what dbt has parsed when the image was built.
                vars={"own": 1},
                retry={**QUICK, "reasons": ["TestsFailed"], "downstream": "PerNode"},
            )
            runs.wait_for_phase("mended", "Succeeded", "layer1_13", "layer2_04", "layer2_10")
            assert runs.phases("mended")["layer1_14"] == "Running"
            states = {each["name"]: each["state"] for each in runs.attempts("mended")}
            assert states["mended-producer-1"] == "Running"
        status = runs.end("mended")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        kinds = [(attempt["kind"], attempt["state"], attempt.get("nodes")) for attempt in status["attempts"]]
        # dbt calls an attempt in which a test has failed a failure; the retry has the node's test with it.
        resumes = [("Resume", "Succeeded", 1)] * 2
        assert kinds == [("Producer", "Failed", None), ("Retry", "Succeeded", 2), *resumes]
        assert status["retries"] == 3
        assert runs.columns("mended")["RETRIES"] == "3"
        nodes = runs.nodes("mended")
        node = nodes["layer1_13"]
        assert (node["phase"], node["reason"], node["tests"]["summary"]) == ("Succeeded", "Success", "1/1")
        first, second = node["attempts"]
        assert (first["kind"], first["job"], first["phase"]) == ("Producer", "mended-producer-1", "Failed")
        assert (second["kind"], second["job"], second["phase"]) == (
            "Retry",
            status["attempts"][1]["name"],
            "Succeeded",
        )
        assert {name for name, each in nodes.items() if each["tries"] != 1} == {"layer1_13"}
        executions = runs.postgres.executions()
        assert executions == {"layer1_13": 2, "layer1_14": 1, "layer2_04": 1, "layer2_10": 1}
        # The project was loaded once: the later attempts have the first one's parse cache.
        assert "UnableToPartialParse" in runs.messages("mended-producer-1")
        for attempt in status["attempts"][1:]:
            said = runs.messages(attempt["name"])
            assert "UnableToPartialParse" not in said
            assert "RunFinished" in said

    def test_with_a_pod_for_each_node_only_that_of_one_is_lost_and_what_is_held_back_has_none(self, runs: Runs) -> None:
        chosen = ("layer1_13", "layer1_14", "layer2_10")
        with runs.postgres.locked("seed_1"):  # which keeps layer1_14 at work
            runs.start(
                "apart",
                *chosen,
                settings={"fail_times": {"layer1_13": 9}},
                mode="PerNode",
                perNode={"parallelism": 2},
                nodes=[
                    {"select": [{"name": "layer1_14"}], "podTemplate": {"metadata": {"labels": {"pod": "of-its-own"}}}}
                ],
                retry={**QUICK, "limit": 0},
                vars={"own": 2},
            )
            runs.wait_for_phase("apart", "Failed", "layer1_13")
            runs.wait_for_phase("apart", "Running", "layer1_14")
            labelled = runs.cluster.kubectl(
                "get", "pods", "-n", runs.cluster.namespace, "-l", "pod=of-its-own", "-o", "name"
            )
            (pod,) = labelled.split()
            runs.cluster.kubectl("delete", pod, "-n", runs.cluster.namespace)
        status = runs.end("apart")
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert status["nodes"] | {"total": 3, "succeeded": 1, "failed": 1, "skipped": 1} == status["nodes"]
        attempts = [(one["kind"], one["stage"], one["state"], one.get("nodes")) for one in status["attempts"]]
        assert attempts[0] == ("Producer", "List", "Succeeded", None)
        assert sorted(attempts[1:3]) == [("Node", "Execute", "Failed", 2), ("Node", "Execute", "Lost", 1)]
        assert attempts[3:] == [("Resume", "Execute", "Succeeded", 1)]
        assert status["retries"] == 1
        child = runs.nodes("apart")["layer2_10"]
        assert (child["phase"], child["reason"], child["blockedBy"]) == (
            "Skipped",
            "UpstreamFailed",
            "model.chaos.layer1_13",
        )
        assert runs.postgres.executions() == {"layer1_14": 1}
        for attempt in status["attempts"][1:]:
            if attempt["state"] != "Lost":  # whose log is gone with its pod
                assert "UnableToPartialParse" not in runs.messages(attempt["name"])

    def test_nodes_that_differ_have_pods_retries_and_deadlines_of_their_own_and_share_pods_where_many_fail(
        self, runs: Runs
    ) -> None:
        large = {"metadata": {"labels": {"size": "large"}}}
        small = {"metadata": {"labels": {"size": "small", "kind": "retry"}}}
        with runs.postgres.locked("seed_5"):  # layer1_11 reads it, and would wait for ever
            runs.start(
                "many",
                *("layer1_05", "layer1_11", "layer1_13", "layer1_14", "layer2_01", "layer2_10", "layer2_11"),
                settings={"fail_times": {"layer1_13": 9, "layer1_14": 1}},
                producer={"podTemplate": {"metadata": {"labels": {"size": "medium"}}}},
                # Both have failed when the producer has ended, and so both wait for a retry.
                retry={**QUICK, "limit": 0, "together": 1, "concurrencyPolicy": "Forbid", "podTemplate": small},
                nodes=[
                    {"select": [{"name": "layer1_1?"}], "retry": {"limit": 1}, "podTemplate": large},
                    {"select": [{"name": "*_11"}], "activeDeadlineSeconds": 3},
                ],
            )
            status = runs.end("many")
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        attempts = [(attempt["name"], attempt["kind"]) for attempt in status["attempts"]]
        assert attempts == [
            ("many-producer-1", "Producer"),
            ("many-retry-nodes-1", "Retry"),
            ("many-resume-1", "Resume"),
        ]
        # Without vars dbt uses what it has parsed when the image was built.
        assert "UnableToPartialParse" not in runs.messages("many-producer-1")
        self._check_failures(runs)
        self._check_pods(runs)

    def _check_failures(self, runs: Runs) -> None:
        nodes = runs.nodes("many")
        failed = nodes["layer1_13"]
        assert (failed["phase"], failed["reason"], failed["tries"]) == ("Failed", "Error", 2)
        assert "layer1_13 fails the first 9 times" in failed["message"]
        mended, last = nodes["layer1_14"]["attempts"]
        assert "layer1_14 fails the first 1 times" in mended["message"]
        assert "message" not in last  # what the last one said is the node's own message
        # The default of reasons has no deadlines in it.
        late = nodes["layer1_11"]
        assert (late["phase"], late["reason"], late["tries"]) == ("Failed", "DeadlineExceeded", 1)
        assert late["message"].startswith("It took longer than its deadline of 3 s, and was cancelled.\nDatabase Error")
        assert not [query for query in runs.postgres.active_queries() if "layer1_11" in query]
        skipped = {
            name: (node["reason"], node["blockedBy"]) for name, node in nodes.items() if node["phase"] == "Skipped"
        }
        assert skipped == {
            "layer2_10": ("UpstreamFailed", "model.chaos.layer1_13"),
            "layer2_11": ("UpstreamFailed", "model.chaos.layer1_11"),
        }
        status = runs.status("many")
        failures = {failure["uniqueId"] for failure in status["failures"]}
        assert failures == {"model.chaos.layer1_11", "model.chaos.layer1_13"}
        assert "layer1_13 fails the first 9 times" in status["message"]
        green = {name: 1 for name, node in nodes.items() if node["phase"] == "Succeeded"}
        assert green.keys() == {"layer1_05", "layer1_14", "layer2_01"}
        assert runs.postgres.executions() == green
        assert runs.postgres.tries() == {**green, "layer1_11": 1, "layer1_13": 2, "layer1_14": 2}

    def _check_pods(self, runs: Runs) -> None:
        producer, retry, resume = runs.attempts("many")
        assert producer["completionTime"] <= retry["startTime"]
        assert retry["completionTime"] <= resume["startTime"]
        labels = [runs.labels(attempt["name"]) for attempt in (producer, retry, resume)]
        assert [each["size"] for each in labels] == ["medium", "large", "medium"]
        assert labels[1]["kind"] == "retry"

    def test_a_warehouse_that_is_lost_after_the_last_node_fails_no_run(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):
            runs.start("late", "layer1_14", exclude=["resource_type:test"])
            runs.wait_for_phase("late", "Running", "layer1_14")
            closed = ExitStack()
            closed.enter_context(runs.postgres.closed())
        with closed:  # the node comes to its end, and then dbt connects once more
            status = runs.end("late")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        assert status["message"] == "1 node succeeded. The warehouse was lost after that."
        (attempt,) = status["attempts"]
        assert (attempt["state"], attempt["reason"], attempt["exitCode"]) == ("Failed", "ConnectionFailed", 2)
        assert runs.postgres.executions()["layer1_14"] == 1
