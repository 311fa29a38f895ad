"""One run of the project `chaos` in a namespace of its own, disturbed as planned, and checked at its end."""

from __future__ import annotations

import base64
import gzip
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from dbt_operator.api.names import GATE, artifacts_name
from dbt_operator.pods.files import RESULTS_FILE
from dev.chaos.check import Findings, examine
from dev.chaos.cluster import ChaosCluster, ChaosError, dump
from dev.chaos.evidence import Evidence
from dev.chaos.faults import FAULTS, Target
from dev.chaos.observer import Observer
from dev.chaos.plan import Moment, Plan
from dev.chaos.project import RUN, manifest
from dev.chaos.warehouse import Warehouse
from dev.cluster.settings import ClusterError

END_SECONDS = 420.0
"""How long a run may take once nothing disturbs it any more."""
QUIET_SECONDS = 2.0
"""How long it has to stay ended: a retry that somebody asked for begins it again."""
_POLL = 0.2


@dataclass(frozen=True, kw_only=True)
class Happened:
    """A fault at its moment. `done`: it found something to disturb; `note`: why it could not be done."""

    moment: Moment
    reported: int
    second: float
    done: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run and what was found; `evidence` is as it was when the run was checked."""

    plan: Plan
    happened: tuple[Happened, ...]
    findings: Findings
    phase: str
    seconds: float
    evidence: Evidence

    @property
    def faults(self) -> int:
        """How many faults really happened."""
        return sum(one.done for one in self.happened)


def disturbed_run(cluster: ChaosCluster, plan: Plan, *, keep: bool = False) -> Outcome:
    """Execute a plan. keep: leave the namespace of a run with wrong findings as it is.

    Raises: ChaosError when the run could not even be begun.
    """
    namespace = f"chaos-{plan.number}-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    outcome = None
    try:
        outcome = _execute(cluster, plan, namespace)
        return outcome
    finally:
        if not keep or (outcome is not None and outcome.findings.clean):
            cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def _execute(cluster: ChaosCluster, plan: Plan, namespace: str) -> Outcome:
    warehouse = Warehouse(cluster=cluster, namespace=namespace)
    warehouse.deploy()
    with Observer(cluster=cluster, namespace=namespace) as observer:
        began = time.monotonic()
        cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=dump(manifest(plan)))
        happened = tuple(_disturb(observer, moment, began=began) for moment in plan.moments)
        _wait_for_end(observer)
        seconds = time.monotonic() - began
    evidence = _collect(cluster, warehouse, observer)
    return Outcome(
        plan=plan,
        happened=happened,
        findings=examine(evidence, plan),
        phase=str(evidence.run.get("status", {}).get("phase")),
        seconds=seconds,
        evidence=evidence,
    )


def _disturb(observer: Observer, moment: Moment, *, began: float) -> Happened:
    """Wait for the moment, unless the run ends before it, and let the fault happen."""
    target = Target(cluster=observer.cluster, namespace=observer.namespace, run=RUN, choice=moment.choice)
    fault = FAULTS[moment.fault]
    while observer.reported < moment.after and not observer.ended:
        time.sleep(_POLL)
    time.sleep(moment.delay)
    if observer.ended:
        return Happened(moment=moment, reported=observer.reported, second=time.monotonic() - began, done=False,
                        note="the run had ended")  # fmt: skip
    with ExitStack() as turn:
        if fault.everywhere and fault.waits:
            turn.enter_context(observer.cluster.turns)
        if fault.everywhere:
            turn.enter_context(observer.cluster.disturbance())
        second, reported, note = time.monotonic() - began, observer.reported, ""
        try:
            done = fault.act(target)
        except (ChaosError, ClusterError, OSError) as error:
            done, note = False, str(error)
    return Happened(moment=moment, reported=reported, second=second, done=done, note=note)


def _wait_for_end(observer: Observer) -> None:
    """Return when the run has ended and stays so, or has had all the time that it may need."""
    deadline = time.monotonic() + END_SECONDS
    since = time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < QUIET_SECONDS:
        time.sleep(_POLL)
        if not observer.ended:
            since = time.monotonic()


def _lives(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has a process, or will have one: its phase may lag behind the end of its only container.

    One that was never released has none; it goes with its Job, a moment after the run's end.
    """
    if any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", ())):
        return False
    states = [one.get("state", {}) for one in pod["status"].get("containerStatuses", ())]
    return pod["status"].get("phase") in ("Pending", "Running") and not any("terminated" in state for state in states)


def _kept_results(cluster: ChaosCluster, namespace: str) -> dict[str, str]:
    """The status of each node in the run_results.json of the run; none where it has kept no such file."""
    find = ("get", "configmap", artifacts_name(RUN), "-n", namespace, "--ignore-not-found", "-o", "json")
    packed = json.loads(cluster.kubectl(*find) or "{}").get("binaryData", {}).get(RESULTS_FILE)
    results = json.loads(gzip.decompress(base64.b64decode(packed)))["results"] if packed else []
    return {str(result["unique_id"]): str(result["status"]) for result in results}


def _collect(cluster: ChaosCluster, warehouse: Warehouse, observer: Observer) -> Evidence:
    namespace = observer.namespace
    pods = cluster.pods(namespace, f"dbt-operator.io/run={RUN}")
    left, logs = {pod["metadata"]["name"] for pod in pods}, observer.logs
    return Evidence(
        run=json.loads(cluster.kubectl("get", "dbtrun", RUN, "-n", namespace, "-o", "json")),
        models=json.loads(cluster.kubectl("get", "dbtmodels", "-n", namespace, "-o", "json"))["items"],
        tries=warehouse.tries(),
        executions=warehouse.executions(),
        reports=tuple(observer.logs.reports),
        stored=observer.stored,
        results=_kept_results(cluster, namespace),
        finished=frozenset(observer.logs.finished),
        gone=frozenset(one for one, pod in logs.pods.items() if pod not in left or pod in logs.rotated),
        disturbed=tuple(cluster.disturbed.copy().items()),
        live=[pod["metadata"]["name"] for pod in pods if _lives(pod)],
    )
