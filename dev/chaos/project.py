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
            **fields(settings=settings, pod={"terminationGracePeriodSeconds": 15}),
            "imagePullPolicy": "IfNotPresent",
            "retry": {
                "limit": 3,
                # A kubelet that restarts takes its pods for not ready at first: nothing reaches the warehouse then.
                "reasons": ["Error", "TestsFailed", "ConnectionFailed"],
                "backoff": {"duration": "1s", "factor": 1, "max": "2s"},
            },
            "producer": {"maxRestarts": 50},
            **({"mode": "PerNode", "perNode": {"parallelism": 6}} if plan.per_node else {}),
        },
    }


def fields(*, settings: Mapping[str, object], pod: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the spec that every run of the project has.

    settings: what the run is to be like, as the project's macros know it.
    pod: fields of the pods of dbt, and of their container for it.
    """
    (container,) = pod.get("containers", [{"name": "dbt"}])
    environment = [{"name": "CHAOS", "value": json.dumps(settings)}]
    return {
        "image": IMAGE,
        "project": {"image": {"path": "/dbt/chaos"}},
        "profile": {"secretRef": {"name": "warehouse"}},
        "podTemplate": {"spec": {**pod, "containers": [{**container, "env": environment}]}},
    }
