"""What tells the runner which values to mask. The operator itself never reads a Secret."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.template import CONTAINER
from dbt_operator.pods.template_lists import mappings, named

_DIRECTORY = "/dbt-operator/secrets"
# Volumes whose files come from a store of secrets outside of the cluster.
_SECRET_DRIVERS = frozenset({"secrets-store.csi.k8s.io"})


def secrets_part(pod: Mapping[str, Any]) -> Part:
    """The part for what the container of dbt is given of Secrets by this pod, whose entries of a name are one by now.

    Single variables are named to the runner, and so are the places of files. A Secret whose keys are not known
    (envFrom), or whose files stand among others (projected), is mounted once more for the runner alone.
    """
    container, found = named(pod.get("containers"), CONTAINER), _Found()
    for variable in mappings(container.get("env")):
        if (variable.get("valueFrom") or {}).get("secretKeyRef") and variable.get("name"):
            found.arguments += ["--secret-env", variable["name"]]
    for source in mappings(container.get("envFrom")):
        secret = source.get("secretRef")
        if secret:
            whole = {"secretName": secret.get("name"), "optional": bool(secret.get("optional"))}
            found.mount({"secret": whole})
    for mount in mappings(container.get("volumeMounts")):
        _of_mount(found, mount=mount, volume=named(pod.get("volumes"), mount.get("name", "")))
    return Part(volumes=tuple(found.volumes), mounts=tuple(found.mounts), arguments=tuple(found.arguments))


@dataclass(slots=True)
class _Found:
    arguments: list[str] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)

    def mount(self, volume: Mapping[str, Any]) -> None:
        """Give the runner a volume of its own."""
        index = len(self.volumes)
        name, path = f"dbt-operator-secret-{index}", f"{_DIRECTORY}/{index}"
        self.volumes.append({"name": name, **volume})
        self.mounts.append(read_only(volume=name, path=path))
        self.arguments += ["--secret-file", path]


def _of_mount(found: _Found, *, mount: Mapping[str, Any], volume: Mapping[str, Any]) -> None:
    path = str(mount.get("mountPath", ""))
    csi = volume.get("csi") or {}
    if volume.get("secret") or csi.get("driver") in _SECRET_DRIVERS:
        # Whatever part of it is mounted, nothing else is there.
        found.arguments += ["--secret-file", path]
        return
    parts = mappings((volume.get("projected") or {}).get("sources"))
    secrets = [{"secret": part["secret"]} for part in parts if part.get("secret")]
    if secrets:
        found.mount({"projected": {"sources": secrets}})
    for part in parts:
        token = part.get("serviceAccountToken")
        # Each volume has a token of its own, so this one has to be read where it is.
        place = _place(mount, str(token.get("path", ""))) if token else None
        if place:
            found.arguments += ["--secret-file", place]


def _place(mount: Mapping[str, Any], path: str) -> str | None:
    """Where a file of a volume stands in the container; None where this mount does not show it, or nobody can tell."""
    target, part = PurePosixPath(mount.get("mountPath", "")), mount.get("subPath") or "."
    if mount.get("subPathExpr") or not PurePosixPath(path).is_relative_to(part):
        return None
    return str(target / PurePosixPath(path).relative_to(part))
