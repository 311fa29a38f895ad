"""The operator's clock, which can be set while it runs.

A container has no clock of its own. So the operator of the cluster is started with libfaketime between it and the C
library, which reads from a file how far its clock is off; what measures durations is left alone, as it is on a machine
whose clock is set. The operator itself knows nothing of it.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.chaos.cluster import ChaosCluster, ChaosError
from dev.cluster.commands import run, say
from dev.install import NAMESPACE as SYSTEM

DEPLOYMENT = "deployment/dbt-operator"
PACKAGE = "libfaketime"
LIBRARY = "libfaketime.so.1"
FILE = "clock"
_NAME = "wrong-clock"
_MOUNT = "/wrong-clock"
_ENVIRONMENT = {
    "LD_PRELOAD": f"{_MOUNT}/{LIBRARY}",
    "FAKETIME_TIMESTAMP_FILE": f"/tmp/{FILE}",  # noqa: S108 - in the operator's container, a volume of its own
    "FAKETIME_CACHE_DURATION": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}


def _library() -> bytes:
    """The library, from Debian's package."""
    found = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    if not found:
        say(f"Installing {PACKAGE} …")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], doing="Updating the list of packages", env=env)
        argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", PACKAGE]
        run(argv, doing=f"Installing {PACKAGE}", env=env)
        found = sorted(Path("/usr/lib").glob(f"*/faketime/{LIBRARY}"))
    if not found:
        raise ChaosError(f"The package {PACKAGE} has no {LIBRARY}.")
    return found[0].read_bytes()


def _patch(*, remove: bool) -> str:
    """A strategic merge patch of the operator's Deployment."""
    off = {"$patch": "delete"} if remove else {}
    environment = [{"name": name, **(off or {"value": value})} for name, value in _ENVIRONMENT.items()]
    mount = {"mountPath": _MOUNT, **(off or {"name": _NAME})}
    container = {"name": "operator", "env": environment, "volumeMounts": [mount]}
    source: dict[str, object] = {"configMap": {"name": _NAME}}
    volume = {"name": _NAME, **(off or source)}
    return json.dumps({"spec": {"template": {"spec": {"containers": [container], "volumes": [volume]}}}})


@contextmanager
def adjustable(cluster: ChaosCluster) -> Iterator[None]:
    """While this lasts, the cluster's operator has a clock that can be set; it is restarted before and after."""
    library = base64.b64encode(_library()).decode()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _NAME},
        "binaryData": {LIBRARY: library},
    }
    # Not `apply`, which would store the library once more, as an annotation.
    cluster.kubectl("delete", "configmap", _NAME, "-n", SYSTEM, "--ignore-not-found")
    cluster.kubectl("create", "-n", SYSTEM, "-f", "-", stdin=json.dumps(config_map))
    try:
        _apply(cluster, _patch(remove=False))
        yield
    finally:
        _apply(cluster, _patch(remove=True))
        cluster.kubectl("delete", "configmap", _NAME, "-n", SYSTEM, "--ignore-not-found")


def _apply(cluster: ChaosCluster, patch: str) -> None:
    cluster.kubectl("patch", DEPLOYMENT, "-n", SYSTEM, "-p", patch)
    wait = ("rollout", "status", DEPLOYMENT, "-n", SYSTEM, "--timeout=120s")
    cluster.kubectl(*wait, "--request-timeout=0")


def set_clock(cluster: ChaosCluster, *, hours: int) -> bool:
    """Put the operator's clock ahead or back; false when there is no operator whose clock could be set."""
    pod = cluster.operator_pod()
    if pod is None:
        return False
    volume = cluster.settings.kubelet_root / "pods" / pod["metadata"]["uid"] / "volumes/kubernetes.io~empty-dir/tmp"
    adjustable_now = any(one["name"] == "LD_PRELOAD" for one in pod["spec"]["containers"][0].get("env", ()))
    if not adjustable_now or not volume.is_dir():
        return False
    file = volume / FILE
    file.write_text(f"{hours * 3600:+}\n")
    file.chmod(0o644)
    return True
