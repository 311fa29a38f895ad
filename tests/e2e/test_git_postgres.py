"""The example git-postgres with dbt from an image: project from git, packages from a hub, connection from a Secret."""

import base64
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CHECKOUT
from tests.e2e.conftest import Cluster
from tests.e2e.git_server import CA, HTTPS, TOKEN, GitServer, everything, git_server
from tests.e2e.hub import VERSION, hub
from tests.e2e.postgres import Postgres, postgres
from tests.gitserver.serve import PASSWORD

__all__ = ["git_server", "hub", "postgres"]  # fixtures: pytest finds them in the module that uses them

EXAMPLE = CHECKOUT / "examples" / "git-postgres"
IMAGE = "localhost/dbt-operator/postgres-example:dev"
NAP = """
{{ config(materialized="table") }}
select pg_sleep({{ 600 if env_var("DBT_OPERATOR_ATTEMPT_KIND") == "producer" else 0 }}) is null as slept
"""
PROJECT = {
    "dbt_project.yml": "{name: bike_rental, version: '1.0', profile: bike_rental, config-version: 2}",
    "packages.yml": yaml.safe_dump({"packages": [{"package": "acme/greetings", "version": VERSION}]}),
    "models/greeting.sql": "select {{ greetings.greetings() }} as greeting",
    "models/nap.sql": NAP,
}
"""A model that calls a package, and one that does not end the first time."""


def _run(hub: str) -> dict[str, Any]:
    """The run of the example, with the servers of the test in place of those of its reader."""
    run: dict[str, Any] = yaml.safe_load(Path(EXAMPLE / "run.yaml").read_text())
    spec = run["spec"]
    spec["project"]["git"] |= {
        "url": f"{HTTPS}/private/shop.git",
        "secretRef": {"name": TOKEN},
        "caConfigMapRef": {"name": CA},
    }
    del spec["environment"]  # see test_environment.py
    env = [{"name": "DBT_PACKAGE_HUB_URL", "value": hub}]
    return run | {
        "spec": spec | {"image": IMAGE, "podTemplate": {"spec": {"containers": [{"name": "dbt", "env": env}]}}}
    }


def test_another_pod_goes_on_with_the_same_commit_and_packages(
    cluster: Cluster, postgres: Postgres, git_server: GitServer, hub: str
) -> None:
    for file in ("secrets.yaml", "connection.yaml"):
        for manifest in yaml.safe_load_all((EXAMPLE / file).read_text()):
            cluster.apply(manifest)
    git_server.shell("git rm -r --quiet .")
    commit = git_server.push(PROJECT)
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
    assert status["dbt"]["adapter"] == "postgres"
    asked = cluster.kubectl("logs", "-n", cluster.namespace, "pod/hub")
    assert asked.count("GET /greetings.tar.gz") == 1, asked
    assert postgres.sql("select greeting from analytics.greeting") == [("hello from the hub",)]
    public = everything(cluster)
    assert PASSWORD not in public
    assert base64.b64encode(PASSWORD.encode()).decode() not in public
