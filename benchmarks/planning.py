"""What one turn of the planner costs: `python -m benchmarks.planning [--models 200,3000] [--attempts 7] [--turns 30]`.

The project is layered, each model reads two of the layer above and has three tests. Its first attempt has failures;
each further attempt executes some nodes again. Between two turns one more node ends, as it does when a line of the log
has been read. Then the same with a pod for each model instead: most of them have ended, ten live, and with each turn
the next one ends and another one is decided on. Measured is the time of the processor, as others may use it, too.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from benchmarks.results import Result, Row, machine
from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import PerNode, Retry, RetryReason
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.history import Reports
from dbt_operator.dbt.state import EMPTY, AttemptState, Ending
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Sealed, Shown
from dbt_operator.plan.observation import Observation, Plan, Rules
from dbt_operator.plan.outcome import Outcome, conclude
from dbt_operator.plan.run import plan_run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WIDTH = 100
PAGE = 20  # nodes in a line
GOALS = {200: 5.0, 3000: 50.0}  # milliseconds, by the number of models
_encode = msgspec.json.Encoder().encode


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", type=_numbers, default=[200, 3000], help="of each project, with commas")
    options.add_argument("--attempts", type=int, default=7)
    options.add_argument("--turns", type=int, default=30)
    given, on = options.parse_args(), machine()
    Result(
        scenario="planning",
        title="A turn of the planner",
        rows=tuple(_rows(given.models, attempts=given.attempts, count=given.turns)),
        notes=f"{given.turns} turns, after a first one that knows nothing yet. The time is that of the processor.",
        machine=on,
    ).save()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _rows(sizes: Sequence[int], *, attempts: int, count: int) -> Iterator[Row]:
    for models in sizes:
        column = f"{models:,} models, {3 * models:,} tests"
        first, *rest = (round(each, 2) for each in turns(models=models, attempts=attempts, count=count + 1))
        yield Row(f"{attempts} attempts, the first turn", (first,), "ms", column=column)
        yield Row(f"{attempts} attempts, each other turn", tuple(rest), "ms", at_most=GOALS.get(models), column=column)
        _, *own = (round(each, 2) for each in turns_per_node(models=models, count=count + 1))
        yield Row("a pod for each node, each other turn", tuple(own), "ms", column=column)


def turns(*, models: int, attempts: int, count: int) -> Iterator[float]:
    """Milliseconds of each turn."""
    nodes = _project(models)
    ended = [_ended(nodes, number) for number in range(1, attempts)]
    live = _listed(nodes)
    order = [node["unique_id"] for node in nodes]
    reports = Reports()
    for done in range(count):
        live = _ends(live, order[done], "success", seq=1000 + done)
        before = time.process_time()
        reports = _plan(ended, live, attempts, reports).history.reports
        yield (time.process_time() - before) * 1000


_LIVE = 10
_WAITING = 50  # models that no pod has begun when the turns begin


def turns_per_node(*, models: int, count: int) -> Iterator[float]:
    """Milliseconds of each turn of a run whose nodes have a pod each."""
    nodes = _project(models)
    said = {"mode": "PerNode"}
    listed = close(state=_listed(nodes, **said), ending=Ending.COMPLETED)
    listing = Decision(index=1, kind=AttemptKind.PRODUCER, name="r-producer-1", stage=Stage.LIST)
    attempts = [_sealed(listing, listed)]
    own: list[list[dict[str, Any]]] = []
    for node in nodes:
        if node["resource_type"] == "model":
            own.append([])
        own[-1].append(node)
    for number, group in enumerate(own[: models - _WAITING]):
        decision = _of_node(number, group)
        if number < models - _WAITING - _LIVE:
            attempts.append(_sealed(decision, _executed(group)))
        else:
            attempts.append(
                Attempt(decision=decision, shown=Shown(created=True, began=NOW), log=LogFacts(_listed(group)))
            )
    retry = Retry(limit=1)
    rules = Rules(
        start_deadline=timedelta(minutes=5), retry=retry, stages=(Stage.LIST, Stage.EXECUTE), per_node=PerNode()
    )
    reports = Reports()
    for _ in range(count):
        at = next(index for index, each in enumerate(attempts) if each.sealed is None)
        attempts[at] = _sealed(attempts[at].decision, _executed(own[at - 1]))
        before = time.process_time()
        observation = Observation(
            run="r", now=NOW, attempts=tuple(attempts), started=True, rules=rules, reports=reports
        )
        plan = plan_run(observation)
        yield (time.process_time() - before) * 1000
        reports = plan.history.reports
        groups = {group[0]["unique_id"]: group for group in own}
        for decision in plan.record:
            (model,) = (one for one in decision.nodes or () if one in groups)
            live = LogFacts(_listed(groups[model]))
            attempts.append(Attempt(decision=decision, shown=Shown(created=True, began=NOW), log=live))


def _of_node(number: int, group: list[dict[str, Any]]) -> Decision:
    nodes = frozenset(each["unique_id"] for each in group)
    name = f"r-node-{number + 1}"
    return Decision(index=number + 2, kind=AttemptKind.NODE, name=name, nodes=nodes, stage=Stage.EXECUTE)


def _executed(group: list[dict[str, Any]]) -> AttemptState:
    state = _listed(group)
    for seq, node in enumerate(group):
        state = _ends(state, node["unique_id"], "success", seq=100 + seq)
    return close(state=state, ending=Ending.COMPLETED)


def _sealed(decision: Decision, state: AttemptState) -> Attempt:
    outcome = Outcome(phase=RunPhase.SUCCEEDED, reason=RunReason.ALL_SUCCEEDED, message="")
    return Attempt(decision=decision, sealed=Sealed(outcome=outcome, state=state, ended_at=NOW, gone=True, started=NOW))


def _plan(ended: list[Attempt], live: AttemptState, attempts: int, reports: Reports) -> Plan:
    name = f"r-producer-{attempts}"
    decision = Decision(index=attempts, kind=AttemptKind.PRODUCER, name=name)
    running = Attempt(decision=decision, shown=Shown(created=True, began=NOW), log=LogFacts(state=live))
    retry = Retry(limit=10, reasons=tuple(RetryReason))
    rules = Rules(start_deadline=timedelta(minutes=5), retry=retry)
    attempted = (*ended, running)
    return plan_run(Observation(run="r", now=NOW, attempts=attempted, started=True, rules=rules, reports=reports))


def _ended(nodes: list[dict[str, Any]], number: int) -> Attempt:
    state = _listed(nodes)
    reports = {}
    for index, node in enumerate(nodes):
        report = "error" if index % 97 == number else "success"
        reports[node["unique_id"]] = report
    for index, (unique_id, report) in enumerate(reports.items()):
        state = _ends(state, unique_id, report, seq=10_000 + index) if index < len(nodes) // number else state
    state = close(state=state, ending=Ending.COMPLETED)
    name = f"r-producer-{number}"
    decision = Decision(index=number, kind=AttemptKind.PRODUCER, name=name)
    outcome = conclude(state=state, pod=None)
    at = NOW - timedelta(hours=10 - number)
    return Attempt(decision=decision, sealed=Sealed(outcome=outcome, state=state, ended_at=at, gone=True, started=at))


def _listed(nodes: list[dict[str, Any]], **said: str) -> AttemptState:
    pages = [nodes[start : start + PAGE] for start in range(0, len(nodes), PAGE)]
    lines = [_line(1, "RunnerStarted", {})]
    for part, page in enumerate(pages, start=1):
        lines.append(_line(part + 1, "SelectedNodes", {"part": part, "parts": len(pages), "nodes": page, **said}))
    return replace(fold_lines(state=EMPTY, lines=lines), adapter="postgres")


def _ends(state: AttemptState, unique_id: str, report: str, *, seq: int) -> AttemptState:
    status = {"success": "pass", "error": "fail"}[report] if unique_id.startswith("test.") else report
    data = {"unique_id": unique_id, "status": status, "message": "boom" if report == "error" else ""}
    return fold_lines(state=state, lines=[_line(seq, "NodeResult", data)])


def _line(seq: int, name: str, data: dict[str, Any]) -> bytes:
    info = {"name": name, "level": "info", "ts": NOW + timedelta(milliseconds=seq), "invocation_id": "i"}
    return _encode({"seq": seq, "info": info, "data": data})


def _project(models: int) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for number in range(models):
        layer, place = divmod(number, WIDTH)
        above = [f"model.p.m{(layer - 1) * WIDTH + (place + step) % WIDTH}" for step in (0, 1)] if layer else []
        name = f"model.p.m{number}"
        nodes.append({"unique_id": name, "resource_type": "model", "name": f"m{number}", "depends_on": above})
        for test in range(3):
            reads = [name] if test < 2 or not above else [name, above[0]]
            unique_id = f"test.p.t{number}_{test}"
            nodes.append({"unique_id": unique_id, "resource_type": "test", "depends_on": reads, "attached_node": name})
    return nodes


if __name__ == "__main__":
    main()
