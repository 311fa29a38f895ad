"""Copies of the CRDs on a real apiserver, in a group of this session's own and under other names.

So the tests that use them disturb neither an operator that runs in the cluster nor the CRDs that another checkout has
installed in it, and a live operator does not write into their objects.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT, Kubectl

RUN_SPEC: dict[str, Any] = {
    "image": "registry/dbt:1",
    "project": {"image": {"path": "/dbt"}},
    "profile": {"secretRef": {"name": "dwh"}},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the CRDs under the names that it has in these tests."""

    kubectl: Kubectl
    group: str
    kind: str
    plural: str
    schema: dict[str, Any]

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}"

    def path(self, namespace: str, name: str) -> str:
        """Where the API server has an object."""
        return f"/apis/{self.group}/v1alpha1/namespaces/{namespace}/{self.plural}/{name}"

    def manifest(self, name: str, spec: dict[str, Any]) -> str:
        metadata = {"name": name}
        version = f"{self.group}/v1alpha1"
        return json.dumps({"apiVersion": version, "kind": self.kind, "metadata": metadata, "spec": spec})

    def create(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("create", "-n", namespace, "-f", "-", stdin=self.manifest(name, spec))

    def patch(self, namespace: str, name: str, patch: dict[str, Any]) -> tuple[str, ...]:
        """The arguments of a patch of spec or metadata."""
        return ("patch", "-n", namespace, self.resource, name, "--type=merge", "-p", json.dumps(patch))

    def report(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        self.kubectl(*self.patch(namespace, name, {"status": status}), "--subresource=status")


def copy_of(plural: str, *, group: str, kind: str) -> dict[str, Any]:
    """One of the CRDs under other names."""
    crd: dict[str, Any] = yaml.safe_load((CHECKOUT / "crds" / f"{plural}.yaml").read_text())
    own = kind.lower() + "s"
    crd["metadata"]["name"] = f"{own}.{group}"
    crd["spec"]["group"] = group
    # Other names too: kubectl remembers for hours what it once found under a short name such as dbtruns.
    crd["spec"]["names"] = {"kind": kind, "plural": own}
    return crd


def install(kubectl: Kubectl, crd: dict[str, Any]) -> Kind:
    """Install a copy of one of the CRDs."""
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(crd))

    def established() -> bool:
        # Not by kubectl wait, which fails on a CRD that has no conditions yet.
        conditions = kubectl.json("get", "crd", crd["metadata"]["name"]).get("status", {}).get("conditions") or []
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

    until("the CRD is established", established)
    names, schema = crd["spec"]["names"], crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return Kind(kubectl=kubectl, group=crd["spec"]["group"], kind=names["kind"], plural=names["plural"], schema=schema)


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for something of the apiserver's that no command waits for."""
    for _ in range(150):
        if holds():
            return
        time.sleep(0.2)
    pytest.fail(f"{what}: not within half a minute", pytrace=False)
