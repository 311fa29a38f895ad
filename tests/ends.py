"""What is compared of two runs that have to end alike."""

from typing import Any

from dbt_operator.kube.resources import Object

# How often a node was tried is not compared: what a run has kept in its pod is gone for a retry there, and not here.
OF_A_NODE = ("phase", "reason", "blockedBy", "batches")
OF_A_RUN = ("phase", "reason", "nodes", "tests")


def shown(model: Object) -> dict[str, Any]:
    """What a person goes by."""
    status = model["status"]
    tests = status.get("tests") or {}
    found = {what: sorted(test["uniqueId"] for test in tests.get(what) or ()) for what in ("failing", "warning")}
    return {field: status.get(field) for field in OF_A_NODE} | {"tests": tests.get("summary")} | found
