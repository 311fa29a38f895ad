"""Copies of the CRDs on a real apiserver, in a group of this session's own and under other names.

So the tests that use them disturb neither an operator that runs in the cluster nor the CRDs that another checkout has
installed in it, and a live operator does not write into their objects.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.api import Api
from tests.conftest import CHECKOUT

RUN_SPEC: dict[str, Any] = {
    "image": "registry/dbt:1",
    "project": {"image": {"path": "/dbt"}},
    "profile": {"secretRef": {"name": "dwh"}},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the CRDs, under the names that it has in these tests."""

    api: Api
    group: str
    kind: str
    plural: str
    schema: dict[str, Any]

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}"

    def create(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        self.api.create_at(self.path(namespace), self._manifest(name, spec))

    def made(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The object that would be made, with its defaults."""
        return self.api.create_at(self.path("default"), self._manifest("good", spec), dry_run=True)

    def refused(self, spec: dict[str, Any]) -> str:
        """In which words an object is not made."""
        return self.api.creation_refused(self.path("default"), self._manifest("bad", spec))

    def get(self, namespace: str, name: str) -> dict[str, Any]:
        return self.api.get_at(self._one(namespace, name))

    def change(self, namespace: str, name: str, patch: dict[str, Any]) -> None:
        """Change its spec or metadata."""
        self.api.change_at(self._one(namespace, name), patch)

    def change_accepted(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        """Only try a change of its spec, which is to be accepted."""
        self.api.change_accepted(self._one(namespace, name), {"spec": spec})

    def change_refused(self, namespace: str, name: str, spec: dict[str, Any]) -> str:
        """In which words a change of its spec is refused."""
        return self.api.change_refused(self._one(namespace, name), {"spec": spec})

    def report(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        self.api.change_at(f"{self._one(namespace, name)}/status", {"status": status})

    def path(self, namespace: str) -> str:
        """Where the API server has the objects of a namespace."""
        return f"/apis/{self.group}/v1alpha1/namespaces/{namespace}/{self.plural}"

    def _one(self, namespace: str, name: str) -> str:
        return f"{self.path(namespace)}/{name}"

    def _manifest(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        version = f"{self.group}/v1alpha1"
        return {"apiVersion": version, "kind": self.kind, "metadata": {"name": name}, "spec": spec}


def crd_of(plural: str) -> dict[str, Any]:
    """One of the CRDs as it is in the checkout."""
    crd: dict[str, Any] = yaml.safe_load((CHECKOUT / "crds" / f"{plural}.yaml").read_text())
    return crd


def copy_of(plural: str, *, group: str, kind: str) -> dict[str, Any]:
    """One of the CRDs under other names."""
    crd = crd_of(plural)
    own = kind.lower() + "s"
    crd["metadata"]["name"] = f"{own}.{group}"
    crd["spec"]["group"] = group
    # Other names too: kubectl remembers for hours what it once found under a short name such as dbtruns.
    crd["spec"]["names"] = {"kind": kind, "plural": own}
    return crd


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def install(api: Api, crd: dict[str, Any]) -> Kind:
    """Install a CRD, or put another in its place."""
    name = crd["metadata"]["name"]
    api.apply_at(f"{CRDS}/{name}", crd)

    def established() -> bool:
        conditions = api.get_at(f"{CRDS}/{name}").get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    until("the CRD is established", established)
    names, schema = crd["spec"]["names"], crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    kind = Kind(api=api, group=crd["spec"]["group"], kind=names["kind"], plural=names["plural"], schema=schema)
    until("the API server has the objects", lambda: api.ask("GET", kind.path("default"))["kind"] != "Status")
    return kind


def remove(kind: Kind) -> None:
    """Its end is not waited for."""
    kind.api.delete_at(f"{CRDS}/{kind.resource}")


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for something of the apiserver's that no command waits for."""
    for _ in range(1500):
        if holds():
            return
        time.sleep(0.2)
    pytest.fail(f"{what}: not within five minutes", pytrace=False)
