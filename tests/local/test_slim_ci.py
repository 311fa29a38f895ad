"""The example slim-ci without a cluster: what a pull request builds, and what is left of it when it is closed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.archives import config_map, packed
from tests.local.desk import Desk
from tests.slim_ci import EXAMPLES, STATIONS, slim_ci_project, slim_ci_run
from tests.unit.runner.postgres_server import query

SCHEMAS = "select nspname from pg_namespace where nspname ~ '^(analytics|pr_)' order by 1"


@pytest.fixture
def desk(server: dict[str, str], tmp_path: Path, warm_python: Path, operator: Path) -> Desk:
    """A folder to work in, and a Postgres."""
    return Desk(tmp_path, warm_python, server, python=operator)


def _given(desk: Desk) -> list[dict[str, Any]]:
    """What a namespace has beside the runs."""
    found: list[dict[str, Any]] = []
    for file in ("secrets.yaml", "connection.yaml"):
        text = (
            (EXAMPLES / "git-postgres" / file).read_text().replace("host: warehouse", f"host: {desk.environ['PGHOST']}")
        )
        found += yaml.safe_load_all(text.replace("port: 5432", f"port: {desk.environ['PGPORT']}"))
    commits = {"main": slim_ci_project(), "second": slim_ci_project(**{STATIONS: "\n-- sorted"})}
    return [*found, *(config_map(name, {"project.tgz": packed(files)}) for name, files in commits.items())]


def test_a_pull_request_that_changes_nothing_builds_nothing_and_one_that_is_closed_leaves_nothing(desk: Desk) -> None:
    given = _given(desk)

    def end(run: dict[str, Any]) -> tuple[str, str]:
        desk.do("run", "-f", desk.write(*given, run))
        status = desk.status(run["metadata"]["name"])
        return status["phase"], status["reason"]

    green = ("Succeeded", "AllSucceeded")
    assert end(slim_ci_run("production.yaml")) == green
    production = query(SCHEMAS, desk.environ)
    assert "analytics_marts" in production
    assert end(slim_ci_run("pull-request.yaml", name="pr-18", number=18)) == ("Succeeded", "NothingToDo")
    assert desk.models("pr-18") == {}
    assert query(SCHEMAS, desk.environ) == production
    assert end(slim_ci_run("pull-request.yaml", name="pr-17", project="second")) == green
    # A selected test is about another model too, which is not built.
    built = {
        name: one["status"]["phase"] for name, one in desk.models("pr-17").items() if one["spec"].get("selected", True)
    }
    assert built == {"stations": "Succeeded", "stations_to_refill": "Succeeded"}
    own = {*query(SCHEMAS, desk.environ)} - {*production}
    assert own
    assert all(schema.startswith("pr_17") for schema in own)
    assert end(slim_ci_run("clean-up.yaml"))[0] == "Succeeded"
    assert query(SCHEMAS, desk.environ) == production
