"""The kinds of objects the operator touches, as a closed table: no discovery, so no calls and no cache for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dbt_operator.api import names

Object = dict[str, Any]
"""An object of the API as plain JSON."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A namespaced resource of the Kubernetes API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """What manifests of it say in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Its URL path: of all objects, of those of a namespace, of one object or of a part of that one."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


DBT_RUNS = Resource(names.GROUP, names.VERSION, "dbtruns", "DbtRun")
DBT_CONNECTIONS = Resource(names.GROUP, names.VERSION, "dbtconnections", "DbtConnection")
DBT_MODELS = Resource(names.GROUP, names.VERSION, "dbtmodels", "DbtModel")
JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS = Resource("", "v1", "events", "Event")


def label_selector(labels: Mapping[str, str]) -> str:
    """The selector for objects that have all of these labels."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def owner_uids(obj: Mapping[str, Any]) -> frozenset[str]:
    """The uids of the owners that an object names."""
    return frozenset(str(owner.get("uid", "")) for owner in obj.get("metadata", {}).get("ownerReferences") or ())
