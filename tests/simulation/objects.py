"""The objects of the simulated API, and what it shows of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any

from dbt_operator.api import names
from dbt_operator.api.names import GATE
from dbt_operator.api.spec import PerNode
from dbt_operator.api.values import format_time
from dbt_operator.dbt.found import COMMIT
from dbt_operator.kube.resources import Object
from dbt_operator.plan.attempt import Decision, Recorded
from dbt_operator.plan.facts import LABEL_JOB_NAME
from tests.simulation.process import Process
from tests.simulation.scenario import Scenario
from tests.simulation.world import World

NAMESPACE, RUN, RUN_UID = "data", "r", "run-uid"
_LABEL = "ci/pull-request"
_OWNER = {"kind": "DbtRun", "name": RUN, "uid": RUN_UID}


@dataclass
class Pod:
    """A pod, and the process that may outlive its object by the grace period."""

    name: str
    job: "Job"
    created: int
    held: bool = False
    start: Callable[[], None] = lambda: None  # what becomes of it when it is released
    process: Process | None = None
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    started: int | None = None
    terminated: tuple[int, str] | None = None  # exit code and reason
    ended: int | None = None
    phase: str = "Pending"
    disruption: str | None = None
    deleting: bool = False
    removed: bool = False
    unreachable: bool = False  # its node is gone, which nobody has noticed

    @property
    def over(self) -> bool:
        """Whether nothing of it lives; the kubelet tells of a process's end a moment later."""
        ended = self.process is not None and not self.process.alive
        return ended or self.removed or self.terminated is not None

    def shown(self) -> Object:
        """What the API shows."""
        metadata = _metadata(self.name, self.created, deleting=self.deleting)
        metadata["labels"][LABEL_JOB_NAME] = self.job.name
        metadata["labels"]["batch.kubernetes.io/controller-uid"] = self.job.uid
        spec: Object = {"schedulingGates": [{"name": GATE}]} if self.held else {"nodeName": "node-1"}
        status: Object = {"phase": self.phase, "containerStatuses": [{"name": "dbt", "state": self._state()}]}
        if self.process is not None:
            message = json.dumps({"found": {COMMIT: self.process.commit}})
            ended = {"terminated": {"exitCode": 0, "reason": "Completed", "message": message}}
            status["initContainerStatuses"] = [{"name": f"{names.RESERVED_PREFIX}fetch", "state": ended}]
        if self.disruption is not None:
            status["conditions"] = [{"type": "DisruptionTarget", "status": "True", "message": self.disruption}]
        return {"metadata": metadata, "spec": spec, "status": status}

    def _state(self) -> Object:
        if self.terminated is not None:
            code, reason = self.terminated
            times = {"startedAt": _time(self.started), "finishedAt": _time(self.ended)}
            return {"terminated": {"exitCode": code, "reason": reason} | times}
        if self.started is not None:
            return {"running": {"startedAt": _time(self.started)}}
        if self.waiting is not None:
            return {"waiting": dict(zip(("reason", "message"), self.waiting, strict=True))}
        return {}


@dataclass
class Job:
    """A Job of the run."""

    name: str
    number: int
    decision: Decision
    created: int
    suspended: bool = False
    deleting: bool = False
    removed: bool = False
    failed: bool = False
    complete: bool = False
    refusal: str | None = None
    pods: list[Pod] = field(default_factory=list)

    @property
    def uid(self) -> str:
        """Told from others that had its name before."""
        return f"{self.name}/{self.number}"

    def shown(self) -> Object:
        """What the API shows."""
        ends = {"Failed": self.failed, "Complete": self.complete}
        conditions = [
            {"type": kind, "status": "True", "message": "BackoffLimitExceeded"} for kind, so in ends.items() if so
        ]
        metadata = _metadata(self.name, self.created, deleting=self.deleting) | {"uid": self.uid}
        return {"metadata": metadata, "spec": {"suspend": self.suspended}, "status": {"conditions": conditions}}

    def events(self) -> list[Object]:
        """What the API tells of it beside that."""
        return [{"reason": "FailedCreate", "message": self.refusal}] if self.refusal is not None else []


def _metadata(name: str, created: int, *, deleting: bool) -> Object:
    gone = {"deletionTimestamp": _time(created)} if deleting else {}
    times = {"creationTimestamp": _time(created)} | gone
    labels = {names.LABEL_RUN_UID: RUN_UID}
    return {"name": name, "namespace": NAMESPACE, "uid": name, "labels": labels, "ownerReferences": [_OWNER]} | times


@lru_cache(maxsize=1000)  # each look shows the times of all objects again
def _time(ms: int | None) -> str | None:
    return None if ms is None else format_time(World.moment(ms))


@dataclass
class Record:
    """The record of an attempt."""

    content: Recorded
    version: int = 0
    lines: int = 0  # of the log, of which the checkpoint tells

    @property
    def decision(self) -> Decision:
        """What was decided."""
        return self.content.decision

    def change(self, **what: Any) -> None:
        """Store a part of it."""
        self.content = replace(self.content, **what)
        self.version += 1


def run_manifest(scenario: Scenario) -> Object:
    """The DbtRun of a scenario."""
    rules = scenario.rules
    retry, backoff = rules.retry.model_dump(mode="json", by_alias=True, exclude={"backoff"}), rules.retry.backoff
    pauses = {"duration": _duration(backoff.duration), "factor": backoff.factor, "max": _duration(backoff.max)}
    spec: Object = {
        "command": scenario.project.command.value,
        "tests": scenario.project.tests.value,
        "mode": scenario.project.mode.value,
        "perNode": (rules.per_node or PerNode()).model_dump(mode="json", by_alias=True),
        "image": "shop:1",
        "project": {"image": {"path": "/dbt"}},
        "profile": {"inProject": True},
        "podTemplate": {"spec": {"terminationGracePeriodSeconds": int(rules.grace.total_seconds())}},
        "producer": {
            "maxRestarts": rules.max_restarts,
            "startDeadlineSeconds": int(rules.start_deadline.total_seconds()),
        },
        "retry": retry | {"backoff": pauses},
        "failFast": rules.fail_fast,
        "nodes": [item.model_dump(mode="json", by_alias=True, exclude_unset=True) for item in rules.nodes],
    }
    if rules.active_deadline is not None:
        spec["activeDeadlineSeconds"] = int(rules.active_deadline.total_seconds())
    if rules.ttl is not None:
        spec["ttlSecondsAfterFinished"] = int(rules.ttl.total_seconds())
    return _run(RUN, uid=RUN_UID, created="2026-11-20T03:00:00Z", spec=spec)


def newer_manifest() -> Object:
    """A DbtRun that supersedes it."""
    return _run("newer", uid="uid-of-newer", created="2026-11-20T03:00:01Z", spec={"supersedes": {"label": _LABEL}})


def _run(name: str, *, uid: str, created: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE, "uid": uid, "creationTimestamp": created, "generation": 1}
    metadata |= {"annotations": {}, "labels": {_LABEL: "17"}}
    return {"apiVersion": names.API_VERSION, "kind": "DbtRun", "metadata": metadata, "spec": spec, "status": {}}


def _duration(duration: timedelta) -> str:
    return f"{duration.total_seconds():.0f}s"
