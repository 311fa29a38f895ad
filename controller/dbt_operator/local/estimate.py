"""How long a run will take, by how long its nodes took the last time. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self

import msgspec

from dbt_operator.kube.resources import Object
from dbt_operator.local.picture import Picture

# Of a run that has mostly other nodes nothing is known.
_KNOWN_SHARE = 0.5


class Earlier(msgspec.Struct, frozen=True):
    """How long a run took from its first node on, and how long each of its nodes, by unique id; in seconds."""

    seconds: float
    nodes: dict[str, float]

    @classmethod
    def of(cls, run: Object, models: Iterable[Object]) -> Self | None:
        """What is known of a run that has ended; None where that says nothing of the next one."""
        status = run.get("status") or {}
        done = [model for model in models if (model.get("status") or {}).get("executionSeconds") is not None]
        starts = [model["status"]["startedAt"] for model in done if model["status"].get("startedAt")]
        if status.get("phase") != "Succeeded" or not starts or len(status.get("attempts") or ()) != 1:
            return None
        ended = datetime.fromisoformat(status["completionTime"])
        seconds = (ended - min(map(datetime.fromisoformat, starts))).total_seconds()
        return cls(seconds, {model["spec"]["uniqueId"]: model["status"]["executionSeconds"] for model in done})


def seconds_left(picture: Picture, earlier: Earlier | None, *, now: datetime) -> float | None:
    """About how long the run will go on; None where nothing is known of it.

    The work that is left is to all of the work as the time that is left is to all of the time.
    """
    nodes = picture.nodes.values()
    known: Mapping[str, float] = {} if earlier is None else earlier.nodes
    of_these = [known[node.unique_id] for node in nodes if node.unique_id in known]
    if earlier is None or not of_these or len(of_these) < _KNOWN_SHARE * len(nodes):
        return None
    usual = sum(of_these) / len(of_these)
    total = left = 0.0
    for node in nodes:
        work = known.get(node.unique_id, usual)
        total += work
        if not node.ended:
            begun = (now - node.started).total_seconds() if node.phase == "Running" and node.started else 0.0
            left += max(0.0, work - max(0.0, begun))
    share = left / total if total else 0.0
    # Of a run with other nodes than before, the time goes with the work.
    return share * earlier.seconds * total / (sum(earlier.nodes.values()) or total or 1.0)
