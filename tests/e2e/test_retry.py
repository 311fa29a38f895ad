"""Nodes that fail are executed again by themselves, and what they had blocked after them; nothing else is."""

import base64
from contextlib import ExitStack

from tests.e2e.repair import QUICK, TOLD, Runs, runs, shared
from tests.packages import tarball

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

SAID = {
    "dbt_project.yml": "{name: said, version: '1.0', profile: warehouse, models: {said: {+materialized: table}}}",
    "models/late.sql": "select pg_sleep(600)::text as id",
    "models/again.sql": "select 1 / 0 as id",
    "models/wrong.sql": "select 1 as id",
    "models/schema.yml": """
models:
  - {name: late, meta: {dbt_operator: {timeout: 2s}}}
  - name: again
    config: {meta: {dbt_operator: {retry: {limit: 1}, resources: {requests: {memory: 64Mi}}}}}
  - {name: wrong, meta: {dbt_operator: {timeout: soon}}}
""",
}


class TestRetries:
    """They share a warehouse, and so are a class."""

    def test_a_node_is_mended_while_dbt_goes_on_unless_that_is_forbidden(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # which keeps layer1_14 and layer1_06, and so both producers, at work
            mended = ("layer1_05", "layer1_13", "layer1_14", "layer2_04", "layer2_10")
            # With vars of its own the run cannot use what dbt has parsed when the image was built.
            runs.start("mended", *mended, settings={"fail_times": {"layer1_13": 1}}, vars={"own": 1}, retry=QUICK)
            forbidden = {**QUICK, "concurrencyPolicy": "Forbid"}
            runs.start("one", "layer1_06", "layer1_11", settings={"fail_times": {"layer1_11": 1}}, retry=forbidden)
            runs.wait_for_phase("mended", "Succeeded", "layer1_13", "layer2_04", "layer2_10")
            assert runs.phases("mended")["layer1_14"] == "Running"
            assert ("mended-producer-1", "Running") in [
                (each["name"], each["state"]) for each in runs.attempts("mended")
            ]
            # Two attempts of the other run have come and gone since this node has failed there.
            runs.wait_for_phase("one", "Failed", "layer1_11")
            assert runs.jobs("one") == ["one-producer-1"]
        self._check_mended(runs)
        self._check_one_after_the_other(runs)

    def _check_mended(self, runs: Runs) -> None:
        status = runs.end("mended")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        kinds = [(attempt["kind"], attempt["state"], attempt.get("nodes")) for attempt in status["attempts"]]
        # dbt calls an attempt in which a node has failed a failure; the retry has the node's test with it.
        assert kinds == [("Producer", "Failed", None), ("Retry", "Succeeded", 2), ("Resume", "Succeeded", 2)]
        assert status["retries"] == 2
        assert runs.columns("mended")["RETRIES"] == "2"
        retry = status["attempts"][1]["name"]
        nodes = runs.nodes("mended")
        first, second = nodes["layer1_13"]["attempts"]
        assert (first["kind"], first["job"], first["phase"]) == ("Producer", "mended-producer-1", "Failed")
        assert "layer1_13 fails the first 1 times" in first["message"]
        assert (second["kind"], second["job"], second["phase"]) == ("Retry", retry, "Succeeded")
        assert "message" not in second  # what the last one said is the node's own message
        assert {name for name, node in nodes.items() if node["tries"] != 1} == {"layer1_13"}
        assert nodes["layer1_13"]["tests"]["summary"] == "1/1"
        assert runs.postgres.tries()["layer1_13"] == 2
        executions = runs.postgres.executions()
        assert {name: executions[name] for name in nodes} == dict.fromkeys(nodes, 1)
        # The project was loaded once: the later attempts have the first one's parse cache.
        assert "UnableToPartialParse" in runs.messages("mended-producer-1")
        for attempt in status["attempts"][1:]:
            said = runs.messages(attempt["name"])
            assert "UnableToPartialParse" not in said
            assert "RunFinished" in said

    def _check_one_after_the_other(self, runs: Runs) -> None:
        status = runs.end("one")
        assert status["phase"] == "Succeeded", status["message"]
        assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry"]
        # Without vars dbt uses what it has parsed when the image was built.
        assert "UnableToPartialParse" not in runs.messages("one-producer-1")
        producer, retry = status["attempts"]
        assert producer["completionTime"] <= retry["startTime"]
        assert runs.postgres.tries()["layer1_11"] == 2
        assert runs.postgres.executions()["layer1_11"] == 1

    def test_a_model_whose_test_fails_is_built_again_and_what_it_blocked_gets_pods_of_its_own(self, runs: Runs) -> None:
        runs.start(
            "tested",
            *("layer1_05", "layer1_13", "layer2_04", "layer2_10"),
            settings={"null_times": {"layer1_13": 1}},
            retry={**QUICK, "reasons": ["TestsFailed"], "downstream": "PerNode"},
            profile={"secretRef": {"name": TOLD}},
        )
        status = runs.end("tested")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        kinds = [(attempt["kind"], attempt.get("nodes")) for attempt in status["attempts"]]
        assert kinds == [("Producer", None), ("Retry", 2), ("Resume", 1), ("Resume", 1)]
        node = runs.nodes("tested")["layer1_13"]
        assert (node["phase"], node["reason"], node["tests"]["summary"]) == ("Succeeded", "Success", "1/1")
        assert [attempt["kind"] for attempt in node["attempts"]] == ["Producer", "Retry"]
        executions = runs.postgres.executions()
        assert executions == {"layer1_05": 1, "layer1_13": 2, "layer2_04": 1, "layer2_10": 1}
        # As the project has seen it in DBT_OPERATOR_ATTEMPT_KIND.
        assert set(runs.postgres.sql("select node, kind from analytics.tries")) == {
            ("layer1_05", "producer"),
            ("layer1_13", "producer"),
            ("layer1_13", "retry"),
            ("layer2_04", "resume"),
            ("layer2_10", "resume"),
        }

    def test_with_a_pod_for_each_node_only_that_of_one_is_lost_and_what_is_held_back_has_none(self, runs: Runs) -> None:
        chosen = ("layer1_05", "layer1_13", "layer1_14", "layer2_10")
        with runs.postgres.locked("seed_1"):  # which keeps layer1_14 at work
            runs.start(
                "apart",
                *chosen,
                settings={"fail_times": {"layer1_13": 9}},
                mode="PerNode",
                perNode={"parallelism": 3},
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
        assert status["nodes"] | {"total": 4, "succeeded": 2, "failed": 1, "skipped": 1} == status["nodes"]
        attempts = [(one["kind"], one["stage"], one["state"], one.get("nodes")) for one in status["attempts"]]
        assert attempts[0] == ("Producer", "List", "Succeeded", None)
        assert sorted(attempts[1:4]) == [
            ("Node", "Execute", "Failed", 2),
            ("Node", "Execute", "Lost", 1),
            ("Node", "Execute", "Succeeded", 2),
        ]
        assert attempts[4:] == [("Resume", "Execute", "Succeeded", 1)]
        assert status["retries"] == 1
        child = runs.nodes("apart")["layer2_10"]
        assert (child["phase"], child["reason"], child["blockedBy"]) == (
            "Skipped",
            "UpstreamFailed",
            "model.chaos.layer1_13",
        )
        assert runs.postgres.executions() == {"layer1_05": 1, "layer1_14": 1}
        for attempt in status["attempts"][1:]:
            if attempt["state"] != "Lost":  # whose log is gone with its pod
                assert "UnableToPartialParse" not in runs.messages(attempt["name"])

    def test_many_failures_share_a_pod_and_what_fails_too_often_stays_failed(self, runs: Runs) -> None:
        runs.start(
            "many",
            *("layer1_05", "layer1_13", "layer1_14", "layer2_01", "layer2_10"),
            settings={"fail_times": {"layer1_13": 9, "layer1_14": 1}},
            # Both have failed when the producer has ended, and so both wait for a retry.
            retry={**QUICK, "limit": 1, "together": 1, "concurrencyPolicy": "Forbid"},
        )
        status = runs.end("many")
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert "layer1_13 fails the first 9 times" in status["message"]
        attempts = [(attempt["name"], attempt["kind"]) for attempt in status["attempts"]]
        assert attempts == [
            ("many-producer-1", "Producer"),
            ("many-retry-nodes-1", "Retry"),
            ("many-resume-1", "Resume"),
        ]
        assert [failure["uniqueId"] for failure in status["failures"]] == ["model.chaos.layer1_13"]
        nodes = runs.nodes("many")
        failed, child = nodes["layer1_13"], nodes["layer2_10"]
        assert (failed["phase"], failed["reason"], failed["tries"]) == ("Failed", "Error", 2)
        assert "layer1_13 fails the first 9 times" in failed["message"]
        assert (child["phase"], child["reason"]) == ("Skipped", "UpstreamFailed")
        assert child["blockedBy"] == "model.chaos.layer1_13"
        assert runs.postgres.tries() == {"layer1_05": 1, "layer1_13": 2, "layer1_14": 2, "layer2_01": 1}
        assert runs.postgres.executions() == {"layer1_05": 1, "layer1_14": 1, "layer2_01": 1}
        assert {name for name, phase in runs.phases("many").items() if phase == "Succeeded"} == {
            "layer1_05",
            "layer1_14",
            "layer2_01",
        }

    def test_nor_has_that_to_wait_until_dbt_has_skipped_what_is_below(self, runs: Runs) -> None:
        with runs.postgres.locked("seed_1"):  # which keeps layer1_14 at work, for which layer2_13 waits as well
            nodes = ("layer1_01", "layer1_14", "layer2_13")
            retry = {**QUICK, "reasons": ["TestsFailed"]}
            runs.start("waiting", *nodes, settings={"null_times": {"layer1_01": 1}}, retry=retry)
            runs.cluster.until("it is built again", lambda: runs.postgres.tries()["layer1_01"] == 2)
            assert runs.phases("waiting")["layer1_14"] == "Running"
        status = runs.end("waiting")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
        kinds = [(attempt["kind"], attempt.get("nodes")) for attempt in status["attempts"]]
        assert kinds == [("Producer", None), ("Retry", 2), ("Resume", 2)]
        assert runs.postgres.executions() == {"layer1_01": 2, "layer1_14": 1, "layer2_13": 1}

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

    def test_nodes_that_differ_have_pods_retries_and_deadlines_of_their_own(self, runs: Runs) -> None:
        large = {"metadata": {"labels": {"size": "large"}}}
        with runs.postgres.locked("seed_1"):  # layer1_14 reads it, and would wait for ever
            runs.start(
                "differing",
                *("layer1_05", "layer1_13", "layer1_14", "layer2_04", "layer2_10", "layer2_13"),
                settings={"fail_times": {"layer1_13": 1}},
                producer={"podTemplate": {"metadata": {"labels": {"size": "medium"}}}},
                retry={
                    **QUICK,
                    "limit": 0,
                    "podTemplate": {"metadata": {"labels": {"size": "small", "kind": "retry"}}},
                },
                nodes=[
                    {"select": [{"name": "layer1_1?"}], "retry": {"limit": 1}, "podTemplate": large},
                    {"select": [{"name": "*_14"}], "activeDeadlineSeconds": 3},
                ],
            )
            status = runs.end("differing")
        nodes = runs.nodes("differing")
        # The default of reasons has no deadlines in it.
        late, below = nodes["layer1_14"], nodes["layer2_13"]
        assert (late["phase"], late["reason"], late["tries"]) == ("Failed", "DeadlineExceeded", 1)
        assert late["message"].startswith("It took longer than its deadline of 3 s, and was cancelled.\nDatabase Error")
        assert (below["phase"], below["blockedBy"]) == ("Skipped", "model.chaos.layer1_14")
        assert {name for name, node in nodes.items() if node["phase"] != "Succeeded"} == {"layer1_14", "layer2_13"}
        assert (status["phase"], status["reason"]) == ("Failed", "NodesFailed"), status["message"]
        assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry", "Resume"]
        assert not [query for query in runs.postgres.active_queries() if "layer1_14" in query]
        producer, retry, resume = (runs.labels(attempt["name"]) for attempt in status["attempts"])
        assert (producer["size"], resume["size"]) == ("medium", "medium")
        assert (retry["size"], retry["kind"]) == ("large", "retry")

    def test_what_the_project_says_of_its_nodes_counts_where_the_run_is_silent(self, runs: Runs) -> None:
        archive = base64.b64encode(tarball("said", SAID)).decode()
        meta = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "said"}}
        runs.cluster.apply({**meta, "binaryData": {"said.tgz": archive}})
        source = {"archive": {"configMapRef": {"name": "said", "key": "said.tgz"}, "path": "said-1.0"}}
        runs.start("said", project=source, retry={**QUICK, "limit": 0})
        status = runs.end("said")
        nodes = runs.nodes("said")
        assert (nodes["late"]["reason"], nodes["late"]["tries"]) == ("DeadlineExceeded", 1)
        assert (nodes["again"]["reason"], nodes["again"]["tries"]) == ("Error", 2)
        assert nodes["wrong"]["phase"] == "Succeeded"
        producer, retry = (attempt["name"] for attempt in status["attempts"])
        assert runs.resources(retry) == {"requests": {"memory": "64Mi"}}
        assert runs.resources(producer) == {}
        told = "meta.dbt_operator of model.said.wrong is not honoured where it is wrong: timeout has to be a duration"
        assert told in status["message"]
        assert [event for event in runs.cluster.events() if event["reason"] == "SettingIgnored"]
