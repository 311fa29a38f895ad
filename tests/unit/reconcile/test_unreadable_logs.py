"""The log of a pod that the cluster calls running cannot be read: its node is gone, or a right is missing."""

from functools import partial

import pytest

from dbt_operator.api.names import digest
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.logs import Patience, follow
from dbt_operator.reconcile import kubernetes
from tests.unit.plan import lines
from tests.unit.plan.lines import SEED
from tests.unit.reconcile.cluster import Given

PRODUCER, RETRY = "nightly-producer-1", f"nightly-retry-{digest(SEED)}-1"
LOG = [
    *lines.EXECUTING,
    lines.line(6, "AdapterRegistered", adapter_name="postgres", adapter_version="=1.10.0"),
    lines.result(7, SEED, "error", "Database Error: boom"),
    lines.started(8, "model.shop.other"),
]
NODE_GONE = ApiError(status=502, reason="Bad Gateway", message="dial tcp 10.0.0.7:10250: no route to host")
NO_RIGHT = ApiError(status=403, reason="Forbidden", message='User "o" cannot get resource "pods/log"')


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(first=0.01, longest=0.02, longest_after_error=0.02, give_up=0.2)
    monkeypatch.setattr(kubernetes, "follow", partial(follow, patience=patience))


@pytest.mark.parametrize("error", [NODE_GONE, NO_RIGHT])
async def test_nothing_else_of_the_run_waits_for_it_after_a_restart(error: ApiError) -> None:
    async with Given(spec={"retry": {"backoff": {"duration": "0s"}}}) as given:
        producer = await given.pod(PRODUCER)
        given.server.run_pod(producer, *LOG)
        retry = await given.pod(RETRY)
        given.server.run_pod(retry, *lines.EXECUTING)
        await given.until(lambda: given.phases().get("raw") == "Running" and given.phases().get("other") == "Running")
        await given.stored(producer)
        await given.die()
        given.server.logs[producer] = error
        await given.begin()
        await given.until(lambda: given.said()[:2] == ("Running", "LogUnreadable"))
        assert error.message in given.said()[2]
        assert producer in given.said()[2]
        given.server.logs[retry] = [*lines.EXECUTING, lines.result(6, SEED, "success")]
        await given.until(lambda: given.phases()["raw"] == "Succeeded")
        assert [attempt["job"] for attempt in given.models()["raw"]["attempts"]] == [PRODUCER, RETRY]
        assert given.phases()["other"] == "Running"  # the last that dbt has said
        given.server.logs[producer] = [*LOG, lines.result(9, "model.shop.other", "success")]
        await given.until(lambda: given.phases()["other"] == "Succeeded")
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))


async def test_what_its_attempt_may_yet_execute_is_not_executed_beside_it() -> None:
    """The operator dies before it has stored what it read of the log."""
    async with Given(spec={"retry": {"limit": 2, "backoff": {"duration": "0s"}}}) as given:
        producer = await given.pod(PRODUCER)
        given.server.run_pod(producer, *LOG)
        retry = await given.pod(RETRY)
        given.server.run_pod(retry, *lines.EXECUTING)
        await given.until(lambda: given.phases()["raw"] == "Running")
        await given.die()
        given.server.logs[producer] = NODE_GONE
        await given.begin()
        given.server.end_pod(retry, *lines.RED_LOG[len(lines.EXECUTING) :], exit_code=1)
        await given.until(lambda: given.phases()["raw"] == "Failed")
        await given.rests()
        assert f"{RETRY[:-1]}2" not in given.server.names("jobs")  # nobody knows whether the first attempt had raw
        given.server.logs[producer] = LOG
        await given.until(lambda: f"{RETRY[:-1]}2" in given.server.names("jobs"))


async def test_a_log_that_becomes_unreadable_is_told_and_taken_back() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))
        given.server.logs[pod] = NODE_GONE
        await given.until(lambda: given.said()[:2] == ("Running", "LogUnreadable"))
        assert any("no route to host" in message for message in given.events("LogUnreadable"))
        given.server.logs[pod] = lines.EXECUTING
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))
