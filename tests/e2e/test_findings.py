"""What is told of tests: which threshold was passed, on which nodes it counts, and where the rows are."""

import base64
import gzip
import io
import json
import tarfile
from collections import Counter
from typing import Any

from tests.conftest import CHECKOUT
from tests.e2e.conftest import JAFFLE_SHOP_IMAGE, Cluster


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
