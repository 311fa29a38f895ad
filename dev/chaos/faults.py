"""The faults: what each does to the cluster or to a run, and whether it could.

Each returns whether it really happened: where there is nothing to be disturbed at its moment, it does not count.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.chaos import clock, memory
from dev.chaos.cluster import ChaosCluster
from dev.chaos.evidence import RETRY_ANNOTATION
from dev.cluster import network
from dev.cluster.commands import succeeds
from dev.cluster.components import ETCD_URL
from dev.cluster.settings import NODE_NAME
from dev.install import NAMESPACE as SYSTEM

RESTARTS_OF_A_POD = 2
"""After so many the kubelet waits ever longer before it starts a container again: then the pod is replaced."""
CORDONED_SECONDS = 1.5
SUSPENDED_SECONDS = 3.0
WRONG_CLOCK_SECONDS = 8.0
KUBELET_PORT = 10250
ROTATION_SIZE = 11 * 1024 * 1024
"""More than the 10 MiB at which the kubelet rotates a container's log unless it is told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a fault may disturb: a run, and the cluster that it is in. `choice` picks one among several pods."""

    cluster: ChaosCluster
    namespace: str
    run: str
    choice: int

    def attempt(self) -> dict[str, Any] | None:
        """One of the run's pods that is not on its way out."""
        pods = self.attempts()
        return pods[self.choice % len(pods)] if pods else None

    def attempts(self) -> list[dict[str, Any]]:
        """The run's pods that have a process, or will have."""
        pods = self.cluster.pods(self.namespace, f"dbt-operator.io/run={self.run}")
        live = [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]
        return [pod for pod in live if "deletionTimestamp" not in pod["metadata"]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a fault does, and to whom.

    everywhere: it disturbs all runs of the cluster; waits: such a fault takes its turn, so that only one of these
    happens at a time.
    """

    act: Callable[[Target], bool]
    everywhere: bool = False
    waits: bool = True


def _kill(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _delete(target: Target, pod: dict[str, Any] | None, namespace: str, *how: str) -> bool:
    if pod is None:
        return False
    target.cluster.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--wait=false", *how)
    return True


FORCE = ("--grace-period=0", "--force")


def kill_operator(target: Target) -> bool:
    """SIGKILL for its process; the kubelet starts another one in the same pod."""
    pod = target.cluster.operator_pod()
    if pod is None or not _kill(target.cluster.process(pod)):
        return False
    restarts = sum(int(one["restartCount"]) for one in pod["status"].get("containerStatuses", ()))
    if restarts >= RESTARTS_OF_A_POD:
        _delete(target, pod, SYSTEM, *FORCE)
    return True


def delete_operator(target: Target) -> bool:
    """It has its grace period to store what it knows."""
    return _delete(target, target.cluster.operator_pod(), SYSTEM)


def force_delete_operator(target: Target) -> bool:
    """Its object is gone at once, and another one may be started while it still runs."""
    return _delete(target, target.cluster.operator_pod(), SYSTEM, *FORCE)


def cut_operator_connections(target: Target) -> bool:
    """Its watches, log streams and pending calls break."""
    pod = target.cluster.operator_pod()
    pid = target.cluster.process(pod) if pod else None
    if pid is None:
        return False
    return succeeds(["nsenter", "-t", str(pid), "-n", "ss", "-K", "-tn", "state", "established"])


def kill_attempt(target: Target) -> bool:
    """SIGKILL for dbt, as for want of memory on the node; nothing is cancelled and nothing said."""
    pod = target.attempt()
    return pod is not None and _kill(target.cluster.process(pod))


def delete_attempt(target: Target) -> bool:
    """As `kubectl delete pod`: dbt gets SIGTERM, and cancels its queries."""
    return _delete(target, target.attempt(), target.namespace)


def force_delete_attempt(target: Target) -> bool:
    """The pod's object is gone at once, and its log with it; its process lives a moment longer."""
    return _delete(target, target.attempt(), target.namespace, *FORCE)


def exhaust_memory(target: Target) -> bool:
    """The kernel kills dbt because its container's memory is used up."""
    pod = target.attempt()
    pid = target.cluster.process(pod) if pod else None
    return pid is not None and memory.exhaust(pid)


def _job(target: Target) -> dict[str, Any] | None:
    """The Job of one of the run's pods, where it is still there."""
    pod = target.attempt()
    name = pod["metadata"]["labels"].get("batch.kubernetes.io/job-name") if pod else None
    return target.cluster.read(f"/apis/batch/v1/namespaces/{target.namespace}/jobs/{name}") if name else None


def create_job_anew(target: Target) -> bool:
    """As when a request to create it comes late: its first pod is left alone, and Kubernetes makes a second one."""
    job = _job(target)
    if job is None or "deletionTimestamp" in job["metadata"]:
        return False
    name, mine = job["metadata"]["name"], ("-n", target.namespace)
    metadata = {key: job["metadata"][key] for key in ("name", "namespace", "labels", "ownerReferences")}
    spec = {key: value for key, value in job["spec"].items() if key != "selector"}
    for one in (metadata, spec["template"]["metadata"]):  # less what the API server has added of the first one
        one["labels"] = {k: v for k, v in one["labels"].items() if not k.endswith(("controller-uid", "job-name"))}
    again = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    target.cluster.kubectl("delete", "job", name, *mine, "--cascade=orphan")
    target.cluster.kubectl("create", "-f", "-", stdin=json.dumps(again))
    return True


def suspend_job(target: Target) -> bool:
    """As a queueing system that gives the place of a Job to another one: its pod is told to stop."""
    job = _job(target)
    if job is None:
        return False
    patch = ("--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    target.cluster.kubectl("patch", "job", job["metadata"]["name"], "-n", target.namespace, *patch)
    return True


def _evict(target: Target, pod: dict[str, Any], namespace: str) -> None:
    metadata = {"name": pod["metadata"]["name"], "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{namespace}/pods/{metadata['name']}/eviction"
    target.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def drain(target: Target) -> bool:
    """The run's pods are evicted, every other time the operator too, and for a moment no pod finds a node."""
    pods = [(pod, target.namespace) for pod in target.attempts()]
    operator = target.cluster.operator_pod() if target.choice % 2 else None
    pods += [(operator, SYSTEM)] if operator else []
    if not pods:
        return False
    target.cluster.kubectl("cordon", NODE_NAME)
    try:
        for pod, namespace in pods:
            _evict(target, pod, namespace)
        time.sleep(CORDONED_SECONDS)
    finally:
        target.cluster.kubectl("uncordon", NODE_NAME)
    return True


def restart_kubelet(target: Target) -> bool:
    """Every other time it is killed. Pods go on, log streams break."""
    target.cluster.restart("kubelet", patience=15 * (target.choice % 2))
    return True


def restart_api_server(target: Target) -> bool:
    """Every other time it is killed. Nobody gets an answer for some seconds."""
    target.cluster.restart("kube-apiserver", patience=15 * (target.choice % 2))
    return True


def _etcd(path: str, body: dict[str, object]) -> dict[str, Any]:
    request = urllib.request.Request(f"{ETCD_URL}{path}", data=json.dumps(body).encode())  # noqa: S310 - http, our own
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def compact_etcd(target: Target) -> bool:
    """All history goes, and the API server's memory of it: whoever watches has to list again (410 Gone)."""
    try:
        revision = _etcd("/v3/maintenance/status", {})["header"]["revision"]
        _etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        _etcd("/v3/maintenance/defragment", {})
    except (urllib.error.URLError, OSError):
        return False
    target.cluster.restart("kube-apiserver", patience=0)
    return True


def restart_etcd(target: Target) -> bool:
    """Killed: the API server answers with errors until it is back."""
    target.cluster.restart("etcd", patience=0)
    return True


def cut_log_streams(target: Target) -> bool:
    """The connections between the API server and the kubelet break, and with them all logs that are followed."""
    del target
    to_kubelet = f"( dport = :{KUBELET_PORT} )"
    return succeeds(["ss", "-K", "-tn", "state", "established", "dst", network.node_address(), to_kubelet])


def _log_file(target: Target, pod: dict[str, Any]) -> Path:
    folder = f"{target.namespace}_{pod['metadata']['name']}_{pod['metadata']['uid']}"
    return target.cluster.settings.pod_logs / folder / "dbt" / "0.log"


def rotate_log(target: Target) -> bool:
    """The pod seems to say more than the kubelet keeps in one file: it moves the file aside, with dbt's words in it."""
    pod = target.attempt()
    log = _log_file(target, pod) if pod else None
    if log is None or not log.exists():
        return False
    before = log.stat().st_ino
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime())
    line = f"{stamp} stdout F {'much was said ' * 500}\n"
    with log.open("a") as file:
        for _ in range(ROTATION_SIZE // len(line)):
            file.write(line)
    deadline = time.monotonic() + 12
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            if log.stat().st_ino != before:
                return True
        except FileNotFoundError:
            continue  # between the old and the new file, or the pod is gone
    return False


def _wrong_clock(target: Target, *, hours: int) -> bool:
    if not clock.set_clock(target.cluster, hours=hours):
        return False
    time.sleep(WRONG_CLOCK_SECONDS)
    clock.set_clock(target.cluster, hours=0)
    return True


def clock_ahead(target: Target) -> bool:
    """The operator's clock is an hour ahead for some seconds."""
    return _wrong_clock(target, hours=1)


def clock_behind(target: Target) -> bool:
    """The operator's clock is an hour behind for some seconds; a young cluster's certificates do not hold then yet."""
    return _wrong_clock(target, hours=-1)


def _run(target: Target) -> dict[str, Any] | None:
    path = f"/apis/dbt-operator.io/v1alpha1/namespaces/{target.namespace}/dbtruns/{target.run}"
    return target.cluster.read(path)


def _is_live(target: Target) -> bool:
    found = _run(target)
    return found is not None and "completionTime" not in found.get("status", {})


def _suspend(target: Target, *, wanted: bool) -> None:
    patch = json.dumps({"spec": {"suspend": wanted}})
    target.cluster.kubectl("patch", "dbtrun", target.run, "-n", target.namespace, "--type=merge", "-p", patch)


def suspend(target: Target) -> bool:
    """A person suspends the run, and soon goes on with it."""
    if not _is_live(target):
        return False
    _suspend(target, wanted=True)
    time.sleep(SUSPENDED_SECONDS)
    _suspend(target, wanted=False)
    return True


def _failed_model(target: Target) -> str | None:
    path = f"/apis/dbt-operator.io/v1alpha1/namespaces/{target.namespace}/dbtmodels"
    models = (target.cluster.read(path) or {}).get("items", ())
    failed = sorted(one["metadata"]["name"] for one in models if one.get("status", {}).get("phase") == "Failed")
    return failed[target.choice % len(failed)] if failed else None


def ask_for_retry(target: Target) -> bool:
    """A person asks for a retry in the middle of the run: of a node that has failed, else of all that is left."""
    if not _is_live(target):
        return False
    model = _failed_model(target)
    asked = ("dbtmodel", model) if model is not None else ("dbtrun", target.run)
    token = f"{RETRY_ANNOTATION}=asked-{time.monotonic_ns()}"
    target.cluster.kubectl("annotate", *asked, "-n", target.namespace, "--overwrite", token)
    return True


FAULTS: dict[str, Fault] = {
    "operator-kill": Fault(act=kill_operator, everywhere=True),
    "operator-delete": Fault(act=delete_operator, everywhere=True),
    "operator-force-delete": Fault(act=force_delete_operator, everywhere=True),
    "operator-connections": Fault(act=cut_operator_connections, everywhere=True),
    "clock-ahead": Fault(act=clock_ahead, everywhere=True, waits=False),
    "clock-behind": Fault(act=clock_behind, everywhere=True, waits=False),
    "attempt-kill": Fault(act=kill_attempt),
    "attempt-delete": Fault(act=delete_attempt),
    "attempt-force-delete": Fault(act=force_delete_attempt),
    "attempt-memory": Fault(act=exhaust_memory),
    "job-anew": Fault(act=create_job_anew),
    "job-suspend": Fault(act=suspend_job),
    "drain": Fault(act=drain, everywhere=True),
    "kubelet-restart": Fault(act=restart_kubelet, everywhere=True),
    "api-server-restart": Fault(act=restart_api_server, everywhere=True),
    "etcd-restart": Fault(act=restart_etcd, everywhere=True),
    "etcd-compaction": Fault(act=compact_etcd, everywhere=True),
    "log-cut": Fault(act=cut_log_streams, everywhere=True),
    "log-rotation": Fault(act=rotate_log),
    "suspend": Fault(act=suspend),
    "retry": Fault(act=ask_for_retry),
}
