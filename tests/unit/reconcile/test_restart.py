"""An operator that takes up a run shows what the one before it would show by now."""

import pytest

from dbt_operator.api.names import digest
from dbt_operator.kube.api_error import ApiError
from tests.unit.plan import lines
from tests.unit.plan.lines import MODEL, SEED
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


SEED_DONE = [*lines.EXECUTING, lines.result(6, SEED, "success"), lines.started(7, MODEL)]


async def test_the_log_is_read_on_from_the_checkpoint_of_the_operator_before() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *SEED_DONE)
        await given.stored(pod)
        await given.die()
        given.server.read_from.clear()
        await given.begin()
        await given.until(lambda: len(given.server.read_from) > 1)
        assert set(given.server.read_from) == {"2026-11-20T03:00:06Z"}  # when the last line was printed
        given.server.end_pod(pod, *lines.GREEN_LOG[len(SEED_DONE) :])
        await given.until(lambda: given.over)
        assert given.said()[0] == "Succeeded"


async def test_of_a_lost_log_what_the_checkpoint_says_is_not_executed_again() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *SEED_DONE)
        await given.stored(pod)
        await given.down(True, lambda: given.server.take("pods", pod))
        await given.until(lambda: given.phases() == {"raw": "Succeeded", "orders": "Pending"})
        given.later(seconds=120)  # the grace period of what nobody has seen end
        await given.until(lambda: "nightly-resume-1" in given.server.names("jobs"))
        assert given.server.nodes_of("nightly-attempt-2") == {MODEL}


async def test_an_operator_that_is_told_to_stop_stores_what_it_has_read() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *SEED_DONE)
        await given.until(lambda: given.phases().get("raw") == "Succeeded")
        await given.stop()
        given.server.take("pods", pod)  # with its log, before the next operator is there
        await given.begin()
        await given.until(lambda: given.phases() == {"raw": "Succeeded", "orders": "Pending"})
        given.later(seconds=120)
        await given.until(lambda: "nightly-resume-1" in given.server.names("jobs"))
        assert given.server.nodes_of("nightly-attempt-2") == {MODEL}


async def test_nodes_of_which_nothing_was_stored_end_with_their_run() -> None:
    async with Given(spec={"producer": {"maxRestarts": 0}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *SEED_DONE[:-2])
        await given.until(lambda: given.phases() == {"raw": "Running", "orders": "Pending"})
        await given.down(True, lambda: given.server.take("pods", pod))
        await given.until(lambda: given.over)
        assert given.said()[:2] == ("Failed", "PodLost")
        assert {(model["phase"], model["reason"]) for model in given.models().values()} == {("Skipped", "Lost")}


async def test_a_log_that_was_rotated_away_before_its_end_was_read_is_no_proof() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *SEED_DONE)
        await given.stored(pod)

        def ends() -> None:
            given.server.logs[pod] = []
            given.server.end_pod(pod)

        await given.down(True, ends)
        await given.until(lambda: given.said()[0] == "Retrying")
        assert given.status()["attempts"][0]["reason"] == "LogUnreadable"


async def test_a_checkpoint_that_cannot_be_stored_holds_nothing_up() -> None:
    full = ApiError(status=500, reason="InternalError", message="etcdserver: mvcc: database space exceeded")
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        refused: list[str] = []

        def refuse(method: str, plural: str) -> ApiError | None:
            refused.extend([plural] * ((method, plural) == ("PATCH", "configmaps")))
            return full if (method, plural) == ("PATCH", "configmaps") else None

        given.server.refuse = refuse
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.phases().get("raw") == "Running")
        given.later(seconds=10)
        await given.until(lambda: bool(refused))
        given.server.logs[pod] = SEED_DONE
        await given.until(lambda: given.phases() == {"raw": "Succeeded", "orders": "Running"})
        given.later(seconds=10)
        given.server.refuse = lambda *_: None
        await given.stored(pod)
