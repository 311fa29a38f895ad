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
    "dbtconnections": "/apis/dbt-operator.io/v1alpha1",
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
        items: list[dict[str, Any]] = _done(self.ask("GET", _path(resource, namespace), labelSelector=labels))["items"]
        return items

    def get(self, resource: str, name: str, *, namespace: str) -> dict[str, Any]:
        """One object; a missing one fails the test."""
        return self.get_at(f"{_path(resource, namespace)}/{name}")

    def apply(self, manifest: dict[str, Any], *, namespace: str) -> None:
        """What `kubectl apply --server-side` does; a refusal fails the test."""
        path = f"{_path(manifest['kind'].lower() + 's', namespace)}/{manifest['metadata']['name']}"
        self.apply_at(path, manifest)

    def apply_at(self, path: str, manifest: dict[str, Any]) -> None:
        """The same, of an object that is not in the table."""
        query = {"fieldManager": "tests", "force": "true"}
        _done(self.ask("PATCH", path, body=manifest, content=APPLY_PATCH, **query))

    def create_namespace(self, name: str) -> None:
        """A namespace without anything in it."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        _done(self.ask("POST", "/api/v1/namespaces", body=manifest))

    def delete_namespace(self, name: str) -> None:
        """Its end is not waited for."""
        self.delete_at(f"/api/v1/namespaces/{name}")

    def create_at(self, path: str, manifest: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """The object as it is made, or would be; a refusal fails the test. path: of the collection."""
        return _done(self._create(path, manifest, dry_run=dry_run))

    def creation_refused(self, path: str, manifest: dict[str, Any]) -> str:
        """In which words an object is not made; one that would be made fails the test."""
        return _refused(self._create(path, manifest, dry_run=True), manifest)

    def get_at(self, path: str) -> dict[str, Any]:
        """An object; a missing one fails the test."""
        return _done(self.ask("GET", path))

    def change_at(self, path: str, patch: dict[str, Any]) -> None:
        """A merge patch; a refusal fails the test."""
        _done(self.ask("PATCH", path, body=patch, content=MERGE_PATCH))

    def delete_at(self, path: str) -> None:
        """Its end is not waited for."""
        _done(self.ask("DELETE", path))

    def change_accepted(self, path: str, patch: dict[str, Any]) -> None:
        """A merge patch that is only tried; a refusal fails the test."""
        _done(self._try(path, patch), patch)

    def change_refused(self, path: str, patch: dict[str, Any]) -> str:
        """In which words a merge patch is refused; one that would be accepted fails the test."""
        return _refused(self._try(path, patch), patch)

    def _create(self, path: str, manifest: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.ask("POST", path, body=manifest, **query)

    def _try(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        return self.ask("PATCH", path, body=patch, content=MERGE_PATCH, fieldValidation="Strict", dryRun="All")

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        content: str = "application/json",
        **query: str,
    ) -> dict[str, Any]:
        """What the API server answers: an object, or the Status that says why there is none."""
        request = self._client.param_serialize(
            *(method, path),
            query_params=list(query.items()),
            header_params={"Content-Type": content} if body is not None else {},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=SECONDS)
        except HTTPError as error:
            pytest.fail(f"{method} {path}: {error}", pytrace=False)
        text: bytes = answer.read()  # type: ignore[no-untyped-call]  # as above
        try:
            told: dict[str, Any] = json.loads(text)
        except ValueError:
            pytest.fail(f"{method} {path}: {answer.status} {text.decode(errors='replace')}", pytrace=False)
        return told


def _failure(answer: dict[str, Any]) -> str | None:
    return answer["message"] if answer["kind"] == "Status" and answer["status"] == "Failure" else None


def _done(answer: dict[str, Any], what: object = "") -> dict[str, Any]:
    failure = _failure(answer)
    if failure is not None:
        pytest.fail(f"{failure} {what}", pytrace=False)
    return answer


def _refused(answer: dict[str, Any], what: object) -> str:
    failure = _failure(answer)
    if failure is None:
        pytest.fail(f"accepted, and was to be refused: {what}", pytrace=False)
    return failure


def _path(resource: str, namespace: str) -> str:
    return f"{GROUPS[resource]}/namespaces/{namespace}/{resource}"
