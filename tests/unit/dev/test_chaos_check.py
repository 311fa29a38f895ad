"""The check of disturbed runs: every kind of wrong state is found, and what has to be repeated is not called wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dev.chaos.check import Findings, examine, expected_phases
from dev.chaos.evidence import Evidence, Execution, Report, Stored, Try
from dev.chaos.plan import Plan
from dev.chaos.project import MODELS, NODES, SEEDS

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = (*(f"seed_{number}" for number in range(1, SEEDS + 1)), *MODELS)
NODE = "layer1_02"
PLAN = Plan(number=0, moments=(), flaky={}, nulls={}, broken=None)
FIRST, SECOND = "invocation-1", "invocation-2"


def _at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def _model(name: str, **status: Any) -> dict[str, Any]:
    spec = {"name": name, "uniqueId": f"model.chaos.{name}", "dependsOn": [], "tests": []}
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {"phase": "Succeeded", "tests": {"total": 0, "passed": 0}, **status},
    }


def _report(name: str, *, invocation: str = FIRST, status: str = "success") -> Report:
    return Report(
        unique_id=f"model.chaos.{name}",
        name=name,
        status=status,
        invocation=invocation,
        at=_at(3),
    )


def _good() -> Evidence:
    """A run in which all went well at once."""
    status = {
        "phase": "Succeeded",
        "reason": "AllSucceeded",
        "completionTime": "2026-01-01T00:01:00Z",
        "nodes": {"succeeded": NODES},
    }
    return Evidence(
        run={"metadata": {}, "status": status},
        models=[_model(name) for name in NAMES],
        tries=[Try(node=name, at=_at(1), invocation=FIRST, alone=True) for name in NAMES],
        executions=[Execution(node=name, at=_at(2), invocation=FIRST) for name in NAMES],
        reports=[_report(name) for name in NAMES],
        stored=Stored(since=dict.fromkeys(NAMES, _at(3)), lost_again={}),
        results={f"model.chaos.{name}": "success" for name in NAMES},
        finished=frozenset({FIRST}),
    )


def _with_status(evidence: Evidence, **status: Any) -> Evidence:
    return replace(evidence, run={**evidence.run, "status": {**evidence.run["status"], **status}})


def _with_model(evidence: Evidence, model: dict[str, Any]) -> Evidence:
    others = [one for one in evidence.models if one["spec"]["name"] != model["spec"]["name"]]
    return replace(evidence, models=[*others, model])


def _begun_again(evidence: Evidence) -> Evidence:
    again = Try(node=NODE, at=_at(10), invocation=SECOND, alone=True)
    return replace(evidence, tries=[*evidence.tries, again])


def _unseen(evidence: Evidence) -> Evidence:
    """The node was not yet shown as Succeeded when it was begun again."""
    return replace(evidence, stored=Stored(since={**evidence.stored.since, NODE: _at(20)}, lost_again={}))


def _unsaid(evidence: Evidence) -> Evidence:
    reports = [one for one in evidence.reports if one.name != NODE]
    return replace(evidence, reports=[*reports, _report(NODE, invocation=SECOND)])


def _tested(*, passed: int, said: str) -> Evidence:
    """The node has a test, of which dbt has said something at last."""
    model = _model(NODE, tests={"total": 1, "passed": passed})
    model["spec"]["tests"] = [{"uniqueId": "test.chaos.t"}]
    words = [replace(_report(NODE, status=status), unique_id="test.chaos.t") for status in ("fail", said)]
    return _with_model(replace(_good(), reports=[*_good().reports, *words]), model)


def test_a_test_that_passed_in_the_end_is_right() -> None:
    assert examine(_tested(passed=1, said="pass"), PLAN).clean


def test_nothing_is_wrong_with_a_good_run() -> None:
    assert examine(_good(), PLAN) == Findings()


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [
        (_with_status(_good(), phase="Failed"), "the run is Failed"),
        (_with_status(_good(), nodes={"succeeded": 3}), "the run counts"),
        (replace(_good(), run={"metadata": {}, "status": {"phase": "Running"}}), "the run did not end"),
        (replace(_good(), live=["chaos-retry-1"]), "pod chaos-retry-1 is alive"),
        (replace(_good(), models=_good().models[1:]), "60 DbtModels for 61 nodes"),
        (_with_model(_good(), _model(NODE, phase="Running")), f"{NODE} has no end"),
        (_with_model(_good(), _model(NODE, phase="Failed", reason="Lost")), f"{NODE} is Failed (Lost"),
        (_unsaid(replace(_good(), reports=[])), "dbt never said so"),
        (
            replace(_good(), stored=Stored(since={}, lost_again={NODE: "Pending (None)"})),
            f"{NODE} was shown as Succeeded, and then as Pending",
        ),
        (replace(_good(), results={}), f"{NODE} is Succeeded, and in run_results.json None"),
        (
            replace(_good(), results={**_good().results, f"model.chaos.{NODE}": "error"}),
            f"{NODE} is Succeeded, and in run_results.json error",
        ),
        (_tested(passed=1, said="fail"), f"{NODE} is Succeeded and shows 1 of 1 tests as passed; dbt said so of 0"),
        (_tested(passed=0, said="pass"), f"{NODE} is Succeeded and shows 0 of 1 tests as passed; dbt said so of 1"),
    ],
)
def test_a_wrong_state_is_found(*, evidence: Evidence, sentence: str) -> None:
    findings = examine(evidence, PLAN)
    assert any(sentence in one for one in findings.wrong), findings
    assert not findings.clean


def test_a_retry_that_was_not_handled_is_wrong() -> None:
    metadata = {"name": "chaos", "annotations": {"dbt-operator.io/retry": "now"}}
    asked = replace(_good(), run={**_good().run, "metadata": metadata})
    assert "not handled" in examine(asked, PLAN).wrong[0]
    assert examine(_with_status(asked, handledRetry="now"), PLAN).clean
    model = {**_model(NODE), "metadata": metadata}
    assert "not handled" in examine(_with_model(_good(), model), PLAN).wrong[0]


def test_shown_as_done_and_never_executed_is_lost() -> None:
    executions = [one for one in _good().executions if one.node != NODE]
    assert len(examine(replace(_good(), executions=executions), PLAN).lost) == 1


def test_begun_again_although_it_was_shown_as_done_is_doubled() -> None:
    findings = examine(_begun_again(_good()), PLAN)
    assert len(findings.doubled) == 1
    assert not findings.clean


def test_committed_and_not_said_before_the_pod_was_lost_is_repeated_rightly() -> None:
    lost = replace(_unseen(_unsaid(_begun_again(_good()))), finished=frozenset())
    findings = examine(lost, PLAN)
    assert len(findings.repeated) == 1
    assert findings.clean


def test_not_said_by_a_process_that_came_to_its_end_is_doubled() -> None:
    assert len(examine(_unseen(_unsaid(_begun_again(_good()))), PLAN).doubled) == 1


def test_said_in_a_log_that_went_with_its_pod_is_unread() -> None:
    disturbed = [(_at(2), _at(2.5))]
    gone = replace(_unseen(_begun_again(_good())), gone=frozenset({FIRST}), disturbed=disturbed)
    findings = examine(gone, PLAN)
    assert len(findings.unread) == 1
    assert findings.clean


@pytest.mark.parametrize(
    "evidence",
    [
        replace(_unseen(_begun_again(_good())), disturbed=[(_at(2), _at(2.5))]),
        replace(_unseen(_begun_again(_good())), gone=frozenset({FIRST}), disturbed=[(_at(12), _at(13))]),
    ],
    ids=["the log is there", "nothing hindered the operator when it was said"],
)
def test_said_in_a_log_that_could_be_read_is_doubled(evidence: Evidence) -> None:
    assert len(examine(evidence, PLAN).doubled) == 1


FORGOTTEN = replace(
    _good(),
    stored=Stored(since={}, lost_again={NODE: "Running (None)"}),
    gone=frozenset({FIRST}),
    disturbed=[(_at(8), _at(9))],
)
"""The log was rotated, and the operator died before it had stored what it had read and shown."""


def test_what_was_shown_and_not_stored_may_be_forgotten_with_its_log() -> None:
    assert examine(FORGOTTEN, PLAN).clean


@pytest.mark.parametrize(
    "evidence",
    [
        replace(FORGOTTEN, gone=frozenset()),
        replace(FORGOTTEN, disturbed=[(_at(12), _at(13))]),
        replace(FORGOTTEN, disturbed=[]),
    ],
    ids=["the log is there", "it was stored long before", "the operator went on"],
)
def test_what_was_stored_or_can_be_read_again_stays(evidence: Evidence) -> None:
    assert len(examine(evidence, PLAN).wrong) == 1


def _reading(evidence: Evidence, *above: str) -> Evidence:
    """The node reads others."""
    model = _model(NODE)
    model["spec"]["dependsOn"] = [f"model.chaos.{name}" for name in above]
    return _with_model(evidence, model)


def test_begun_again_after_something_that_it_reads_is_right_and_may_be_shown() -> None:
    begun = _reading(_begun_again(_good()), "seed_1")
    above = Try(node="seed_1", at=_at(9), invocation=SECOND, alone=True)
    shown = Stored(since=begun.stored.since, lost_again={NODE: "Running (None)"})
    findings = examine(replace(begun, tries=[*_good().tries, above, begun.tries[-1]], stored=shown), PLAN)
    assert len(findings.renewed) == 1
    assert findings.wrong == ()
    assert len(findings.doubled) == 1, "what is above has no such excuse"


def test_begun_again_after_something_that_it_does_not_read_is_doubled() -> None:
    begun = _reading(_begun_again(_good()), "seed_2")
    above = Try(node="seed_1", at=_at(9), invocation=SECOND, alone=True)
    assert len(examine(replace(begun, tries=[*_good().tries, above, begun.tries[-1]]), PLAN).doubled) == 2


def test_a_model_whose_test_fails_is_built_again_rightly() -> None:
    assert examine(_begun_again(_good()), replace(PLAN, nulls={NODE: 1})).clean


def test_two_at_once_are_found() -> None:
    tries = [replace(one, alone=one.node != NODE) for one in _good().tries]
    assert len(examine(replace(_good(), tries=tries), PLAN).overlapped) == 1


def test_what_a_broken_node_blocks_has_to_be_skipped() -> None:
    models = {name: _model(name) for name in ("a", "b", "c", "d")}
    models["b"]["spec"]["dependsOn"] = ["a"]
    models["c"]["spec"]["dependsOn"] = ["b", "d"]
    expected = expected_phases(models, replace(PLAN, broken="a"))
    assert expected == {"a": "Failed", "b": "Skipped", "c": "Skipped", "d": "Succeeded"}
