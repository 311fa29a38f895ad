"""One volume for each PersistentVolumeClaim of a pod, whoever has asked for it.

A pod in which two volumes name the same claim never starts: the kubelet mounts what is behind the claim once, and waits
for the other volume without an end (seen with Kubernetes 1.34). The project may lie on the claim of a cache, though,
and users may mount the same one by their pod template.
"""

from collections.abc import Mapping
from typing import Any


def with_one_volume_each(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a pod in which the first volume of a claim has the mounts of all of them."""
    of_claim: dict[str, dict[str, Any]] = {}  # the first volume of each claim
    instead: dict[str, str] = {}  # for the name of each volume of a claim that of the first one
    protected: set[str] = set()  # volumes that may not be written to
    others = []
    for volume in pod.get("volumes") or ():
        claim = volume.get("persistentVolumeClaim")
        if not (isinstance(claim, Mapping) and claim.get("claimName")):
            others.append(volume)  # another one, or one that the API server refuses
            continue
        first = of_claim.setdefault(claim["claimName"], volume)
        instead[volume["name"]] = first["name"]
        if claim.get("readOnly"):
            protected.add(volume["name"])
    if len(instead) == len(of_claim):
        return dict(pod)
    volumes = [*others, *(_writable(volume) for volume in of_claim.values())]
    containers = {
        kind: [_mounting(one, instead, protected) for one in pod[kind]]
        for kind in ("initContainers", "containers")
        if pod.get(kind)
    }
    return {**pod, **containers, "volumes": volumes}


def _writable(volume: Mapping[str, Any]) -> dict[str, Any]:
    claim = {key: value for key, value in volume["persistentVolumeClaim"].items() if key != "readOnly"}
    return {**volume, "persistentVolumeClaim": claim}


def _mounting(container: Mapping[str, Any], instead: Mapping[str, str], protected: set[str]) -> dict[str, Any]:
    mounts = [
        {**mount, "name": instead.get(mount.get("name"), mount.get("name"))}
        | ({"readOnly": True} if mount.get("name") in protected else {})
        for mount in container.get("volumeMounts") or ()
    ]
    return {**container, **({"volumeMounts": mounts} if mounts else {})}
