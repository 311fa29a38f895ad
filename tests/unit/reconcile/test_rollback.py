"""An operator meets what a later version of it has stored: it executes nothing for that, and leaves it as it is."""

from typing import Any

import pytest

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.state import EMPTY, Ending
from dbt_operator.plan.attempt import Assessment, Decision, Life, Sealed
from dbt_operator.plan.outcome import Outcome
from dbt_operator.pods.record import attempt_record, sealing
from dbt_operator.pods.run import RunRef
from tests.unit.plan import given, lines
from tests.unit.pods.test_record import merged, repacked, rewritten
from tests.unit.reconcile.api_server import ApiServer
from tests.unit.reconcile.operator import Operator, run, until

RUN = RunRef(namespace="data", name="nightly", uid="uid-of-nightly", labels={})
PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name=names.producer_job_name(RUN.name, number=1))
FAILED = Outcome(phase=RunPhase.FAILED, reason=RunReason.NODES_FAILED, message="1 of 2 nodes failed.")


def record() -> dict[str, Any]:
    """The record of a producer that has ended."""
    state = close(state=fold_lines(state=EMPTY, lines=lines.RED_LOG), ending=Ending.COMPLETED)
    attempt = given.known(PRODUCER, began=given.NOW)
    assessment = Assessment(attempt, Life.ENDED, FAILED.reason, FAILED.message, FAILED, state)
    patch = sealing(Sealed.of(assessment, now=given.NOW), PRODUCER, version="0")
    return merged(attempt_record(run=RUN, decision=PRODUCER), patch)


def server_with(stored: dict[str, Any], **status: Any) -> ApiServer:
    server = ApiServer()
    found = run(retry={"limit": 0})
    found["metadata"]["uid"] = RUN.uid
    attempt = {"name": PRODUCER.name, "kind": "Producer", "state": "Failed", "reason": "ALaterReason"}
    found["status"] = {"startTime": "2026-11-20T03:00:00Z", "attempts": [attempt], "message": "As it was."} | status
    server.put("dbtruns", found)
    server.put("configmaps", stored)
    return server


@pytest.mark.parametrize("phase", ["Running", "Preparing"])
async def test_an_attempt_that_ended_for_a_reason_of_a_later_version_is_the_end_of_its_run(phase: str) -> None:
    stored = rewritten(record(), "end", reason="ALaterReason")
    stored["metadata"]["labels"].pop(names.LABEL_ATTEMPT_INDEX)
    server = server_with(stored, phase=phase, reason="ALaterReason")
    async with Operator(server).at_work():
        status: dict[str, Any] = {}

        def ended() -> bool:
            status.update(server.objects["dbtruns", "data", "nightly"]["status"])
            return bool(status["phase"] == "Failed")

        await until(ended)
    assert (status["message"], status["startTime"]) == (FAILED.message, "2026-11-20T03:00:00Z")
    assert [each["name"] for each in status["attempts"]] == [PRODUCER.name]
    assert "reason" not in server.objects["dbtruns", "data", "nightly"]["status"]  # the CRD would refuse the word
    assert server.names("jobs") == []


@pytest.mark.parametrize(
    "stored",
    [repacked(record(), format=3), rewritten(attempt_record(run=RUN, decision=PRODUCER), "decision", kind="Later")],
)
async def test_for_a_record_that_only_a_later_version_can_read_nothing_is_executed_and_nothing_shown(
    stored: dict[str, Any],
) -> None:
    server = server_with(stored, phase="Running", reason="Executing")
    before = server.objects["dbtruns", "data", "nightly"]["status"]
    async with Operator(server).at_work():
        await until(lambda: server.names("events") != [])
    (event,) = (obj for key, obj in server.objects.items() if key[0] == "events")
    assert "install that version" in event["message"]
    assert (server.names("jobs"), server.names("configmaps")) == ([], ["nightly-attempt-1"])
    assert server.objects["dbtruns", "data", "nightly"]["status"] == before
