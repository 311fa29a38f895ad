"""A part of the pod of an attempt: one thing that dbt needs there, with everything that it takes to have it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Items = tuple[dict[str, Any], ...]

PROJECT_VOLUME = "dbt-operator-project"
"""The name of the volume that the project is on, where it is not a part of the image."""

# What the `restricted` pod security standard asks of each container; a container that needs to write has a volume.
RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one thing adds to a pod. Each part names its own volumes, so that parts never know of each other."""

    volumes: Items = ()
    mounts: Items = ()  # of the container of dbt, read-only unless they say otherwise
    env: Items = ()  # of the container of dbt
    init_containers: Items = ()  # they run before dbt, in the order of the parts
    arguments: tuple[str, ...] = ()  # which tell the runner of it

    @classmethod
    def joined(cls, parts: Iterable["Part"]) -> "Part":
        """All of these parts as one, in their order."""
        parts = tuple(parts)
        return cls(
            volumes=tuple(item for part in parts for item in part.volumes),
            mounts=tuple(item for part in parts for item in part.mounts),
            env=tuple(item for part in parts for item in part.env),
            init_containers=tuple(item for part in parts for item in part.init_containers),
            arguments=tuple(item for part in parts for item in part.arguments),
        )


def read_only(*, volume: str, path: str) -> dict[str, Any]:
    """A mount that can only be read."""
    return {"name": volume, "mountPath": path, "readOnly": True}
