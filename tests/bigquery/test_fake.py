"""The fake keeps to what other tests rest on: one id is one job, also where an answer is lost."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bigquery.fake import Behaviour, Fault
from tests.bigquery.server import Server, serve

JOBS = "/bigquery/v2/projects/p/jobs"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


def ask(server: Server, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=data, method=method)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def insert(server: Server, job: str, text: str = "select 1", **configuration: Any) -> tuple[int, dict[str, Any]]:
    reference = {"projectId": "p", "jobId": job, "location": "US"}
    query = {"query": text, **configuration.pop("query", {})}
    return ask(server, "POST", JOBS, {"jobReference": reference, "configuration": {"query": query, **configuration}})


def test_an_id_is_one_job_also_where_the_answer_was_lost(server: Server) -> None:
    server.fake.faults = [Fault("jobs.insert", lost=True)]
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        insert(server, "a", "create or replace table `p`.`d`.`t` as (select 1)")
    status, body = insert(server, "a")
    assert (status, body["error"]["message"]) == (409, "Already Exists: Job p:US.a")
    assert [request.status for request in server.fake.requests("jobs.insert", "a")] == [0, 409]
    assert len(server.fake.created()) == 1
    assert ask(server, "GET", "/bigquery/v2/projects/p/datasets/d/tables/t")[1]["type"] == "TABLE"


def test_a_job_that_is_cancelled_ends_with_an_error_and_one_that_ended_stays_as_it_is(server: Server) -> None:
    server.fake.behaviours = [Behaviour("slow", held=True)]
    insert(server, "slow", "insert into d.t select 1 -- slow")
    insert(server, "done")
    assert ask(server, "GET", f"{JOBS}/slow?location=US")[1]["status"] == {"state": "RUNNING"}
    for job in ("slow", "done"):
        assert ask(server, "POST", f"{JOBS}/{job}/cancel?location=US", {})[0] == 200
    status = ask(server, "GET", f"{JOBS}/slow?location=US")[1]["status"]
    assert (status["state"], status["errorResult"]["reason"]) == ("DONE", "stopped")
    assert ask(server, "GET", f"{JOBS}/done?location=US")[1]["status"] == {"state": "DONE"}
    assert list(server.fake.executed()) == []


def test_limits_and_labels_are_kept_to(server: Server) -> None:
    server.fake.behaviours = [Behaviour("big", bytes=1000, held=True)]
    insert(server, "big", "select 'big'", query={"maximumBytesBilled": "999"})
    error = ask(server, "GET", f"{JOBS}/big?location=US")[1]["status"]["errorResult"]
    assert error["message"] == "Query exceeded limit for bytes billed: 999. 1000 or higher required."
    assert insert(server, "late", "select 'big'", jobTimeoutMs="1")[0] == 200
    assert insert(server, "label", labels={"Node": "a.b"})[0] == 400
    status, dry = insert(server, "dry", dryRun=True)
    assert (status, "jobId" in dry["jobReference"], len(server.fake.created())) == (200, False, 2)


def test_jobs_are_listed_in_pages_the_newest_first(server: Server) -> None:
    for number in range(5):
        insert(server, f"j{number}", labels={"n": str(number)})
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        page = ask(server, "GET", f"{JOBS}?maxResults=2&projection=full&pageToken={token}")[1]
        found += [job["configuration"]["labels"]["n"] for job in page["jobs"]]
        token = page.get("nextPageToken")
    assert found == ["4", "3", "2", "1", "0"]
    assert ask(server, "GET", f"{JOBS}?stateFilter=running")[1]["jobs"] == []


def test_a_refusal_names_its_reason(server: Server) -> None:
    server.fake.faults = [Fault("jobs.insert", status=403, reason="rateLimitExceeded")]
    status, body = insert(server, "a")
    assert (status, body["error"]["errors"][0]["reason"]) == (403, "rateLimitExceeded")
    assert insert(server, "a")[0] == 200
