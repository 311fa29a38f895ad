"""What is known about a run at one moment, read from its DbtRun and DbtModels. No input or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

ENDED_RUN = ("Succeeded", "Failed", "Cancelled")
ENDED_NODE = ("Succeeded", "Failed", "Skipped", "Cancelled")


@dataclass(frozen=True, slots=True)
class Run:
    """The DbtRun; `seen`: an operator has taken notice of it."""

    name: str
    uid: str
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    pod: str = ""
    seen: bool = False

    @property
    def ended(self) -> bool:
        return self.phase in ENDED_RUN


@dataclass(frozen=True, slots=True)
class Node:
    """A DbtModel."""

    unique_id: str
    name: str
    resource_type: str
    parents: tuple[str, ...] = ()
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    blocked_by: str = ""
    tests: str = ""
    tests_total: int = 0
    tests_ended: int = 0
    started: datetime | None = None
    seconds: float | None = None
    rows: int | None = None

    @property
    def ended(self) -> bool:
        return self.phase in ENDED_NODE

    @property
    def settled(self) -> bool:
        """Ended, and nothing more is to be heard of it: an error text or the results of its tests may come later."""
        if self.phase == "Failed":
            return bool(self.message)
        return self.ended and (self.phase != "Succeeded" or self.tests_ended >= self.tests_total)


@dataclass(frozen=True, slots=True)
class Picture:
    """A run and its nodes, by unique id."""

    run: Run
    nodes: Mapping[str, Node] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """The run has ended, and so has everything that is shown of it: the two come by separate watches."""
        return self.run.ended and all(node.ended for node in self.nodes.values())

    def name_of(self, unique_id: str) -> str:
        node = self.nodes.get(unique_id)
        return node.name if node else unique_id.rpartition(".")[2]


def read_run(document: Mapping[str, Any]) -> Run:
    """A DbtRun as the API server stores it."""
    metadata, status = document["metadata"], document.get("status") or {}
    attempts = status.get("attempts") or ()
    return Run(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        pod=(attempts[-1].get("pod") or "") if attempts else "",
        seen=(status.get("observedGeneration") or 0) > 0,
    )


def read_node(document: Mapping[str, Any]) -> Node:
    """A DbtModel as the API server stores it."""
    spec, status = document["spec"], document.get("status") or {}
    tests = status.get("tests") or {}
    started = status.get("startedAt")
    return Node(
        unique_id=spec["uniqueId"],
        name=spec["name"],
        resource_type=spec["resourceType"],
        parents=tuple(spec.get("dependsOn") or ()),
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        blocked_by=status.get("blockedBy") or "",
        tests=tests.get("summary") or "",
        tests_total=tests.get("total") or 0,
        tests_ended=sum(tests.get(key) or 0 for key in ("passed", "warned", "failed", "errored", "skipped")),
        started=datetime.fromisoformat(started) if started else None,
        seconds=status.get("executionSeconds"),
        rows=status.get("rowsAffected"),
    )


def owned_by(document: Mapping[str, Any], *, uid: str) -> bool:
    """Whether the object belongs to the run with this uid: an older run of the same name may still be going away."""
    return any(owner.get("uid") == uid for owner in document["metadata"].get("ownerReferences") or ())


def see(picture: Picture, *, kind: str, document: Mapping[str, Any]) -> Picture:
    """The picture after an object was added or changed; what belongs to other runs does not change it."""
    if kind == "DbtRun":
        run = read_run(document)
        return replace(picture, run=run) if run.uid == picture.run.uid else picture
    if not owned_by(document, uid=picture.run.uid):
        return picture
    node = read_node(document)
    return replace(picture, nodes={**picture.nodes, node.unique_id: node})


def graph_order(nodes: Mapping[str, Node]) -> list[Node]:
    """Level by level from the roots, by name within a level."""
    depths: dict[str, int] = {}

    def depth(unique_id: str) -> int:
        if unique_id not in depths:
            depths[unique_id] = 0  # so that a cycle, which dbt rules out, could not make this endless
            parents = [parent for parent in nodes[unique_id].parents if parent in nodes]
            depths[unique_id] = 1 + max((depth(parent) for parent in parents), default=-1)
        return depths[unique_id]

    return sorted(nodes.values(), key=lambda node: (depth(node.unique_id), node.name))


def essence(message: str) -> str:
    """The line of an error that says most: dbt's first one often only names the model."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if len(lines) > 1 and " in model " in lines[0]:
        return lines[1]
    return lines[0] if lines else ""
