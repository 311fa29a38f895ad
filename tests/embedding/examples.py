"""Reads the examples."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / "examples" / "embedding"
SCHEMAS = Path(__file__).parent / "schemas.yaml"
_HEREDOC = re.compile(r"<<MANIFEST\n(.*?)^MANIFEST$", re.MULTILINE | re.DOTALL)


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects in a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    """The one object of a kind in a file."""
    (found,) = [one for one in manifests(name) if one["kind"] == kind]
    return found


def runs() -> Iterator[tuple[str, dict[str, Any]]]:
    """The DbtRuns that the examples create, by where they stand."""
    yield "cronjob", yaml.safe_load(of_kind("cronjob.yaml", "ConfigMap")["data"]["run.yaml"])
    yield "argo-workflows", yaml.safe_load(_resource()["manifest"])
    script = of_kind("tekton/task.yaml", "Task")["spec"]["steps"][0]["script"]
    heredoc = _HEREDOC.search(script)
    assert heredoc is not None
    yield "tekton", yaml.safe_load(heredoc[1])
    yield "argo-cd", of_kind("argo-cd/hook.yaml", "DbtRun")


def conditions() -> dict[str, str]:
    """Those of the Argo Workflow."""
    return {one: _resource()[one] for one in ("successCondition", "failureCondition")}


def dbt_runs() -> ModuleType:
    """The module of the Airflow example that needs no Airflow."""
    spec = importlib.util.spec_from_file_location("dbt_runs", FOLDER / "airflow" / "dbt_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _resource() -> dict[str, Any]:
    (template,) = of_kind("argo-workflows/workflow.yaml", "Workflow")["spec"]["templates"]
    resource: dict[str, Any] = template["resource"]
    return resource


def text_of(manifest: dict[str, Any]) -> str:
    """A manifest as kubectl reads it."""
    return yaml.safe_dump(manifest)
