"""What CI systems are told, and how long a run will take."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

from dbt_operator.api.status import DbtRunStatus
from dbt_operator.local.estimate import Earlier, seconds_left
from dbt_operator.local.picture import Node, Picture, Run
from dbt_operator.local.report import Ended, Finding, findings, github, gitlab, junit

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def result(unique_id: str, status: str, message: str = "") -> dict[str, Any]:
    return {"unique_id": unique_id, "status": status, "message": message, "execution_time": 0.5}


def ended(
    *results: dict[str, Any], phase: str = "Failed", models: tuple[dict[str, Any], ...] = (), project: str | None = None
) -> Ended:
    status = DbtRunStatus.parse({"phase": phase, "reason": "NodesFailed", "message": "It says why."})
    assert status is not None
    return Ended(name="nightly", status=status, models=models, results=results, project=project)


def suite(run: Ended) -> ET.Element:
    [found] = ET.fromstring(junit([run]))  # noqa: S314 - our own
    return found


def test_each_node_and_each_test_is_a_case() -> None:
    found = suite(
        ended(
            result("model.shop.orders", "success"),
            result("model.shop.sales", "error", "Database Error\n no \x00 column"),
            result("model.shop.margin", "skipped"),
            result("test.shop.not_null_orders_id.cf6c17daed", "fail", "Got 2 results"),
            result("test.shop.unique_orders_id.0123456789", "warn", "Got 1 result"),
        )
    )
    assert dict(found.items()) == {
        "name": "nightly",
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "2.500",
    }
    names = [(case.get("classname"), case.get("name"), [each.tag for each in case]) for case in found]
    assert names == [
        ("nightly.shop.model", "orders", []),
        ("nightly.shop.model", "sales", ["error"]),
        ("nightly.shop.model", "margin", ["skipped"]),
        ("nightly.shop.test", "not_null_orders_id", ["failure"]),
        ("nightly.shop.test", "unique_orders_id", []),
    ]
    assert found[1][0].get("message") == "Database Error"
    assert found[1][0].text == "Database Error\n no \ufffd column"


def test_a_run_that_has_failed_by_itself_is_a_case() -> None:
    [case] = suite(ended())
    assert (case.get("name"), case[0].tag, case[0].text) == ("run", "error", "It says why.")
    assert len(suite(ended(result("model.shop.a", "success"), phase="Succeeded"))) == 1


def model(name: str, phase: str, **status: object) -> dict[str, Any]:
    spec = {"name": name, "uniqueId": f"model.shop.{name}", "resourceType": "model", "path": f"models/{name}.sql"}
    return {"spec": spec, "status": {"phase": phase, **status}}


def test_what_has_failed_or_warned_is_found_at_its_file() -> None:
    tests = {"failing": [{"name": "unique_id", "message": "Got 1 result"}]}
    models = (
        model("good", "Succeeded"),
        model("warned", "Succeeded", tests=tests),
        model("tested", "Failed", message="1 test failed", tests=tests),
        model("broken", "Failed", message="no column"),
        model("below", "Skipped"),
    )
    found = list(findings(ended(models=models, project="/home/ana/shop"), folder="/home/ana"))
    assert found == [
        Finding(False, "Test unique_id of warned", "Got 1 result", "shop/models/warned.sql"),
        Finding(True, "Test unique_id of tested", "Got 1 result", "shop/models/tested.sql"),
        Finding(True, "Model broken failed", "no column", "shop/models/broken.sql"),
    ]
    assert list(findings(ended(), folder="/")) == [Finding(True, "Run nightly failed", "It says why.", "")]


def test_a_line_of_github_has_its_own_signs_escaped() -> None:
    line = github(Finding(True, "a, b: c", "50%\nof it", "x,y.sql"))
    assert line == "::error file=x%2Cy.sql,title=a%2C b%3A c::50%25%0Aof it"
    assert github(Finding(False, "a", "b", "")) == "::warning title=a::b"


def test_a_finding_of_gitlab_is_the_same_as_long_as_it_is_there() -> None:
    one, later = (json.loads(gitlab([Finding(True, "a", message, "x.sql")]))[0] for message in ("1", "2"))
    assert one["fingerprint"] == later["fingerprint"]
    assert one["location"] == {"path": "x.sql", "lines": {"begin": 1}}


def picture(**phases: str) -> Picture:
    nodes = {
        name: Node(unique_id=name, name=name, resource_type="model", phase=phase, started=NOW - timedelta(seconds=5))
        for name, phase in phases.items()
    }
    return Picture(run=Run(name="r", uid="u"), nodes=nodes)


def test_the_time_that_is_left_goes_with_the_work_that_is_left() -> None:
    earlier = Earlier(seconds=20.0, nodes={"a": 10.0, "b": 20.0, "c": 10.0})  # two at a time
    assert seconds_left(picture(a="Pending", b="Pending", c="Pending"), earlier, now=NOW) == 20
    assert seconds_left(picture(a="Succeeded", b="Running", c="Pending"), earlier, now=NOW) == 12.5
    assert seconds_left(picture(a="Succeeded", b="Succeeded", c="Failed"), earlier, now=NOW) == 0


def test_of_a_run_with_other_nodes_nothing_is_said() -> None:
    earlier = Earlier(seconds=20.0, nodes={"a": 10.0})
    assert seconds_left(picture(a="Pending", x="Pending", y="Pending"), earlier, now=NOW) is None
    assert seconds_left(picture(a="Pending", x="Pending"), earlier, now=NOW) == 40
    assert seconds_left(picture(a="Pending"), None, now=NOW) is None


def test_a_run_tells_how_long_it_took_only_where_it_was_whole() -> None:
    models = [model("a", "Succeeded", executionSeconds=3.0, startedAt="2026-11-28T11:59:50Z")]
    status = {"phase": "Succeeded", "completionTime": "2026-11-28T12:00:00Z", "attempts": [{}]}
    assert Earlier.of({"status": status}, models) == Earlier(10.0, {"model.shop.a": 3.0})
    assert Earlier.of({"status": {**status, "attempts": [{}, {}]}}, models) is None
    assert Earlier.of({"status": {**status, "phase": "Failed"}}, models) is None
