"""What the project says of its nodes in meta.dbt_operator: understood as Kubernetes and the operator do, or told."""

from collections.abc import Callable
from typing import Any

import pytest

from dbt_operator.api.spec import NodeRetry, RetryReason
from dbt_operator.dbt.parsing import graph_node
from dbt_operator.runner.node_settings import REASONS, settings_of
from tests.unit.runner.conftest import Project

ALL = {
    "retry": {
        "limit": 3,
        "reasons": ["TestsFailed", "Error"],
        "backoff": {"duration": "1m30s", "factor": 2, "max": "1h"},
    },
    "timeout": "1h30m",
    "resources": {"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
}


def test_what_is_said_is_understood() -> None:
    found, problem = settings_of({"owner": "x", "dbt_operator": ALL})
    assert problem == ""
    assert found == {
        "retry": {
            "limit": 3,
            "reasons": ["Error", "TestsFailed"],
            "backoff": {"duration": "90s", "factor": 2.0, "max": "3600s"},
        },
        "timeout": 5400,
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
    }
    retry = NodeRetry.model_validate(found["retry"])
    assert (retry.limit, retry.reasons) == (3, (RetryReason.ERROR, RetryReason.TESTS_FAILED))
    node = graph_node({"unique_id": "model.shop.a", "settings": found})
    assert node is not None
    assert node.settings is not None
    assert node.settings.resources == (
        ("limits", (("memory", "8Gi"),)),
        ("requests", (("cpu", "2"), ("memory", "4Gi"))),
    )


def test_the_operator_knows_the_same_reasons() -> None:
    assert {reason.value for reason in RetryReason} == REASONS


@pytest.mark.parametrize("meta", [None, {}, {"owner": "x"}, "text", ["dbt_operator"], {"dbt_operator": None}])
def test_of_most_nodes_nothing_is_said(meta: Any) -> None:
    assert settings_of(meta) == ({}, "")


DURATION = "has to be a duration of at least 1s and at most 24h, such as 30s, 10m or 1h30m"
RETRY = "retry has to be a mapping with limit, reasons, backoff"
LIST = f"has to be a list of {', '.join(sorted(REASONS))}"
QUANTITY = "has to be a quantity of Kubernetes, such as 500m, 2 or 4Gi"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("soon", "it has to be a mapping with retry, timeout or resources"),
        ({"timeout": "soon"}, f"timeout {DURATION}"),
        ({"timeout": 0}, f"timeout {DURATION}"),
        ({"timeout": "25h"}, f"timeout {DURATION}"),
        ({"timeout": True}, f"timeout {DURATION}"),
        ({"timeout": ""}, f"timeout {DURATION}"),
        ({"deadline": "5m"}, "deadline is none of retry, timeout, resources"),
        ({1: 2}, "1 is none of retry, timeout, resources"),
        ({"retry": 3}, RETRY),
        ({"retry": {"limit": 21}}, "retry has limit, which has to be a number from 0 to 20"),
        ({"retry": {"limit": "3"}}, "retry has limit, which has to be a number from 0 to 20"),
        (
            {"retry": {"backoff": {"factor": 0}}},
            "retry has backoff, which has factor, which has to be a number from 1 to 10",
        ),
        (
            {"retry": {"reasons": ["Failed"]}},
            f"retry has reasons, which has to be a list of {', '.join(sorted(REASONS))}",
        ),
        ({"resources": {"memory": "4Gi"}}, "resources has memory, which is none of requests, limits"),
        (
            {"resources": {"limits": {"memory": "4 GB"}}},
            f"resources has limits, which has memory, which {QUANTITY}",
        ),
        (
            {"resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "4000M"}}},
            "resources has more memory in requests than in limits",
        ),
        (
            {"timeout": "soon", "retry": 3},
            f"timeout {DURATION}; retry has to be a mapping with limit, reasons, backoff",
        ),
        ({"x" * 1000: 1}, "x" * 300),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_counts(said: Any, problem: str) -> None:
    assert settings_of({"dbt_operator": said}) == ({}, problem)
    if isinstance(said, dict) and "resources" not in said:
        found, told = settings_of({"dbt_operator": {**said, "resources": ALL["resources"]}})
        assert (list(found), told) == (["resources"], problem)


SCHEMA = """
models:
  - name: large
    meta: {dbt_operator: {timeout: 1s, resources: {limits: {memory: 2Gi}}}}
    columns: [{name: id, data_tests: [unique]}]
  - name: patient
    config: {meta: {dbt_operator: {timeout: 1s}}}
  - name: wrong
    config: {meta: {dbt_operator: {timeout: soon, retry: {limit: 2}}}}
"""


def test_the_runner_says_it_in_its_listing_and_keeps_to_the_deadline_unless_the_run_has_another(
    make_project: Callable[[], Project],
) -> None:
    project = make_project()
    models = project.path / "models"
    for name in ("large", "patient"):
        (models / f"{name}.sql").write_text("{{ slow(40000000) }}" if name == "patient" else "{{ slow(4000000000) }}")
    (models / "wrong.sql").write_text("select 1 as id")
    (models / "settings.yml").write_text(SCHEMA)
    given = '[{"select":[{"name":"patient"}],"activeDeadlineSeconds":600}]'
    run = project.run("build", "--select", "large", "patient", "wrong", options=[f"--overrides={given}"])
    large, wrong = run.graph["model.torture.large"], run.graph["model.torture.wrong"]
    assert large["settings"] == {"timeout": 1, "resources": {"limits": {"memory": "2Gi"}}}
    (test,) = [node for node in run.graph.values() if node["resource_type"] == "test"]
    assert test["settings"] == large["settings"]
    assert (wrong["settings"], wrong["settings_ignored"]) == ({"retry": {"limit": 2}}, f"timeout {DURATION}")
    ended = {node: result["status"] for node, result in run.results.items() if node.startswith("model.")}
    assert ended == {
        "model.torture.large": "error",
        "model.torture.patient": "success",
        "model.torture.wrong": "success",
    }
    assert run.results["model.torture.large"]["deadline_seconds"] == 1
