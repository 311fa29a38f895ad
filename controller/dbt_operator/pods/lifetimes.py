"""Which mounts of a pod outlive it: the runner tells from that whether a database file is kept."""

from collections.abc import Mapping
from typing import Any

from dbt_operator.pods.part import Part
from dbt_operator.pods.template import CONTAINER
from dbt_operator.pods.template_lists import mappings, named

# Volumes that go with their pod. A volume of a CSI driver that the pod itself describes is one of them: Kubernetes lets
# the driver make it for the pod and take it away with it; what is to stay is claimed by a PersistentVolumeClaim.
_EPHEMERAL = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "gitRepo",
        "image",
        "projected",
        "secret",
    }
)


def outlives_the_pod(volume: Mapping[str, Any]) -> bool:
    """Whether this volume of a pod is kept when the pod goes."""
    return bool(volume.keys() - {"name"}) and _EPHEMERAL.isdisjoint(volume)


def lifetimes_part(pod: Mapping[str, Any]) -> Part:
    """Arguments that tell the runner which mounts of the container of dbt outlive the pod, and which do not."""
    kept = {volume.get("name") for volume in mappings(pod.get("volumes")) if outlives_the_pod(volume)}
    mounts = mappings(named(pod.get("containers"), CONTAINER).get("volumeMounts"))
    places = [(str(mount.get("mountPath", "")), mount.get("name")) for mount in mounts]
    return Part(
        arguments=tuple(
            text for path, name in places for text in ("--kept-path" if name in kept else "--lost-path", path)
        )
    )
