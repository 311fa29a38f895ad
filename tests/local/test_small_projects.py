"""Small projects that are easily understood wrongly: each run ends as it is written beside its files."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local.desk import Desk

HERE = Path(__file__).parent
CASES: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "small_projects.yaml").read_text(encoding="utf-8"))
PROJECT = {"name": "small", "version": "1.0", "profile": "small", "flags": {}}
PROFILE = {"type": "duckdb", "path": "{{ env_var('DATABASE') }}", "threads": 4}


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_it_has_to(name: str, warm_python: Path, operator: Path, tmp_path: Path) -> None:
    case, project = CASES[name], tmp_path / "project"
    own = yaml.safe_load(case["files"].get("dbt_project.yml", "{}"))
    flags = {"send_anonymous_usage_stats": False, **own.pop("flags", {})}
    profiles = {"small": {"target": "dev", "outputs": {"dev": PROFILE}}}
    files = case["files"] | {"dbt_project.yml": PROJECT | own | {"flags": flags}, "profiles.yml": profiles}
    for path, content in files.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (project / path).write_text(text, encoding="utf-8")
    desk = Desk(tmp_path, warm_python, python=operator)
    status = desk.run("own", project, **case["spec"])
    assert {field: status[field] for field in case["run"]} == case["run"], status["message"]
    assert [attempt["kind"] for attempt in status["attempts"]] == case["attempts"]
    shown = desk.phases("own")
    assert shown.keys() == case["phases"].keys()
    for node, phases in case["phases"].items():
        assert shown[node] in (phases if isinstance(phases, list) else [phases]), node
    blame = {node: model["status"].get("blockedBy") for node, model in desk.models("own").items()}
    assert {node: cause for node, cause in blame.items() if cause} == case["blockedBy"]
