"""An operator that takes up a run shows what the one before it would show by now."""

import pytest

from dbt_operator.api.names import digest
from tests.unit.plan import lines
from tests.unit.plan.lines import SEED
from tests.unit.reconcile.cluster import RUN, Given

PRODUCER = "nightly-producer-1"
RED_END = lines.RED_LOG[len(lines.EXECUTING) :]
RETRIED = [lines.result(6, SEED, "success"), *lines.finished(7, exit_code=0, results={SEED: "success"})]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_node_that_was_running_when_its_pod_was_lost_waits(restart: bool) -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.phases() == {"raw": "Running", "orders": "Pending"})
        await given.down(restart, lambda: given.server.take("pods", pod))
        await given.until(lambda: given.said()[0] == "Retrying")
        await given.until(lambda: given.phases() == {"raw": "Pending", "orders": "Pending"})


@pytest.mark.parametrize("restart", [False, True])
async def test_a_node_that_was_skipped_waits_once_what_it_needs_has_been_retried(restart: bool) -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        given.server.end_pod(pod, *RED_END, exit_code=1)
        await given.until(lambda: given.phases() == {"raw": "Failed", "orders": "Skipped"})
        retry = await given.pod(f"nightly-retry-{digest(SEED)}-1")
        given.server.run_pod(retry, *lines.EXECUTING)
        await given.until(lambda: given.phases() == {"raw": "Running", "orders": "Skipped"})
        await given.down(restart, lambda: given.server.end_pod(retry, *RETRIED))
        await given.until(lambda: "nightly-resume-1" in given.server.names("jobs"))
        await given.until(lambda: given.phases() == {"raw": "Succeeded", "orders": "Pending"})


@pytest.mark.parametrize("restart", [False, True])
async def test_a_failure_is_told_once(restart: bool) -> None:
    async with Given(spec={"retry": {"limit": 0}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING, *RED_END[:1])
        await given.until(lambda: given.phases().get("raw") == "Failed")
        for event in given.server.names("events"):
            given.server.take("events", event)  # Kubernetes keeps them for an hour
        await given.down(restart, lambda: given.server.end_pod(pod, *RED_END[1:], exit_code=1))
        await given.until(lambda: given.over)
        assert given.phases() == {"raw": "Failed", "orders": "Skipped"}
        assert given.events("NodeFailed") == []


async def test_a_node_that_was_cancelled_waits_for_the_retry_that_a_person_asks_for() -> None:
    async with Given(spec={"activeDeadlineSeconds": 100}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[0] == "Running")
        given.later(seconds=200)
        await given.until(lambda: given.over)
        assert given.phases() == {"raw": "Cancelled", "orders": "Cancelled"}
        given.later(seconds=200)
        given.server.change("dbtruns", RUN, metadata={"annotations": {"dbt-operator.io/retry": "again"}})
        await given.until(lambda: given.said()[0] == "Retrying")
        await given.until(lambda: given.phases() == {"raw": "Pending", "orders": "Pending"})
