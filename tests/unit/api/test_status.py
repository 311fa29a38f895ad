"""Statuses as they are written: nothing that the apiserver would refuse, and nothing that is lost."""

import copy
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import (
    DbtInfo,
    DbtModelSpec,
    DbtModelStatus,
    DbtRunStatus,
    ListedTest,
    ModelAttempt,
    ModelTests,
    NodeCounts,
    RunArtifacts,
    RunAttempt,
    RunFailure,
    Severity,
)
from dbt_operator.api.values import format_duration, format_time

START = datetime(2026, 11, 20, 17, 11, 13, 219457, tzinfo=UTC)


def model_statuses() -> st.SearchStrategy[DbtModelStatus]:
    tests = st.builds(
        ModelTests,
        **{name: st.integers(0, 9) for name in ("total", "passed", "warned", "failed", "errored", "skipped")},
        summary=st.just(""),
        failing=st.lists(st.builds(ListedTest, unique_id=st.text(), name=st.text(), message=st.none() | st.text())).map(
            tuple
        ),
    )
    return st.builds(
        DbtModelStatus,
        phase=st.sampled_from(NodePhase),
        reason=st.none() | st.sampled_from(NodeReason),
        message=st.none() | st.text(),
        started_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        tests=st.none() | tests,
        rows_affected=st.none() | st.integers(0, 2**62),
    )


@given(model_statuses())
def test_a_written_status_is_read_back_as_it_was(status: DbtModelStatus) -> None:
    read = DbtModelStatus.parse(status.to_dict())
    assert read is not None
    assert read.to_dict() == status.to_dict()


def test_a_status_of_a_newer_operator_is_not_misread() -> None:
    phase = DbtModelStatus.parse({"phase": "Paused", "reason": "Paused"})
    assert phase is not None
    assert phase.phase not in list(NodePhase)
    assert (phase.phase.value, phase.phase.known) == ("Paused", False)
    assert phase.reason not in list(NodeReason)
    assert DbtModelStatus.parse({"phase": "Running", "newField": 1}) == DbtModelStatus(phase=NodePhase.RUNNING)


WRITTEN = {
    "phase": "Failed",
    "reason": "NodesFailed",
    "message": "1 of 2 nodes failed.",
    "startTime": "2026-11-20T17:11:13Z",
    "completionTime": "2026-11-20T17:12:13Z",
    "handledRetry": "again",
    "dbt": {"version": "1.11.16", "adapter": "postgres"},
    "artifacts": {"configMap": "a-artifacts"},
    "conditions": [
        {"type": "Odd", "status": "True", "lastTransitionTime": "2026-11-20T17:11:13Z", "reason": "R", "message": "m"}
    ],
    "attempts": [
        {"name": "a-producer-1", "kind": "Producer", "state": "Lost", "reason": "Evicted"},
        {"name": "a-resume-1", "kind": "Resume", "state": "Failed", "reason": "NodesFailed"},
    ],
}


def changed(path: str, value: object) -> dict[str, Any]:
    """The status with something else in one place."""
    status: dict[str, Any] = copy.deepcopy(WRITTEN)
    place: Any = status
    *parents, last = path.split(".")
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return status


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("phase", "PartlyFailed"),
        ("reason", "Odd"),
        ("reason", 7),
        ("message", "m" * 10_000),
        ("handledRetry", ["again"]),
        ("dbt.version", 2),
        ("dbt.adapterVersion", "v" * 1000),
        ("artifacts", "a-artifacts"),
        ("conditions.0.status", "Perhaps"),
        ("attempts.0.reason", "Odd"),
        ("attempts.0.kind", "Listing"),
        ("attempts.0.state", "Odd"),
        ("attempts.0.exitCode", "none"),
        ("nodes", {"total": "many"}),
        ("failures", [{"uniqueId": 7}]),
    ],
)
def test_what_cannot_be_read_of_a_status_costs_nothing_of_the_rest(path: str, value: object) -> None:
    top = path.partition(".")[0]
    status, before = DbtRunStatus.parse(changed(path, value)), DbtRunStatus.parse(WRITTEN)
    assert status is not None
    assert before is not None
    assert status.ended
    others = set(DbtRunStatus.__struct_fields__) - {re.sub("[A-Z]", lambda one: f"_{one[0].lower()}", top)}
    assert {name: getattr(status, name) for name in others} == {name: getattr(before, name) for name in others}
    if top == "attempts":
        assert [one.name for one in status.attempts] == ["a-producer-1", "a-resume-1"]
        assert status.attempts[1] == before.attempts[1]
    if top == "dbt":
        assert status.dbt is not None
        assert status.dbt.adapter == "postgres"


def test_more_entries_than_this_version_allows_are_read() -> None:
    attempts = [{"name": f"a-resume-{n}", "kind": "Resume", "state": "Lost"} for n in range(70)]
    status = DbtRunStatus.parse(changed("attempts", attempts))
    assert status is not None
    assert len(status.attempts) == 70


def test_a_spec_without_what_it_must_have_is_none() -> None:
    spec = {"runName": "r", "uniqueId": "model.a.b", "name": "b", "resourceType": "model"}
    assert DbtModelSpec.parse(spec | {"uniqueId": 7}) is None
    read = DbtModelSpec.parse(
        spec | {"tags": ["x", 7], "tests": [{"uniqueId": "test.a.t", "name": "t", "severity": 7}]}
    )
    assert read is not None
    assert (read.tags, [test.unique_id for test in read.tests]) == (("x",), ["test.a.t"])


