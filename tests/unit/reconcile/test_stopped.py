"""A run that cannot go on stops what it has begun, and each of its nodes ends with it."""

import pytest

from tests.unit.plan import lines
from tests.unit.plan.lines import SEED
from tests.unit.reconcile.cluster import RUN, Given

PRODUCER = "nightly-producer-1"
AT_WORK = [
    *lines.EXECUTING,
    lines.line(6, "AdapterRegistered", adapter_name="postgres", adapter_version="=1.10.0"),
]


async def test_a_spec_that_becomes_invalid_stops_the_run() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *AT_WORK)
        await given.until(lambda: given.phases() == {"raw": "Running", "orders": "Pending"})
        given.server.change("dbtruns", RUN, spec={"image": "no\u00a0image"})  # another version has allowed it
        await given.until(lambda: given.over)
        assert given.said()[:2] == ("Failed", "InvalidSpec")
        assert "image" in given.said()[2]
        assert given.server.names("jobs") == []
        assert given.phases() == {"raw": "Cancelled", "orders": "Cancelled"}
        assert [attempt["state"] for attempt in given.status()["attempts"]] == ["Cancelled"]


async def test_a_record_of_somebody_elses_stops_the_run() -> None:
    async with Given(spec={"retry": {"backoff": {"duration": "0s"}}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *AT_WORK)
        await given.until(lambda: given.said()[0] == "Running")
        given.server.put("configmaps", {"metadata": {"name": "nightly-attempt-2", "namespace": "data"}})
        failed = lines.result(7, SEED, "error", "Database Error: boom")
        given.server.logs[pod] = [*AT_WORK, failed, lines.started(8, "model.shop.other")]
        await given.until(lambda: given.over)
        assert given.said()[:2] == ("Failed", "NameConflict")
        assert "nightly-attempt-2 exists already" in given.said()[2]
        assert "1 had failed" in given.said()[2]
        assert given.server.names("jobs") == []
        assert given.phases() == {"raw": "Failed", "orders": "Skipped", "other": "Cancelled"}


async def test_a_run_that_was_stopped_so_is_taken_up_once_it_is_valid_again() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *AT_WORK)
        await given.until(lambda: given.phases() == {"raw": "Running", "orders": "Pending"})
        given.server.change("dbtruns", RUN, spec={"image": "no\u00a0image"})
        await given.until(lambda: given.over)
        given.later(minutes=2)
        given.server.change(
            "dbtruns", RUN, spec={"image": "shop:1"}, metadata={"annotations": {"dbt-operator.io/retry": "again"}}
        )
        await given.until(lambda: given.server.names("jobs") != [])
        assert given.said()[0] == "Retrying"


async def test_a_retry_that_cannot_be_recorded_leaves_a_run_as_it_has_ended() -> None:
    async with Given(spec={"retry": {"limit": 0}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        given.server.end_pod(pod, *lines.RED_LOG[len(lines.EXECUTING) :], exit_code=1)
        await given.until(lambda: given.over)
        ended = given.said()
        given.server.put("configmaps", {"metadata": {"name": "nightly-attempt-2", "namespace": "data"}})
        given.server.change("dbtruns", RUN, metadata={"annotations": {"dbt-operator.io/retry": "again"}})
        await given.until(lambda: len(given.operator.made) == 2 and given.over)
        assert (ended[0], given.said()) == ("Failed", ended)
        assert ["nightly-attempt-2 exists already" in said for said in given.events("NameConflict")] == [True]


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_pod_in_which_something_else_goes_on_is_stopped_once_dbt_has_ended(exit_code: int) -> None:
    async with Given(spec={"retry": {"limit": 0}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        end = (lines.RED_LOG if exit_code else lines.GREEN_LOG)[len(lines.EXECUTING) :]
        given.server.end_pod(pod, *end[:-1], exit_code=exit_code, others=("mesh",))
        given.server.logs[pod] = [*lines.EXECUTING, *end]  # the last line comes late
        await given.until(lambda: given.over)
        assert given.said()[0] == ("Failed" if exit_code else "Succeeded")
        assert (given.server.names("jobs"), given.server.names("pods")) == ([], [])


async def test_each_attempt_of_a_run_is_stopped_so() -> None:
    async with Given(spec={"retry": {"backoff": {"duration": "0s"}}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        given.server.end_pod(pod, *lines.RED_LOG[len(lines.EXECUTING) :], exit_code=1, others=("mesh",))
        await given.until(lambda: given.said()[0] == "Retrying")
        await given.until(lambda: PRODUCER not in given.server.names("jobs"))


async def test_a_pod_that_ends_by_itself_stays_for_those_who_want_its_log() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        given.server.end_pod(pod, *lines.GREEN_LOG[len(lines.EXECUTING) :])
        await given.until(lambda: given.over)
        assert given.server.names("pods") == [pod]


async def test_the_loop_of_a_run_that_is_deleted_while_it_acts_ends_without_another_one() -> None:
    given = Given()

    def delete(method: str, plural: str) -> None:
        if (method, plural) == ("PATCH", "dbtruns") and given.server.names("dbtruns"):
            given.server.take("dbtruns", RUN)

    given.server.refuse = delete
    async with given:
        await given.until(lambda: given.over and not given.server.names("dbtruns"))
        assert len(given.operator.made) == 1
