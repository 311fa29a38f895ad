"""The example slim-ci on Postgres: what a pull request builds and reads, and that the newest commit counts."""

from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.archives import config_map, packed
from tests.conftest import CHECKOUT
from tests.e2e.alike import assert_alike, of_profiles, warehouse
from tests.e2e.conftest import Cluster, phases
from tests.e2e.postgres import Postgres, postgres

__all__ = ["postgres"]  # a fixture: pytest finds it in the module that uses it

EXAMPLES = CHECKOUT / "examples"
EXAMPLE = EXAMPLES / "slim-ci"
IMAGE = "localhost/dbt-operator/postgres-example:dev"
STATIONS = "models/marts/stations.sql"
SLOW = "\ncross join (select pg_sleep(600) is null) as nap"


def _project(**changed: str) -> dict[str, str]:
    """The files of the bike rental and of the example, with texts added at the end of some."""
    project = EXAMPLES / "postgres" / "project"
    files = {str(path.relative_to(project)): path.read_text() for path in project.rglob("*") if path.is_file()}
    files |= {f"macros/{path.name}": path.read_text() for path in (EXAMPLE / "macros").iterdir()}
    return files | {name: files[name] + more for name, more in changed.items()}


def _create(cluster: Cluster, file: str, *, name: str = "", project: str = "main", number: int = 17) -> str:
    """Create a run of the example, with the project from an archive, and dbt from an image; returns its name."""
    text = (EXAMPLE / file).read_text().replace('"17"', f'"{number}"').replace("pr_17", f"pr_{number}")
    run: dict[str, Any] = yaml.safe_load(text)
    run["metadata"]["name"] = name or run["metadata"]["name"]
    del run["spec"]["environment"]
    archive = {"configMapRef": {"name": project, "key": "project.tgz"}}
    run["spec"] |= {"image": IMAGE, "project": {"archive": archive}}
    cluster.apply(run)
    return str(run["metadata"]["name"])


def _built(cluster: Cluster, run: str) -> dict[str, str]:
    """The phases of the nodes that the run builds. A selected test may be about another one too."""
    found = cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={run}")
    return phases({item["spec"]["name"]: item for item in found if item["spec"].get("selected", True)})


def _schemas(postgres: Postgres) -> set[str]:
    found = postgres.sql("select nspname from pg_namespace where nspname ~ '^(analytics|pr_)'")
    return {schema for (schema,) in found}


def test_a_pull_request_builds_what_it_changes_and_the_newest_commit_only(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    for file in ("secrets.yaml", "connection.yaml"):
        for manifest in yaml.safe_load_all((EXAMPLES / "git-postgres" / file).read_text()):
            cluster.apply(manifest)
    commits = {
        "main": _project(),
        "first": _project(**{STATIONS: SLOW}),
        "second": _project(**{STATIONS: "\n-- sorted"}),
    }
    for commit, files in commits.items():
        cluster.apply(config_map(commit, {"project.tgz": packed(files)}))
    status = cluster.wait_for_end(_create(cluster, "production.yaml"))
    assert status["phase"] == "Succeeded", status["message"]
    production = _schemas(postgres)

    first = _create(cluster, "pull-request.yaml", name="pr-17-first", project="first")
    cluster.until("its query", lambda: any("pg_sleep" in query for query in postgres.active_queries()))
    second = _create(cluster, "pull-request.yaml", name="pr-17-second", project="second")
    other = _create(cluster, "pull-request.yaml", name="pr-18-first", number=18)
    old, new = cluster.wait_for_end(first), cluster.wait_for_end(second)
    assert (old["phase"], old["reason"]) == ("Cancelled", "Superseded"), old["message"]
    assert old["message"].startswith(f"DbtRun {second} supersedes the run.")
    assert _built(cluster, first) == {"stations": "Cancelled", "stations_to_refill": "Cancelled"}
    assert (new["phase"], new["reason"]) == ("Succeeded", "AllSucceeded"), new["message"]
    assert new["state"] == {"run": "production-2026-11-28"}
    assert datetime.fromisoformat(new["startTime"]) >= datetime.fromisoformat(old["completionTime"])
    assert _built(cluster, second) == {"stations": "Succeeded", "stations_to_refill": "Succeeded"}
    assert postgres.active_queries() == []
    counts = [postgres.sql(f"select count(*) from {schema}.stations") for schema in ("analytics_marts", "pr_17_marts")]  # noqa: S608 - names of our own
    assert counts[0] == counts[1]

    # Another pull request, which changes nothing, was not disturbed.
    status = cluster.wait_for_end(other)
    assert (status["phase"], status["reason"], _built(cluster, other)) == ("Succeeded", "NothingToDo", {})
    clean_up = _create(cluster, "clean-up.yaml")
    status = cluster.wait_for_end(clean_up)
    assert status["phase"] == "Succeeded", status["message"]
    assert _schemas(postgres) == production
    with warehouse() as environ:
        names = ("production-2026-11-28", second, other, clean_up)
        assert_alike(cluster, *names, folder=tmp_path, elsewhere=of_profiles(environ))
