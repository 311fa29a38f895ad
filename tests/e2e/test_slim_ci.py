"""The example slim-ci on Postgres: what a pull request builds and reads, and that the newest commit counts."""

from datetime import datetime
from pathlib import Path

import yaml

from tests.archives import config_map, packed
from tests.e2e.alike import assert_alike, of_profiles, warehouse
from tests.e2e.conftest import Cluster, phases
from tests.e2e.postgres import Postgres, postgres
from tests.slim_ci import EXAMPLES, STATIONS, slim_ci_project, slim_ci_run

__all__ = ["postgres"]  # a fixture: pytest finds it in the module that uses it

IMAGE = "localhost/dbt-operator/postgres-example:dev"
SLOW = "\ncross join (select pg_sleep(600) is null) as nap"


def _create(cluster: Cluster, file: str, *, name: str = "", project: str = "main") -> str:
    """Create a run of the example, with dbt from an image; returns its name."""
    run = slim_ci_run(file, name=name, project=project)
    run["spec"]["image"] = IMAGE
    cluster.apply(run)
    return str(run["metadata"]["name"])


def _built(cluster: Cluster, run: str) -> dict[str, str]:
    """The phases of the nodes that the run builds. A selected test may be about another one too."""
    found = cluster.objects("dbtmodels", labels=f"dbt-operator.io/run={run}")
    return phases({item["spec"]["name"]: item for item in found if item["spec"].get("selected", True)})


def test_a_pull_request_builds_what_it_changes_and_the_newest_commit_only(
    cluster: Cluster, postgres: Postgres, tmp_path: Path
) -> None:
    for file in ("secrets.yaml", "connection.yaml"):
        for manifest in yaml.safe_load_all((EXAMPLES / "git-postgres" / file).read_text()):
            cluster.apply(manifest)
    commits = {
        "main": slim_ci_project(),
        "first": slim_ci_project(**{STATIONS: SLOW}),
        "second": slim_ci_project(**{STATIONS: "\n-- sorted"}),
    }
    for commit, files in commits.items():
        cluster.apply(config_map(commit, {"project.tgz": packed(files)}))
    status = cluster.wait_for_end(_create(cluster, "production.yaml"))
    assert status["phase"] == "Succeeded", status["message"]

    first = _create(cluster, "pull-request.yaml", name="pr-17-first", project="first")
    cluster.until("its query", lambda: any("pg_sleep" in query for query in postgres.active_queries()))
    second = _create(cluster, "pull-request.yaml", name="pr-17-second", project="second")
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
    with warehouse() as environ:
        names = ("production-2026-11-28", second)
        assert_alike(cluster, *names, folder=tmp_path, elsewhere=of_profiles(environ))
