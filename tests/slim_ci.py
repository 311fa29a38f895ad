"""The example slim-ci with the project from an archive."""

from typing import Any

import yaml

from tests.conftest import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
STATIONS = "models/marts/stations.sql"


def slim_ci_project(**changed: str) -> dict[str, str]:
    """The files of the bike rental and of the example, with texts added at the end of some."""
    project = EXAMPLES / "postgres" / "project"
    files = {str(path.relative_to(project)): path.read_text() for path in project.rglob("*") if path.is_file()}
    files |= {f"macros/{path.name}": path.read_text() for path in (EXAMPLES / "slim-ci" / "macros").iterdir()}
    return files | {name: files[name] + more for name, more in changed.items()}


def slim_ci_run(file: str, *, name: str = "", project: str = "main", number: int = 17) -> dict[str, Any]:
    """A run of the example, with the project from this ConfigMap, for the pull request of this number."""
    text = (EXAMPLES / "slim-ci" / file).read_text().replace('"17"', f'"{number}"').replace("pr_17", f"pr_{number}")
    run: dict[str, Any] = yaml.safe_load(text)
    run["metadata"]["name"] = name or run["metadata"]["name"]
    del run["spec"]["environment"]
    run["spec"]["project"] = {"archive": {"configMapRef": {"name": project, "key": "project.tgz"}}}
    return run
