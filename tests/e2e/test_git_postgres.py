"""The example git-postgres: project from git, packages from a hub, dbt from an index, connection from a Secret."""

from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CHECKOUT
from tests.e2e.conftest import Cluster
from tests.e2e.git_server import CA, HTTPS, TOKEN, GitServer, git_server
from tests.e2e.hub import VERSION, hub
from tests.e2e.postgres import Postgres, postgres
from tests.e2e.wheelhouse import ALL, wheelhouse

__all__ = ["git_server", "hub", "postgres", "wheelhouse"]  # fixtures: pytest finds them in the module that uses them

EXAMPLE = CHECKOUT / "examples" / "git-postgres"
PROJECT = CHECKOUT / "examples" / "postgres" / "project"
PACKAGES = {"packages": [{"package": "acme/greetings", "version": VERSION}]}
GREETING = "select {{ greetings.greetings() }} as greeting"
NAP = """
{{ config(materialized="table") }}
select pg_sleep({{ 600 if env_var("DBT_OPERATOR_ATTEMPT_KIND") == "producer" else 0 }}) is null as slept
"""


def _project() -> dict[str, str]:
    """The files of the bike rental, with a package, a model that calls it, and one that does not end the first time."""
    files = {str(path.relative_to(PROJECT)): path.read_text() for path in PROJECT.rglob("*") if path.is_file()}
    return files | {"packages.yml": yaml.safe_dump(PACKAGES), "models/greeting.sql": GREETING, "models/nap.sql": NAP}


def _run(hub: str) -> dict[str, Any]:
    """The run of the example, with the servers of the test in place of those of its reader."""
    run: dict[str, Any] = yaml.safe_load(Path(EXAMPLE / "run.yaml").read_text())
    spec = run["spec"]
    spec["project"]["git"] |= {
        "url": f"{HTTPS}/private/shop.git",
        "secretRef": {"name": TOKEN},
        "caConfigMapRef": {"name": CA},
    }
    spec["environment"]["virtualenv"]["options"] = [f"--index-url={ALL}", "--trusted-host=wheelhouse"]
    env = [{"name": "DBT_PACKAGE_HUB_URL", "value": hub}]
    spec["podTemplate"] = {"spec": {"containers": [{"name": "dbt", "env": env}]}}
    return run


def test_another_pod_goes_on_with_the_same_commit_packages_and_dbt(
    cluster: Cluster, postgres: Postgres, git_server: GitServer, wheelhouse: Cluster, hub: str
) -> None:
    del wheelhouse
    for file in ("secrets.yaml", "connection.yaml"):
        for manifest in yaml.safe_load_all((EXAMPLE / file).read_text()):
            cluster.apply(manifest)
    git_server.shell("git rm -r --quiet .")
    commit = git_server.push(_project())
    cluster.apply(_run(hub))
    cluster.until(
        "all but one have been built",
        lambda: (
            (nodes := cluster.run("bike-rental").get("status", {}).get("nodes", {}))
            and (nodes["running"], nodes["succeeded"]) == (1, nodes["total"] - 1)
        ),
    )
    git_server.push({"dbt_project.yml": "no: [project"})
    (producer,) = cluster.objects("pods", labels="dbt-operator.io/attempt-kind=producer")
    cluster.kubectl("delete", "pod", producer["metadata"]["name"], "-n", cluster.namespace, "--wait=false")
    status = cluster.wait_for_end("bike-rental")
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == ["Producer", "Resume"]
    assert status["project"]["commit"] == commit
    assert (status["dbt"]["adapter"], status["dbt"]["version"][:4]) == ("postgres", "1.11")
    asked = cluster.kubectl("logs", "-n", cluster.namespace, "pod/hub")
    assert asked.count("GET /greetings.tar.gz") == 1, asked
    assert postgres.sql("select greeting from analytics.greeting") == [("hello from the hub",)]
