"""The manifests for other tools fit the schemas of these, and know every phase that there is."""

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the package has no types
import pytest
import yaml

from dbt_operator.api.phases import NodePhase, RunPhase
from tests.embedding import examples

SCHEMAS: dict[str, Any] = yaml.safe_load(examples.SCHEMAS.read_text())
FILES = ("argo-workflows/workflow.yaml", "tekton/task.yaml", "flux/kustomization.yaml")
FOREIGN = [(f"{one['apiVersion']} {one['kind']}", one) for name in FILES for one in examples.manifests(name)]
LUA = examples.of_kind("argo-cd/health.yaml", "ConfigMap")["data"]


@pytest.mark.parametrize(("kind", "manifest"), [each for each in FOREIGN if each[0] in SCHEMAS])
def test_a_manifest_fits_the_schema_of_its_tool(kind: str, manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest["spec"], SCHEMAS[kind])


def test_each_schema_is_used() -> None:
    assert {kind for kind, _ in FOREIGN} >= SCHEMAS.keys()


@pytest.mark.parametrize(("kind", "phases"), [("DbtRun", RunPhase), ("DbtModel", NodePhase)])
def test_argo_cd_knows_the_health_of_each_phase(kind: str, phases: type[RunPhase] | type[NodePhase]) -> None:
    known = re.findall(r"([A-Z]\w+) = \"\w+\"", LUA[f"resource.customizations.health.dbt-operator.io_{kind}"])
    assert set(known) == {phase.value for phase in phases if phase.known}


def test_the_conditions_of_the_workflow_hold_for_each_end() -> None:
    words = {word for each in examples.conditions().values() for word in re.findall(r"\b[A-Z]\w+", each)}
    assert words == {phase.value for phase in RunPhase if phase.terminal}
