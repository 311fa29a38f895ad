"""Compares what the objects of a run show with what the warehouse and dbt say. Pure.

dbt executes a node at least once, no more can be had: where a pod dies between the commit of a node and dbt's word of
it, the next attempt executes the node again, rightly. Such repetitions are counted apart from wrong ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dev.chaos.evidence import Evidence, Execution, Try, unhandled
from dev.chaos.plan import Plan
from dev.chaos.project import NODES

TERMINAL = ("Succeeded", "Failed", "Skipped", "Cancelled")
STORED_WITHIN = timedelta(seconds=8)
"""How soon an undisturbed operator has stored what dbt says: it makes a checkpoint every five seconds, if it can."""
RECOVERY = timedelta(seconds=25)
"""How long after a disturbance the operator may still be on its way back: the kubelet waits before it restarts it."""
GOOD = ("success", "pass", "warn", "no-op")
BAD = ("error", "fail", "partial success", "runtime error")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Sentences about one run. Only `repeated`, `unread` and `renewed` are as they should be.

    wrong: what is shown is not what is; lost: shown as done and not in the warehouse; doubled: executed again although
    it was known to be done; overlapped: by two processes at once; repeated: committed, and then the pod was lost before
    dbt could say so; unread: said before an operator that was then disturbed had stored it, perhaps after it was shown,
    and then the log was lost with its pod, or rotated;
    renewed: something that the node reads was executed again, and so it was, too.
    """

    wrong: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    overlapped: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything is as it should be."""
        return not (self.wrong or self.lost or self.doubled or self.overlapped)


def examine(evidence: Evidence, plan: Plan) -> Findings:
    """All that can be said of a run that has come to its end."""
    again = list(_executed_again(evidence, plan))

    def called(wanted: str) -> tuple[str, ...]:
        return tuple(sentence for kind, _, sentence in again if kind == wanted)

    again_rightly = {node for kind, node, _ in again if kind == "renewed"} | plan.nulls.keys()
    return Findings(
        wrong=(
            *_run(evidence, plan),
            *_nodes(evidence, plan, again=again_rightly),
            *_reports(evidence),
            *_results(evidence),
        ),
        lost=tuple(_lost(evidence)),
        doubled=called("doubled"),
        overlapped=tuple(
            f"{one.node} was begun at {one.at:%X.%f} while somebody else had it"
            for one in evidence.tries
            if not one.alone
        ),
        repeated=called("repeated"),
        unread=called("unread"),
        renewed=called("renewed"),
    )


def expected_phases(models: Mapping[str, Mapping[str, Any]], plan: Plan) -> dict[str, str]:
    """How each node has to end, whatever happened on the way; models: the objects by unique id."""
    blocked: set[str] = set()
    broken = {unique_id for unique_id, model in models.items() if model["spec"]["name"] == plan.broken}
    grown = True
    while grown:
        more = {
            unique_id
            for unique_id, model in models.items()
            if set(model["spec"].get("dependsOn", ())) & (broken | blocked) and unique_id not in blocked
        }
        blocked |= more
        grown = bool(more)
    return {
        unique_id: "Failed" if unique_id in broken else "Skipped" if unique_id in blocked else "Succeeded"
        for unique_id in models
    }


def _phase(model: Mapping[str, Any]) -> str:
    return str(model.get("status", {}).get("phase", "without a phase"))


def _why(status: Mapping[str, Any]) -> str:
    """Reason and the beginning of the message, on one line."""
    return f"{status.get('reason')}: {' '.join(str(status.get('message', '')).split())[:160]}"


def _names(evidence: Evidence, phase: str) -> set[str]:
    return {model["spec"]["name"] for model in evidence.models if _phase(model) == phase}


def _run(evidence: Evidence, plan: Plan) -> Iterator[str]:
    """The run as a whole."""
    status = evidence.run.get("status", {})
    if "completionTime" not in status:
        yield f"the run did not end: it is {status.get('phase')} ({_why(status)})"
        return
    phase = "Failed" if plan.broken else "Succeeded"
    reason = "NodesFailed" if plan.broken else "AllSucceeded"
    if (status["phase"], status["reason"]) != (phase, reason):
        yield f"the run is {status['phase']} ({_why(status)}), and should be {phase}"
    for document in (evidence.run, *evidence.models):
        if unhandled(document) is not None:
            yield f"the retry {unhandled(document)} of {document['metadata']['name']} was asked for and not handled"
    counts = Counter(_phase(model).lower() for model in evidence.models)
    shown = status.get("nodes", {})
    if any(shown.get(key, 0) != counts.get(key, 0) for key in ("succeeded", "failed", "skipped", "cancelled")):
        yield f"the run counts {shown}, its nodes are {dict(counts)}"
    for pod in evidence.live:
        yield f"pod {pod} is alive after the end of the run"


def _nodes(evidence: Evidence, plan: Plan, *, again: Set[str]) -> Iterator[str]:
    """Each node, against how it has to end and how it was shown before; again: those that rightly began once more."""
    if len(evidence.models) != NODES:
        yield f"there are {len(evidence.models)} DbtModels for {NODES} nodes"
    models = {model["spec"]["uniqueId"]: model for model in evidence.models}
    for unique_id, expected in expected_phases(models, plan).items():
        model = models[unique_id]
        status = model.get("status", {})
        if _phase(model) not in TERMINAL:
            yield f"{model['spec']['name']} has no end: it is {_phase(model)}"
        elif _phase(model) != expected:
            yield f"{model['spec']['name']} is {_phase(model)} ({_why(status)}), and should be {expected}"
    for name, phase in evidence.stored.lost_again.items():
        if name not in again and not _forgotten(evidence, name):
            yield f"{name} was shown as Succeeded, and then as {phase}"


def _reports(evidence: Evidence) -> Iterator[str]:
    """The objects against dbt's own words."""
    in_order = sorted(evidence.reports, key=lambda report: report.at)
    good = {report.unique_id for report in in_order if report.status in GOOD}
    last = {report.unique_id: report.status for report in in_order}
    for model in evidence.models:
        if _phase(model) != "Succeeded":
            continue
        name, shown = model["spec"]["name"], model["status"].get("tests", {}).get("passed", 0)
        tests = [test["uniqueId"] for test in model["spec"].get("tests", ())]
        passed = sum(last.get(test) == "pass" for test in tests)
        if model["spec"]["uniqueId"] not in good:
            yield f"{name} is Succeeded, and dbt never said so"
        if not shown == passed == len(tests):
            yield f"{name} is Succeeded and shows {shown} of {len(tests)} tests as passed; dbt said so of {passed}"


