"""The dbt project `chaos` and the runs of it: its nodes by name, and the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dev.chaos.plan import Plan

IMAGE = "localhost/dbt-operator/chaos:dev"
SCHEMA = "analytics"
RUN = "chaos"
SLEEP_MS = 500
"""What a node takes at least: with four threads a run of all nodes lasts about fifteen seconds."""

SEEDS = 5
LAYERS = (16, 16, 14, 10)
TESTED_EVERY = 4
MODELS = tuple(
    f"layer{depth}_{number:02}" for depth, width in enumerate(LAYERS, start=1) for number in range(1, width + 1)
)
TESTED = MODELS[::TESTED_EVERY]
"""The models that have a test."""
NODES = SEEDS + len(MODELS)


def manifest(plan: Plan) -> dict[str, Any]:
    """The DbtRun of a plan. Retries come quickly, and more pods may be lost than faults are planned."""
    fail_times = {**plan.flaky, **({plan.broken: 1000} if plan.broken else {})}
    settings = {"sleep_ms": SLEEP_MS, "fail_times": fail_times, "null_times": plan.nulls}
    return {
        "apiVersion": "dbt-operator.io/v1alpha1",
        "kind": "DbtRun",
        "metadata": {"name": RUN},
        "spec": {
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "project": {"image": {"path": "/dbt/chaos"}},
            "profile": {"secretRef": {"name": "warehouse"}},
            "retry": {
                "limit": 3,
                # A kubelet that restarts takes its pods for not ready at first: nothing reaches the warehouse then.
                "on": ["Error", "TestsFailed", "ConnectionFailed"],
                "backoff": {"duration": "1s", "factor": 1, "max": "2s"},
            },
            "producer": {"maxRestarts": 50},
            "podTemplate": with_settings(settings, {"terminationGracePeriodSeconds": 15}),
        },
    }


def with_settings(settings: Mapping[str, object], pod: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A pod template that tells the project what the run is to be like; the project's macros say what there is to tell.

    pod: fields of the pod besides, and of its container for dbt.
    """
    (container,) = (pod or {}).get("containers", [{"name": "dbt"}])
    environment = [{"name": "CHAOS", "value": json.dumps(settings)}]
    return {"spec": {**(pod or {}), "containers": [{**container, "env": environment}]}}
