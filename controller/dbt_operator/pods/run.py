"""The run that everything launched belongs to: what its children have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dbt_operator.api import names


@dataclass(frozen=True, slots=True)
class RunRef:
    """The identity of a DbtRun: what its children refer to. `labels` are the run's own."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]


def owner_reference(run: RunRef) -> dict[str, Any]:
    """The reference by which Kubernetes deletes a child with its run."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DbtRun",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        # True would need the right to set finalizers on DbtRuns, and would only delay a foreground deletion.
        "blockOwnerDeletion": False,
    }


def run_labels(run: RunRef) -> dict[str, str]:
    """Labels of everything that belongs to a run."""
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_RUN: names.label_value(run.name),
        names.LABEL_RUN_UID: run.uid,
    }


def child_config_map(run: RunRef, *, name: str) -> dict[str, Any]:
    """A ConfigMap of a run, with nothing in it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": run_labels(run),
            "ownerReferences": [owner_reference(run)],
        },
    }
