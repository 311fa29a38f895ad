"""The example git-postgres: project from git, packages from a hub, dbt from an index, connection from a Secret."""

from pathlib import Path
from typing import Any

import yaml

from tests.conftest import CHECKOUT
from tests.gitserver.serve import PASSWORD
from tests.local.desk import Desk
from tests.local.test_packages import hub, of_hub
from tests.local.test_sources import NEWER, Sources, sources
from tests.packages import Hub
from tests.unit.runner.postgres_server import query

__all__ = ["hub", "sources"]  # fixtures: pytest finds them in the module that uses them

EXAMPLE = CHECKOUT / "examples" / "git-postgres"
PROJECT = CHECKOUT / "examples" / "postgres" / "project"
PACKAGES = {"packages": [{"package": "acme/greetings", "version": "1.0.0"}]}


def _project() -> dict[str, str]:
    """The files of the bike rental, with a package, and a model that calls it."""
    files = {str(path.relative_to(PROJECT)): path.read_text() for path in PROJECT.rglob("*") if path.is_file()}
    greeting = "select {{ greetings.greetings() }} as greeting"
    return files | {"packages.yml": yaml.safe_dump(PACKAGES), "models/greeting.sql": greeting}


def _documents(sources: Sources, hub: Hub, server: dict[str, str]) -> list[dict[str, Any]]:
    """Those of the example, with the servers of the test in place of those of its reader."""
    run = yaml.safe_load((EXAMPLE / "run.yaml").read_text())
    spec = run["spec"]
    spec["project"]["git"] |= {"url": sources.url, "caConfigMapRef": {"name": "ca"}}
    spec["environment"]["virtualenv"]["options"] = [f"--index-url={sources.index.url}"]
    secrets = list(yaml.safe_load_all((EXAMPLE / "secrets.yaml").read_text()))
    secrets[0]["stringData"]["token"] = PASSWORD
    connection = yaml.safe_load((EXAMPLE / "connection.yaml").read_text())
    connection["spec"]["fields"] |= {"host": server["PGHOST"], "port": int(server["PGPORT"])}
    return [*secrets, sources.authority, connection, run | {"spec": spec | of_hub(hub.url)}]


def test_the_example_runs_as_it_is_written_down(
    server: dict[str, str], tmp_path: Path, dbt_python: str, operator: Path, sources: Sources, hub: Hub
) -> None:
    commit = sources.repository.commit(_project())
    sources.release(NEWER)
    sources.index.add("dbt-postgres", NEWER)
    desk = Desk(tmp_path, Path(dbt_python), server, python=operator)
    desk.do("run", "-f", desk.write(*_documents(sources, hub, server)))
    status = desk.status("bike-rental")
    assert (status["phase"], status["reason"]) == ("Succeeded", "AllSucceeded"), status["message"]
    assert status["project"]["commit"] == commit
    assert (status["dbt"]["adapter"], status["dbt"]["version"]) == ("postgres", NEWER)
    assert query("select greeting from analytics.greeting", server) == ["hello from the hub"]
