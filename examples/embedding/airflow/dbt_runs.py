"""Creates DbtRuns and looks whether they have ended, through the Kubernetes API. It needs the package kubernetes."""

from __future__ import annotations

from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

GROUP, VERSION, PLURAL = "dbt-operator.io", "v1alpha1", "dbtruns"
RETRY = "dbt-operator.io/retry"
ENDED = ("Succeeded", "Failed", "Cancelled")


class RunFailed(Exception):
    """The run has ended without success; the text is what it said."""


def create(name: str, *, namespace: str, spec: dict[str, Any], attempt: str) -> None:
    """Create a run, or find the one that an earlier try of the task has created.

    One that has ended without success is asked for a retry: it goes on with what has not succeeded.

    attempt: names the try of the task, so that a retry is asked for once.
    """
    manifest = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "DbtRun", "metadata": {"name": name}, "spec": spec}
    try:
        _api().create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, manifest)
    except ApiException as error:
        if error.status != 409:  # it is there already
            raise
        if _status(_get(name, namespace)).get("phase") in ("Failed", "Cancelled"):
            patch = {"metadata": {"annotations": {RETRY: attempt}}, "spec": {"cancel": False}}
            _api().patch_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name, patch)


def has_succeeded(name: str, *, namespace: str) -> bool:
    """Whether the run has ended with success; False while it is live. Raises: RunFailed."""
    run = _get(name, namespace)
    status, asked = _status(run), (run["metadata"].get("annotations") or {}).get(RETRY)
    if status.get("phase") not in ENDED or asked != status.get("handledRetry"):
        return False
    if status["phase"] != "Succeeded":
        raise RunFailed(f"DbtRun {namespace}/{name}: {status['phase']} ({status['reason']}): {status['message']}")
    return True


def _get(name: str, namespace: str) -> dict[str, Any]:
    return _api().get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)


def _status(run: dict[str, Any]) -> dict[str, Any]:
    return run.get("status") or {}


def _api() -> client.CustomObjectsApi:
    try:
        config.load_incluster_config()
    except config.ConfigException:  # not in a pod
        config.load_kube_config()
    return client.CustomObjectsApi()
