"""What is told of tests: which threshold was passed, on which nodes it counts, and where the rows are."""

import json
from collections import Counter

from tests.local.desk import Desk


def test_what_tests_have_found_is_told_with_its_threshold_and_can_be_looked_at(shop: Desk) -> None:
    status = shop.run("tested", "tested", tests="AfterAll", storeFailures=True, retry={"limit": 0})
    assert (status["phase"], status["reason"]) == ("Failed", "TestsFailed"), status["message"]
    models = shop.models("tested")
    shown = {name: model["status"] for name, model in models.items()}
    specs = {test["name"]: test for model in models.values() for test in model["spec"].get("tests", ())}
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
    log = shop.log("tested", "tests-1").splitlines()
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
    status = shop.run("look", "tested", command="show", args=["--inline", query, "--output=json"])
    assert status["phase"] == "Succeeded", status["message"]
    assert '"kept": 2' in shop.kept("look-output", "output.txt.gz")


def test_where_there_are_to_be_no_tests_none_is_executed(shop: Desk) -> None:
    status = shop.run("untested", "tested", tests="None")
    assert (status["phase"], status["message"]) == ("Succeeded", "3 nodes succeeded.")
    assert status["tests"]["total"] == 0
    assert not any("tests" in model["status"] for model in shop.models("untested").values())
    assert "stage" not in status["attempts"][0]
