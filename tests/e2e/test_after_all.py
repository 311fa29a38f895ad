"""Tests in a stage of their own, after everything else was built."""

import base64
import gzip
import json
from collections import Counter
from contextlib import ExitStack

from tests.e2e.repair import Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

NODES = ("layer1_01", "layer1_05", "layer1_13", "layer1_14", "layer2_13")


class TestAfterAll:
    """They share a warehouse, and so are a class."""

    def test_what_is_built_is_tested_at_last_by_one_attempt_and_by_another_one_what_that_has_lost(
        self, runs: Runs
    ) -> None:
        settings = {"null_times": {"layer1_01": 9}}
        with ExitStack() as locks:
            with runs.postgres.locked("seed_1"):  # which keeps layer1_14, and so the producer, at work
                runs.start("after", *NODES, settings=settings, tests="AfterAll")
                # The first of these holds the null that its test finds.
                runs.wait_for_phase("after", "Succeeded", "layer1_01", "layer1_05", "layer1_13")
                locks.enter_context(runs.postgres.locked("layer1_13"))  # which its test waits for
                assert runs.status("after")["tests"] == runs.status("after")["tests"] | {"total": 4, "pending": 4}
            runs.cluster.until("all tests but one have ended", lambda: self._only_one_left(runs))
            status = runs.status("after")
            assert (status["phase"], status["retries"]) == ("Running", 0)
            assert runs.phases("after") == dict.fromkeys(NODES, "Succeeded") | {"layer1_01": "Failed"}
            runs.cluster.kubectl("delete", "pod", runs.pod("after-tests-1"), "-n", runs.cluster.namespace)
        status = runs.end("after")
        assert (status["phase"], status["reason"]) == ("Failed", "TestsFailed"), status["message"]
        assert status["message"].startswith("1 of 4 tests failed: not_null_layer1_01_id (Got 1 result")
        attempts = [(one["kind"], one["stage"], one["state"], one.get("nodes")) for one in status["attempts"]]
        assert attempts == [
            ("Producer", "Build", "Succeeded", None),
            ("Producer", "Test", "Lost", 4),
            ("Resume", "Test", "Succeeded", 1),
        ]
        assert [one["name"] for one in status["attempts"]][1:] == ["after-tests-1", "after-resume-1"]
        assert {name: count for name, count in runs.postgres.executions().items() if name in NODES} == dict.fromkeys(
            NODES, 1
        )
        nodes = runs.nodes("after")
        assert (nodes["layer1_01"]["reason"], nodes["layer2_13"]["reason"]) == ("TestsFailed", "Success")
        assert nodes["layer1_01"]["tests"]["failing"][0]["job"] == "after-tests-1"
        assert self._results(runs, "after") == {"success": len(NODES), "pass": 3, "fail": 1}

    def _only_one_left(self, runs: Runs) -> bool:
        tests = runs.status("after")["tests"]
        return (tests["running"], tests["pending"]) == (1, 0)

    def _results(self, runs: Runs, name: str) -> Counter[str]:
        """How many of the nodes and tests have which status in the run's run_results.json."""
        objects = runs.cluster.objects("configmaps")
        (found,) = (each for each in objects if each["metadata"]["name"] == f"{name}-artifacts")
        text = gzip.decompress(base64.b64decode(found["binaryData"]["run_results.json.gz"]))
        results = json.loads(text)["results"]
        return Counter(each["status"] for each in results if not each["unique_id"].startswith("operation."))
