"""What the API server refuses, or fails at, is said on the run for as long as that is so, and on no run's end."""

from collections.abc import Callable

import pytest

from dbt_operator.api.names import digest
from dbt_operator.kube.api_error import NETWORK, ApiError
from tests.unit.plan import lines
from tests.unit.plan.lines import SEED
from tests.unit.reconcile.cluster import DENIED, FORBIDDEN, FULL, RUN, WEBHOOK_FAILS, Given, Refuse, nothing

PRODUCER, RETRY = "nightly-producer-1", f"nightly-retry-{digest(SEED)}-1"
RED_END = lines.RED_LOG[len(lines.EXECUTING) :]
LIVE, WAITS, RESTS = {"Succeeded": "Unknown", "Reconciling": "True"}, {"Stalled": "True"}, {"Suspended": "True"}
NO_ANSWER = ApiError(status=NETWORK, reason="Timeout", message="POST /jobs timed out")
SPOILT = ApiError(status=422, reason="Invalid", message='Pod "p" is invalid: spec: Forbidden: pod updates may not …')


def refusing(error: ApiError, *requests: str) -> Refuse:
    """What answers these requests ("POST jobs") so."""
    return lambda method, plural: error if f"{method} {plural}" in requests else None


def says(given: Given, phase: str, reason: str, *words: str) -> Callable[[], bool]:
    """Whether the run says so, and an Event beside it."""

    def so() -> bool:
        said = given.said()
        told = any(all(word in message for word in words) for message in given.events(reason))
        return said[:2] == (phase, reason) and all(word in said[2] for word in words) and told

    return so


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (WEBHOOK_FAILS, "ApiServerError", "The API server fails at the run's Job: Internal error occurred: failed"),
        (NO_ANSWER, "ApiServerError", "timed out"),
        (FORBIDDEN, "Forbidden", "The operator lacks a right"),
        (FULL, "QuotaExceeded", "The run waits for quota"),
    ],
)
async def test_a_job_that_cannot_be_created_yet_is_waited_for_in_so_many_words(
    error: ApiError, reason: str, words: str
) -> None:
    given = Given()
    given.server.refuse = refusing(error, "POST jobs")
    async with given:
        await given.until(says(given, "Queued", reason, words))
        await given.rests()
        assert given.said()[0] == "Queued"
        given.server.refuse = nothing
        given.later(seconds=10)
        await given.until(lambda: given.said()[0] == "Starting")
        assert given.conditions() == LIVE


@pytest.mark.parametrize("plural", ["jobs", "pods"])
async def test_that_a_run_has_started_stays_whatever_is_said_of_it(plural: str) -> None:
    given = Given()

    def refuse(method: str, about: str) -> ApiError | None:
        started = "startTime" in given.status()
        return WEBHOOK_FAILS if started and (method, about) == ("GET", plural) else None

    given.server.refuse = refuse
    async with given:
        await given.until(lambda: "ApiServerError" in given.said())
        assert "startTime" in given.status()
        given.server.refuse = nothing
        await given.until(lambda: PRODUCER in given.server.names("jobs"))


async def test_a_start_stays_also_where_something_was_in_the_way_before_it() -> None:
    given = Given()
    given.server.refuse = refusing(FORBIDDEN, "GET jobs")
    async with given:
        await given.until(lambda: "Forbidden" in given.said())
        assert "startTime" not in given.status()
        given.server.refuse = lambda *call: (
            WEBHOOK_FAILS if call == ("GET", "pods") and "startTime" in given.status() else None
        )
        await given.until(lambda: "ApiServerError" in given.said())
        assert "startTime" in given.status()


@pytest.mark.parametrize("error", [WEBHOOK_FAILS, NO_ANSWER, FORBIDDEN, SPOILT])
async def test_a_pod_that_cannot_be_let_go_yet_is_waited_for_in_so_many_words(error: ApiError) -> None:
    async with Given() as given:
        await given.until(lambda: PRODUCER in given.server.names("jobs"))
        given.server.refuse = refusing(error, "PATCH pods")
        pod = given.server.add_pod(PRODUCER)
        reason = "Forbidden" if error is FORBIDDEN else "ApiServerError"
        await given.until(says(given, "Queued", reason, error.message))
        given.later(seconds=1000)  # no deadline runs
        await given.rests()
        assert given.said()[:2] == ("Queued", reason)
        given.server.refuse = nothing
        given.later(seconds=10)
        await given.until(lambda: not given.server.get("pods", pod)["spec"].get("schedulingGates"))
        await given.until(lambda: given.said()[0] == "Starting")


async def test_a_policy_that_lets_no_pod_go_ends_the_run() -> None:
    async with Given() as given:
        await given.until(lambda: PRODUCER in given.server.names("jobs"))
        given.server.refuse = refusing(DENIED, "PATCH pods")
        given.server.add_pod(PRODUCER)
        await given.until(lambda: given.over)
        assert given.said()[:2] == ("Failed", "AdmissionDenied")
        assert "refuses the start of pod nightly-producer-1-abcde" in given.said()[2]
        assert "pods are frozen" in given.said()[2]
        assert given.server.names("jobs") == []


