"""The parts of the time until a node of an attempt begins: from what a watch has shown, and the pod's own events.

All clocks are that of one machine. What a watch shows comes some milliseconds after it has happened, so a part may be
a little shorter, and the one before it longer, than it was.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench import time_of
from benchmarks.charts import Chart
from benchmarks.observing import Change
from benchmarks.results import Row

JOBS, PODS = "/apis/batch/v1", "/api/v1"  # the groups of their watches
OWNERS = ("operator", "Kubernetes", "dbt")
# What ends each part, in its order, and the words for it: who is at work, and at what.
PARTS = {
    "job": "operator: its Job is created",
    "pod": "Kubernetes: its pod is created",
    "released": "operator: the pod's gate is removed",
    "scheduled": "Kubernetes: the pod is scheduled",
    "fetched": "Kubernetes: the project is fetched",
    "RunnerStarted": "Kubernetes: the container runs, and Python",
    "MainReportVersion": "dbt: it is imported",
    "AdapterRegistered": "dbt: its adapter is imported",
    "SelectedNodes": "dbt: the project is parsed, nodes are listed",
    "LogStartLine": "dbt: the node begins",
}


def moments(
    *, job: str, jobs: Iterable[Change], pods: Iterable[Change], events: Sequence[Mapping[str, Any]], node: str = ""
) -> dict[str, float]:
    """When each part of an attempt was over. node: dbt's id of the one that is waited for, else it is the first."""
    of_job = [pod for pod in pods if (pod.found["metadata"].get("labels") or {}).get("job-name") == job]
    found = {
        "job": next(each.at for each in jobs if each.name == job),
        "pod": of_job[0].at,
        "released": _first(of_job, lambda pod: not pod["spec"].get("schedulingGates")),
        "scheduled": _first(of_job, lambda pod: bool(pod["spec"].get("nodeName"))),
    }
    if of_job[0].found["spec"].get("initContainers"):
        found["fetched"] = _first(of_job, _is_initialized)
    for event in events:
        name = event["info"]["name"]
        other = name == "LogStartLine" and node not in ("", event["data"]["node_info"]["unique_id"])
        if name in PARTS and not other:
            found.setdefault(name, time_of(event))
    return found


def lengths(found: Mapping[str, float], *, since: float) -> dict[str, float]:
    """Seconds of each part, in the words for it."""
    measured = {}
    for name, words in PARTS.items():
        if name in found:
            measured[words] = round(found[name] - since, 3)
            since = found[name]
    return measured


def rows(rounds: Sequence[Mapping[str, float]], *, column: str = "") -> Iterator[Row]:
    """A line of a table for each part."""
    for words in rounds[0]:
        yield Row(words, tuple(parts[words] for parts in rounds), "s", column=column)


def chart(title: str, rounds: Sequence[Mapping[str, float]], *, along: str) -> Chart:
    """The medians of all parts, one after the other."""
    medians = {words: statistics.median(parts[words] for parts in rounds) for words in rounds[0]}
    series = {
        owner: tuple(median if words.startswith(f"{owner}:") else None for words, median in medians.items())
        for owner in OWNERS
    }
    return Chart(title, "steps", tuple(medians), series, unit="s", along=along)


def _first(changes: Iterable[Change], holds: Callable[[Mapping[str, Any]], bool]) -> float:
    return next(each.at for each in changes if holds(each.found))


def _is_initialized(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Initialized" and each["status"] == "True" for each in conditions)