def test_a_word_that_the_crd_of_this_version_does_not_know_is_not_written() -> None:
    attempt = RunAttempt(name="a", kind=AttemptKind.RETRY, state=AttemptPhase.FAILED, reason=RunReason("Odd"))
    assert attempt.to_dict() == {"name": "a", "kind": "Retry", "state": "Failed"}


def test_a_run_of_an_unknown_phase_has_ended_when_it_says_when() -> None:
    ended = DbtRunStatus.parse({"phase": "Odd", "completionTime": "2026-11-20T17:12:13Z"})
    assert ended is not None
    assert ended.ended
    assert not DbtRunStatus(phase=RunPhase("Odd")).ended
    assert not DbtRunStatus().ended
    assert DbtRunStatus(phase=RunPhase.CANCELLED).ended


def test_a_run_status_is_json_as_the_crd_wants_it() -> None:
    status = DbtRunStatus(
        phase=RunPhase.FAILED,
        reason=RunReason.NODES_FAILED,
        start_time=START,
        completion_time=START + timedelta(seconds=92),
        duration="1m28s",
        nodes=NodeCounts(total=40, pending=20, running=3, failed=1, succeeded=16),
        dbt=DbtInfo(version="1.11.16"),
        retries=1,
        artifacts=RunArtifacts(config_map="a-artifacts"),
        attempts=(
            RunAttempt(
                name="a-producer-1", kind=AttemptKind.PRODUCER, state=AttemptPhase.FAILED, exit_code=0, log_time="t"
            ),
            RunAttempt(name="a-retry-nodes-1", kind=AttemptKind.RETRY, state=AttemptPhase.RUNNING, nodes=3),
        ),
    )
    assert status.to_dict() == {
        "phase": "Failed",
        "reason": "NodesFailed",
        "startTime": "2026-11-20T17:11:13.219457Z",
        "completionTime": "2026-11-20T17:12:45.219457Z",
        "duration": "1m28s",
        "progress": "17/40",
        "nodes": {
            "total": 40,
            "pending": 20,
            "running": 3,
            "succeeded": 16,
            "warned": 0,
            "failed": 1,
            "skipped": 0,
            "cancelled": 0,
        },
        "dbt": {"version": "1.11.16"},
        "retries": 1,
        "artifacts": {"configMap": "a-artifacts", "runResults": True, "manifest": False},
        "attempts": [
            {"name": "a-producer-1", "kind": "Producer", "state": "Failed", "exitCode": 0, "logTime": "t"},
            {"name": "a-retry-nodes-1", "kind": "Retry", "state": "Running", "nodes": 3},
        ],
    }


def test_what_exceeds_the_limits_of_the_crd_is_shortened_not_lost() -> None:
    failures = tuple(RunFailure(unique_id=f"model.a.{n}", name=f"{n}", message="é" * 5000) for n in range(30))
    written = DbtRunStatus(failures=failures).to_dict()["failures"]
    assert [failure["name"] for failure in written] == [str(n) for n in range(20)]
    assert written[0]["message"] == "é" * 1023 + "…"
    spec = DbtModelSpec(
        run_name="r", unique_id="u", name="n", resource_type="model", tags=("t" * 2000,) * 300
    ).to_dict()
    assert [len(tag) for tag in spec["tags"]] == [1024] * 200


def test_what_is_unknown_or_empty_is_left_out_unless_the_crd_requires_it() -> None:
    assert DbtModelStatus(message="", job_id="", tests=None).to_dict() == {"phase": "Pending"}
    assert RunFailure(unique_id="u", name="n", message="").to_dict()["message"] == ""


def test_of_many_attempts_of_a_run_the_newest_are_kept() -> None:
    attempts = tuple(
        RunAttempt(name=f"a-resume-{n}", kind=AttemptKind.RESUME, state=AttemptPhase.LOST) for n in range(60)
    )
    written = DbtRunStatus(attempts=attempts).to_dict()["attempts"]
    assert [attempt["name"] for attempt in written] == [f"a-resume-{n}" for n in range(10, 60)]


def test_of_the_attempts_the_newest_are_kept() -> None:
    attempts = tuple(ModelAttempt(kind=AttemptKind.PRODUCER, job=f"job-{n}", phase=NodePhase.FAILED) for n in range(7))
    written = DbtModelStatus(attempts=attempts).to_dict()["attempts"]
    assert [attempt["job"] for attempt in written] == ["job-2", "job-3", "job-4", "job-5", "job-6"]


def test_the_columns_follow_from_the_counts() -> None:
    tests = ModelTests(total=5, passed=4, warned=1, failed=0, errored=0, skipped=0)
    assert tests.to_dict()["summary"] == "4/5"
    assert DbtModelStatus(execution_seconds=0.051234).to_dict()["executionSeconds"] == 0.05


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (0.4, "0s"), (45, "45s"), (92, "1m32s"), (3600, "1h0m"), (90061, "25h1m")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_times_are_written_in_utc() -> None:
    assert format_time(datetime.fromisoformat("2026-11-20T18:11:13+01:00")) == "2026-11-20T17:11:13Z"


def test_severities_are_read_in_any_case_as_dbt_does() -> None:
    assert Severity("warn") is Severity.WARN
    with pytest.raises(ValueError, match="fatal"):
        Severity("fatal")
