"""Tests in a stage of their own, after everything else was built; no tests at all; and what is told of tests."""

import base64
import gzip
import io
import json
import tarfile
from collections import Counter
from contextlib import ExitStack
from typing import Any

from tests.conftest import CHECKOUT
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, Cluster
from tests.e2e.repair import QUICK, Runs, runs, shared

__all__ = ["runs", "shared"]  # fixtures: pytest finds them in the module that uses them

NODES = ("layer1_01", "layer1_05", "layer1_13", "layer1_14", "layer2_13")


class TestAfterAll:
    """They share a warehouse, and so are a class."""

    def test_what_is_built_is_tested_at_last_by_one_attempt_and_by_another_one_what_that_has_lost(
        self, runs: Runs
    ) -> None:
        settings = {"fail_times": {"layer1_05": 1}, "null_times": {"layer1_01": 9}}
        with ExitStack() as locks:
            with runs.postgres.locked("seed_1"):  # which keeps layer1_14, and so the producer, at work
                runs.start("after", *NODES, settings=settings, tests="AfterAll", retry=QUICK)
                # The first of these holds the null that its test finds, the second one has failed once.
                runs.wait_for_phase("after", "Succeeded", "layer1_01", "layer1_05", "layer1_13")
                locks.enter_context(runs.postgres.locked("layer1_13"))  # which its test waits for
                assert runs.status("after")["tests"] == runs.status("after")["tests"] | {"total": 4, "pending": 4}
            runs.cluster.until("all tests but one have ended", lambda: self._only_one_left(runs))
            status = runs.status("after")
            assert (status["phase"], status["retries"]) == ("Running", 1)
            assert runs.phases("after") == dict.fromkeys(NODES, "Succeeded") | {"layer1_01": "Failed"}
            runs.cluster.kubectl("delete", "pod", runs.pod("after-tests-1"), "-n", runs.cluster.namespace)
        status = runs.end("after")
        assert (status["phase"], status["reason"]) == ("Failed", "TestsFailed"), status["message"]
        assert status["message"].startswith("1 of 4 tests failed: not_null_layer1_01_id (Got 1 result")
        attempts = [(one["kind"], one["stage"], one["state"], one.get("nodes")) for one in status["attempts"]]
        assert attempts == [
            ("Producer", "Build", "Failed", None),
            ("Retry", "Build", "Succeeded", 1),
            ("Producer", "Test", "Lost", 4),
            ("Resume", "Test", "Succeeded", 1),
        ]
        assert [one["name"] for one in status["attempts"]][2:] == ["after-tests-1", "after-resume-1"]
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

    def test_where_there_are_to_be_no_tests_none_is_executed(self, runs: Runs) -> None:
        runs.start("untested", "layer1_01", "layer1_05", settings={"null_times": {"layer1_01": 9}}, tests="None")
        status = runs.end("untested")
        assert (status["phase"], status["message"]) == ("Succeeded", "2 nodes succeeded.")
        assert status["tests"]["total"] == 0
        assert not any("tests" in node for node in runs.nodes("untested").values())
        assert "stage" not in status["attempts"][0]


def archive_of(project: str) -> str:
    """One of the tests' own projects as a ConfigMap has it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(CHECKOUT / "tests" / "projects" / project, arcname=project)
    return base64.b64encode(buffer.getvalue()).decode()


def test_what_tests_have_found_is_told_with_its_threshold_and_can_be_looked_at(
    cluster: Cluster, volume: dict[str, Any]
) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tested"}}
    cluster.apply(config_map | {"binaryData": {"tested.tgz": archive_of("tested")}})
    given: dict[str, Any] = {
        "image": JAFFLE_SHOP_IMAGE,
        "project": {"archive": {"configMapRef": {"name": "tested", "key": "tested.tgz"}, "path": "tested"}},
        "podTemplate": volume,
    }
    cluster.create_run("tested", tests="AfterAll", storeFailures=True, **given)
    status = cluster.wait_for_end("tested")
    assert (status["phase"], status["reason"]) == ("Failed", "TestsFailed"), status["message"]
    shown = {name: model["status"] for name, model in cluster.models().items()}
    specs = {test["name"]: test for model in cluster.models().values() for test in model["spec"].get("tests", ())}
    # Two rows are more than one threshold of the one test, and fewer than the same threshold of the other one.
    orders, report = shown["orders"], shown["report"]
    failing = {test["name"]: test for test in orders["tests"]["failing"]}
    assert failing["at_most_one_null"]["message"] == "Got 2 results, configured to fail if > 1"
    assert failing["at_most_one_null"]["failures"] == 2
    assert (report["phase"], report["reason"], report["tests"]["summary"]) == ("Succeeded", "Warned", "1/3")
    warning = {test["name"]: test["message"] for test in report["tests"]["warning"]}
    assert warning == {
        "at_most_five_nulls": "Got 1 result, configured to warn if > 0",
        "one_order_each": "Got 1 result, configured to warn if != 0",
    }
    thresholds = {name: (specs[name].get("warnIf"), specs[name].get("errorIf")) for name in (*failing, *warning)}
    assert thresholds["at_most_one_null"] == ("> 0", "> 1")
    assert (thresholds["at_most_five_nulls"], thresholds["one_order_each"]) == (("> 0", "> 5"), (None, None))
    # A test of two nodes: one that reads both is counted on both, one that is attached to one on that.
    assert {test["name"] for test in shown["customers"]["tests"]["failing"]} == {"agree"}
    assert failing.keys() == {"at_most_one_null", "known_customer", "agree"}
    assert specs["known_customer"]["dependsOn"] == ["model.tested.customers"]
    log = cluster.kubectl("logs", "-n", cluster.namespace, "job/tested-tests-1", "-c", "dbt").splitlines()
    began = Counter(
        each["data"]["node_info"]["node_name"]
        for each in map(json.loads, log)
        if each["info"]["name"] == "LogStartLine"
    )
    assert began == dict.fromkeys((*failing, *warning, "counts"), 1)
    assert (status["tests"]["total"], status["tests"]["failed"], status["tests"]["warned"]) == (6, 3, 2)
    # What a person copies from there.
    relation = failing["at_most_one_null"]["relation"]
    assert relation in {failure.get("relation") for failure in status["failures"]}
    query = f"select count(*) as kept from {relation}"  # noqa: S608 - a relation of our own
    cluster.create_run("look", command="show", args=["--inline", query, "--output=json"], **given)
    assert cluster.wait_for_end("look")["phase"] == "Succeeded"
    kept = cluster.api.get("configmaps", "look-output", namespace=cluster.namespace)["binaryData"]["output.txt.gz"]
    assert '"kept": 2' in gzip.decompress(base64.b64decode(kept)).decode()
