"""Runs whose subject is dbt and not Kubernetes: what is retried, and a project that prints what looks like events.

They end as on a cluster: tests/e2e/test_local.py compares that.
"""

import json
import shutil
from pathlib import Path

from tests.local.desk import PROJECTS, Desk, manifest

BACKOFF = {"duration": "1s", "factor": 1}
OF_KIND = """select {{{{ 1 if env_var('DBT_OPERATOR_ATTEMPT_KIND') == '{kind}' else "error('not now')" }}}} as id"""


def test_run_builds_models_and_no_tests_and_a_model_that_fails_is_retried(shop: Desk) -> None:
    status = shop.run("run", "commands", command="run", retry={"backoff": BACKOFF})
    assert (status["phase"], status["message"]) == ("Succeeded", "3 nodes succeeded.")
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry", "Resume"]
    assert [attempt.get("nodes") for attempt in status["attempts"]] == [None, 1, 1]
    assert status["tests"]["total"] == 0
    assert {name: model["status"]["tries"] for name, model in shop.models("run").items()} == {
        "orders": 1,
        "flaky": 2,
        "report": 1,
    }
    assert shop.phases("run") == dict.fromkeys(("orders", "flaky", "report"), "Succeeded")


def test_test_says_what_the_tests_say_and_a_test_that_fails_is_retried_alone(shop: Desk) -> None:
    status = shop.run("models", "commands", command="run", select=["orders"])
    assert (status["phase"], status["message"]) == ("Succeeded", "1 node succeeded.")
    retry = {"backoff": BACKOFF, "reasons": ["TestsFailed"]}
    status = shop.run("tests", "commands", command="test", select=["orders"], retry=retry)
    assert (status["phase"], status["message"]) == ("Succeeded", "2 tests succeeded.")
    kinds = [(attempt["kind"], attempt.get("nodes")) for attempt in status["attempts"]]
    assert kinds == [("Producer", None), ("Retry", 1)]
    (orders,) = shop.models("tests").values()
    assert orders["spec"]["selected"] is False
    # Nothing of it says that it was built.
    assert orders["status"]["phase"] == "Succeeded"
    assert not {"tries", "startedAt", "finishedAt", "executionSeconds"} & orders["status"].keys()
    assert (orders["status"]["tests"]["total"], orders["status"]["tests"]["passed"]) == (2, 2)
    status = shop.run("again", "commands", command="test", select=["orders"], retry=retry)
    assert (status["phase"], len(status["attempts"])) == ("Succeeded", 1), status["message"]


def test_a_project_with_two_packages_and_macros_that_they_share_runs_as_it_is(shop: Desk, tmp_path: Path) -> None:
    project = shutil.copytree(PROJECTS / "shared-macros", tmp_path / "shared-macros")
    status = shop.run("shared", project)
    assert (status["phase"], status["message"]) == ("Succeeded", "3 nodes and 3 tests succeeded.")
    shown = shop.models("shared")
    packages = {name: one["spec"]["package"] for name, one in shown.items()}
    assert packages == {"payments": "staging", "stg_payments": "staging", "revenue": "shop"}
    assert [shown[name]["status"]["tests"]["passed"] for name in ("stg_payments", "revenue")] == [1, 2]
    assert shown["stg_payments"]["spec"]["relation"].endswith('"staged"."stg_payments"')


def test_what_a_model_prints_is_no_event_and_the_log_is_lines_of_json_of_bounded_length(shop: Desk) -> None:
    status = shop.run("forged", "print-forger", retry={"limit": 0})
    assert status["phase"] == "Failed"
    assert shop.phases("forged") == {"forger": "Succeeded", "victim": "Failed", "witness": "Skipped"}
    assert not any("FORGED" in json.dumps(model["status"]) for model in shop.models("forged").values())
    lines = shop.do("logs", "forged", "-o", "json").splitlines()
    assert all(len(line.encode()) < 8 * 1024 for line in lines)
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["info"]["name"] == "RunnerStarted"
    assert events[-1]["info"]["name"] == "RunFinished"


def test_a_retry_waits_for_the_process_that_has_the_file_and_finds_what_it_has_built(shop: Desk) -> None:
    status = shop.run("recovered", "recovering", retry={"backoff": BACKOFF})
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Retry", "Resume"]
    producer, retried, resumed = status["attempts"]
    assert producer["completionTime"] <= retried["startTime"]
    assert retried["completionTime"] <= resumed["startTime"]
    assert shop.phases("recovered") == dict.fromkeys(("flaky", "below", "slow"), "Succeeded")
    models = {name: model["status"] for name, model in shop.models("recovered").items()}
    assert {name: model["tries"] for name, model in models.items()} == {"flaky": 2, "below": 1, "slow": 1}
    first, second = models["flaky"]["attempts"]
    assert "flaky fails the first time" in first["message"]
    assert second["phase"] == "Succeeded"


def test_what_the_project_says_of_its_nodes_counts_where_the_run_is_silent(quick: Desk) -> None:
    quick.model("first", "select sleep_ms(600000) as id")
    # Which kind of attempt it is the project sees, too.
    quick.model("second", OF_KIND.format(kind="retry"))
    quick.model("third", OF_KIND.format(kind="resume") + " from {{ ref('second') }}")
    said = {"first": {"timeout": "2s"}, "second": {"retry": {"limit": 1}}, "third": {"timeout": "soon"}}
    models = [{"name": name, "meta": {"dbt_operator": settings}} for name, settings in said.items()]
    (quick.folder / "project" / "models" / "schema.yml").write_text(json.dumps({"models": models}))
    quick.write(manifest(retry={"limit": 0, "backoff": BACKOFF}))
    quick.do("run", "-f", "run.yaml", code=1)
    nodes = {name: model["status"] for name, model in quick.models().items()}
    assert (nodes["first"]["reason"], nodes["first"]["tries"]) == ("DeadlineExceeded", 1)
    assert (nodes["second"]["phase"], nodes["second"]["tries"]) == ("Succeeded", 2)
    assert (nodes["third"]["phase"], nodes["third"]["tries"]) == ("Succeeded", 1)
    told = "meta.dbt_operator of model.small.third is not honoured where it is wrong: timeout has to be a duration"
    assert told in quick.status()["message"]