async def test_what_is_in_the_way_of_a_retry_stops_nothing_else() -> None:
    given = Given(spec={"retry": {"backoff": {"duration": "0s"}}})
    given.server.refuse = refusing(WEBHOOK_FAILS, "POST jobs")
    async with given:
        await given.until(says(given, "Queued", "ApiServerError"))
        given.server.refuse = nothing
        given.later(seconds=10)
        pod = await given.pod(PRODUCER)
        given.server.refuse = refusing(WEBHOOK_FAILS, "POST jobs")
        log = [*lines.EXECUTING, RED_END[0], lines.started(7, "model.shop.other")]
        given.server.run_pod(pod, *log)
        await given.until(lambda: given.models().get("raw", {}).get("phase") == "Failed")
        given.server.logs[pod] = [*log, lines.result(8, "model.shop.other", "success")]
        await given.until(lambda: given.models().get("other", {}).get("phase") == "Succeeded")
        given.server.end_pod(pod, *lines.finished(9, exit_code=1, results={SEED: "error"}), exit_code=1)
        await given.until(says(given, "Retrying", "ApiServerError", "failed calling webhook"))
        given.server.refuse = nothing
        given.later(seconds=10)
        await given.until(lambda: RETRY in given.server.names("jobs"))


async def test_what_is_in_the_way_of_a_record_is_said_and_the_nodes_are_shown_all_the_same() -> None:
    async with Given(spec={"retry": {"backoff": {"duration": "0s"}}}) as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))
        given.server.refuse = refusing(DENIED, "POST configmaps")
        beside = lines.line(7, "AdapterRegistered", adapter_name="postgres", adapter_version="=1.10.0")
        given.server.logs[pod] = [*lines.EXECUTING, RED_END[0], beside]
        await given.until(says(given, "Running", "AdmissionDenied", "what the run needs", "frozen"))
        assert given.conditions() == {"Succeeded": "Unknown", **WAITS}
        assert given.models()["raw"]["phase"] == "Failed"
        given.server.refuse = nothing
        await given.until(lambda: RETRY in given.server.names("jobs"))
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))
        assert given.conditions() == LIVE


async def test_a_run_that_rests_takes_back_what_it_said_of_an_obstacle() -> None:
    async with Given(spec={"suspend": True}) as given:
        await given.until(lambda: given.said()[0] == "Suspended")
        before = given.said()
        given.server.refuse = refusing(FORBIDDEN, "GET pods")
        given.later()
        await given.until(says(given, "Suspended", "Forbidden"))
        given.server.refuse = nothing
        await given.until(lambda: given.said() == before)
        assert given.conditions() == {"Succeeded": "Unknown", **RESTS}


async def test_a_server_that_fails_at_one_thing_for_long_is_said_and_one_that_hiccups_is_not() -> None:
    async with Given() as given:
        await given.until(lambda: given.said()[0] == "Starting")
        failures = [WEBHOOK_FAILS, WEBHOOK_FAILS]
        given.server.refuse = lambda _, plural: failures.pop() if plural == "pods" and failures else None
        given.later()
        await given.until(lambda: not failures)
        await given.rests()
        assert (given.said()[0], given.events("ApiServerError")) == ("Starting", [])
        given.server.refuse = refusing(WEBHOOK_FAILS, "GET pods")
        given.later()
        await given.until(says(given, "Starting", "ApiServerError", "failed calling webhook"))


async def test_jobs_that_may_not_be_deleted_are_said_while_the_run_stops() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[:2] == ("Running", "Executing"))
        given.server.refuse = refusing(DENIED, "DELETE jobs")
        given.server.change("dbtruns", RUN, spec={"cancel": True})
        await given.until(says(given, "Running", "AdmissionDenied", "frozen"))
        given.server.refuse = nothing
        await given.until(lambda: given.over)
        assert given.said()[:2] == ("Cancelled", "Cancelled")


async def test_a_run_that_has_ended_keeps_its_end_while_the_retry_that_is_asked_for_waits() -> None:
    async with Given(spec={"retry": {"limit": 0}}) as given:
        await ended(given)
        before = given.status()
        given.server.refuse = refusing(FULL, "POST configmaps")
        given.server.change("dbtruns", RUN, metadata={"annotations": {"dbt-operator.io/retry": "again"}})
        await given.until(lambda: bool(given.events("QuotaExceeded")))
        assert given.status() == before
        given.server.refuse = nothing
        given.later()
        await given.until(lambda: given.said()[0] == "Retrying")


async def test_no_node_says_that_its_retry_is_handled_before_its_run_is_shown_as_live() -> None:
    """An operator that dies in between would leave a run that has ended, and a retry that nobody would look at."""
    async with Given(spec={"retry": {"limit": 0}}) as given:
        await ended(given)
        (name,) = (one["metadata"]["name"] for one in given.server.all("dbtmodels") if one["spec"]["name"] == "raw")
        given.server.refuse = refusing(WEBHOOK_FAILS, "PATCH dbtruns")
        given.server.change("dbtmodels", name, metadata={"annotations": {"dbt-operator.io/retry": "again"}})
        await given.until(lambda: RETRY in given.server.names("jobs"))
        await given.rests()
        assert (given.said()[0], "handledRetry" in given.models()["raw"]) == ("Failed", False)
        given.server.refuse = nothing
        given.later(seconds=10)
        await given.until(lambda: given.models()["raw"].get("handledRetry") == "again")
        assert given.said()[0] == "Retrying"


async def test_a_run_that_may_not_be_deleted_when_it_has_expired_keeps_its_end() -> None:
    given = Given(spec={"retry": {"limit": 0}, "ttlSecondsAfterFinished": 0})
    given.server.refuse = refusing(DENIED, "DELETE dbtruns")
    async with given:
        await ended(given)
        before = given.status(), given.models()
        await given.until(lambda: bool(given.events("AdmissionDenied")))
        assert (given.status(), given.models()) == before
        given.server.refuse = nothing
        given.later()
        await given.until(lambda: given.server.names("dbtruns") == [])


async def ended(given: Given) -> None:
    """The run, once it has failed."""
    pod = await given.pod(PRODUCER)
    given.server.run_pod(pod, *lines.EXECUTING)
    given.server.end_pod(pod, *RED_END, exit_code=1)
    await given.until(lambda: given.said()[0] == "Failed")