def _results(evidence: Evidence) -> Iterator[str]:
    """The objects against the results of the whole run that are kept for dbt's readers."""
    results = evidence.results
    for model in evidence.models:
        phase, status = _phase(model), results.get(model["spec"]["uniqueId"])
        tests = {results.get(test["uniqueId"]) for test in model["spec"].get("tests", ())}
        agree = {
            "Succeeded": status in GOOD and not tests & set(BAD),
            "Failed": status in BAD or bool(tests & set(BAD)),
            "Skipped": status == "skipped",
        }
        if not agree.get(phase, True):
            yield f"{model['spec']['name']} is {phase}, and in run_results.json {status}, its tests {tests or 'none'}"


def _lost(evidence: Evidence) -> Iterator[str]:
    executed = {one.node for one in evidence.executions}
    for name in sorted(_names(evidence, "Succeeded") - executed):
        yield f"{name} is Succeeded and was never executed"


def _executed_again(evidence: Evidence, plan: Plan) -> Iterator[tuple[str, str, str]]:
    """What was begun again after the warehouse had committed it: (the kind of finding, name of the node, sentence).

    A model whose test fails is built again: that is what was asked for.
    """
    said = {(report.name, report.invocation): report.at for report in evidence.reports if report.status in GOOD}
    committed: dict[str, Execution] = {}
    done = iter(evidence.executions)
    following = next(done, None)
    for one in evidence.tries:
        while following is not None and following.at <= one.at:
            committed[following.node] = following
            following = next(done, None)
        before = committed.get(one.node)
        if before is not None and one.node not in plan.nulls:
            kind, sentence = _judge(evidence, one, before, said=said.get((one.node, before.invocation)))
            yield kind, one.node, sentence


def _read_by(evidence: Evidence, name: str) -> frozenset[str]:
    """Names of all nodes that a node reads, directly or not."""
    models = {model["spec"]["uniqueId"]: model["spec"] for model in evidence.models}
    found: set[str] = set()
    wanted = [one for one, spec in models.items() if spec["name"] == name]
    while wanted:
        above = [one for one in models.get(wanted.pop(), {}).get("dependsOn", ()) if one in models and one not in found]
        found.update(above)
        wanted += above
    return frozenset(models[one]["name"] for one in found)


def _judge(evidence: Evidence, again: Try, before: Execution, *, said: datetime | None) -> tuple[str, str]:
    sentence = f"{again.node} was executed at {before.at:%X.%f} and begun again at {again.at:%X.%f}"
    read = _read_by(evidence, again.node)
    if any(one.node in read and before.at < one.at <= again.at for one in evidence.tries):
        return "renewed", f"{sentence}, as something that it reads was"
    excused = said is not None and before.invocation in evidence.gone and _disturbed(evidence, said)
    kind = "unread" if excused else "doubled"
    since = evidence.stored.since.get(again.node)
    if since is not None and since < again.at:
        return kind, f"{sentence}, and shown as Succeeded since {since:%X.%f}"
    if said is not None:
        return kind, f"{sentence}, and dbt had said at {said:%X.%f} that it was done"
    if before.invocation in evidence.finished:
        return "doubled", f"{sentence}, and the dbt process in between came to its end without a word of it"
    return "repeated", sentence


def _disturbed(evidence: Evidence, moment: datetime) -> bool:
    """Whether the operator had perhaps not stored what was said at the moment."""
    return any(since <= moment + STORED_WITHIN and moment <= until + RECOVERY for since, until in evidence.disturbed)


def _forgotten(evidence: Evidence, name: str) -> bool:
    """Whether a good report of a node may have gone, with its log, before it was stored."""
    good = (report for report in evidence.reports if report.name == name and report.status in GOOD)
    return any(report.invocation in evidence.gone and _disturbed(evidence, report.at) for report in good)
