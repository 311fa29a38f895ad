"""Asks the API server inside the test's own process: a test that waits asks several times a second, one that tries many
changes has hundreds of them, and a kubectl for each would take the processor from everything else.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config
from urllib3.exceptions import HTTPError

GROUPS = {
    "configmaps": "/api/v1",
    "dbtmodels": "/apis/dbt-operator.io/v1alpha1",
    "dbtruns": "/apis/dbt-operator.io/v1alpha1",
    "deployments": "/apis/apps/v1",
    "events": "/api/v1",
    "jobs": "/apis/batch/v1",
    "pods": "/api/v1",
    "resourcequotas": "/api/v1",
    "secrets": "/api/v1",
    "services": "/api/v1",
}
MERGE_PATCH, APPLY_PATCH = "application/merge-patch+json", "application/apply-patch+yaml"
SECONDS = 60


class Api:
    """Asks one cluster, as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client: ApiClient = new_client_from_config(  # type: ignore[no-untyped-call]  # the package is typed in part only
            config_file=str(kubeconfig)
        )

    def objects(self, resource: str, *, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        """The objects of a namespace, those with the labels only if any are given."""
        items: list[dict[str, Any]] = self._read(_path(resource, namespace), labelSelector=labels)["items"]
        return items

    def get(self, resource: str, name: str, *, namespace: str) -> dict[str, Any]:
        """One object; a missing one fails the test."""
        found: dict[str, Any] = self._read(f"{_path(resource, namespace)}/{name}")
        return found

    def apply(self, manifest: dict[str, Any], *, namespace: str) -> None:
        """What `kubectl apply --server-side` does; a refusal fails the test."""
        path = f"{_path(manifest['kind'].lower() + 's', namespace)}/{manifest['metadata']['name']}"
        query = {"fieldManager": "tests", "force": "true"}
        answer = self._call("PATCH", path, query=query, body=manifest, content=APPLY_PATCH)
        if answer["kind"] == "Status":
            pytest.fail(answer["message"], pytrace=False)

    def create_namespace(self, name: str) -> None:
        """A namespace without anything in it."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self._call("POST", "/api/v1/namespaces", body=manifest, content="application/json")

    def delete_namespace(self, name: str) -> None:
        """Its end is not waited for."""
        self._call("DELETE", f"/api/v1/namespaces/{name}")

    def refusal(self, path: str, *, patch: dict[str, Any]) -> str | None:
        """In which words a merge patch of an object would be refused as invalid; None where it would be accepted."""
        answer = self._call("PATCH", path, body=patch, content=MERGE_PATCH, query={"dryRun": "All"})
        return answer["message"] if answer.get("reason") == "Invalid" else None

    def _read(self, path: str, **query: str) -> Any:
        return self._call("GET", path, query=query)

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        content: str | None = None,
    ) -> Any:
        request = self._client.param_serialize(
            *(method, path),
            query_params=list((query or {}).items()),
            header_params={"Content-Type": content} if content is not None else {},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=SECONDS)
        except HTTPError as error:
            pytest.fail(f"{method} {path}: {error}", pytrace=False)
        text: bytes = answer.read()  # type: ignore[no-untyped-call]  # as above
        if answer.status not in (200, 201, 422):
            pytest.fail(f"{method} {path}: {answer.status} {text.decode(errors='replace')}", pytrace=False)
        return json.loads(text)


def _path(resource: str, namespace: str) -> str:
    return f"{GROUPS[resource]}/namespaces/{namespace}/{resource}"
