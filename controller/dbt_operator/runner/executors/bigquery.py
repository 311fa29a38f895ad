"""BigQuery by Google's client, which dbt-bigquery has installed: no thread waits for a job.

Jobs are submitted by a few threads, at a pace that BigQuery's quota of requests allows. One list of the jobs that are
done, four times a second, tells which have ended, and how; what it does not tell is asked for. By their ids the next
attempt finds the jobs of a pod that was lost (`bigquery_ids`), and goes on with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

from google.api_core import exceptions as google_errors
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException as RequestError

from dbt_operator.runner import bigquery_ids
from dbt_operator.runner.bigquery_ids import StatementId
from dbt_operator.runner.executors import Answer, BudgetError, Context, StatementError, Work
from dbt_operator.runner.executors.bigquery_answers import answer_of, errors_of
from dbt_operator.runner.executors.bigquery_client import client_of
from dbt_operator.runner.output import Line

_THREADS = 32
_POLL_SECONDS = 0.15
_REQUEST_SECONDS = 60.0
# A job that no list has shown is asked for by itself, a few at each poll.
_ASKED_AT_A_POLL = 4
# How long is waited after a refusal for this reason; it doubles each time. What is not here is the statement's fault.
PAUSES: Mapping[str, float] = {
    "backendError": 1,
    "internalError": 1,
    "jobBackendError": 1,
    "jobInternalError": 1,
    "rateLimitExceeded": 2,
    "jobRateLimitExceeded": 2,
    "quotaExceeded": 15,
}
_LONGEST_PAUSE = 60.0
# After so many looks at a job that were not answered nothing is known of it: a few minutes.
_MOST_LOOKS = 300
# What may become of a request, whoever has made it.
_REFUSED = (google_errors.GoogleAPICallError, GoogleAuthError, RequestError)
_MOST_REFUSALS = 8
_MOST_NUMBERS = 1000


def make(*, connection: Line, settings: Line, context: Context) -> BigQueryExecutor:
    """The executor of an attempt."""
    return BigQueryExecutor(
        client=client_of(connection, location=settings.get("location"), threads=_THREADS),
        retries=int(connection["job_retries"]),
        settings=settings,
        context=context,
    )


@dataclass
class _Flight:
    """A job that was submitted and has not ended. `created`: since when a list may show it."""

    job_id: str
    location: str | None
    created: datetime
    ended: asyncio.Future[Any]
    asked: int = 0  # by itself
    unanswered: int = 0  # looks since the last one that was answered


@dataclass
class _Node:
    """What is known of a node while it is executed."""

    cancelled: bool = False
    flight: _Flight | None = None


@dataclass
class _Pace:
    """So many requests a second, and as many at once after a pause."""

    per_second: float
    left: float = 0.0
    at: float = field(default_factory=time.monotonic)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.left = self.per_second

    async def take(self) -> None:
        """Wait for one. Who comes first has the first; only that one looks at the clock, and not hundreds."""
        async with self.turn:
            while True:
                now = time.monotonic()
                self.left, self.at = min(self.per_second, self.left + (now - self.at) * self.per_second), now
                if self.left >= 1:
                    self.left -= 1
                    return
                await asyncio.sleep((1 - self.left) / self.per_second)


class BigQueryExecutor:
    """Submits the statements of nodes as jobs, follows all of them at once, and reads what they answer."""

    limit = 500

    def __init__(self, *, client: Any, retries: int, settings: Line, context: Context) -> None:
        self._client: bigquery.Client = client
        self._retries = retries
        self._settings = settings
        self._context = context
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="bigquery")
        self._pace = _Pace(float(settings.get("submissionsPerSecond") or 50))
        self._nodes: dict[str, _Node] = {}
        self._flights: dict[str, _Flight] = {}
        self._billed = context.billed_before
        self._poller: asyncio.Task[None] | None = None

    async def execute(self, work: Work) -> Answer:
        """All statements of the node, each as a job. Raises: StatementError, BudgetError."""
        node = self._nodes[work.unique_id] = _Node()
        chain = bigquery_ids.first(
            run_uid=self._context.run_uid, what=work.unique_id, began_in=self._context.began_in(work.unique_id)
        )
        answer = Answer(message="")
        try:
            for at, statement in enumerate(work.statements):
                chain = bigquery_ids.following(chain, str(statement["text"]))
                job = await self._executed(node, work.unique_id, statement, chain=chain, at=at)
                if at == work.main:
                    answer = await self._call(answer_of, self._client, job, fetches=work.fetches)
            return answer
        except _REFUSED as error:
            raise StatementError(errors_of(error), at=work.main) from error
        finally:
            del self._nodes[work.unique_id]

    async def cancel(self, unique_id: str) -> None:
        """Cancel the job of the node, and begin no other one."""
        node = self._nodes.get(unique_id)
        if node is None:
            return
        node.cancelled = True
        flight = node.flight
        if flight is not None:
            cancel = functools.partial(self._client.cancel_job, retry=None, timeout=_REQUEST_SECONDS)
            try:
                await self._call(cancel, flight.job_id, location=flight.location)
            except _REFUSED:
                return  # it is asked for again

    async def close(self) -> None:
        """Nothing more is asked of BigQuery."""
        if self._poller is not None:
            self._poller.cancel()
        self._pool.shutdown(wait=False)

    # One statement.

    async def _executed(self, node: _Node, unique_id: str, statement: Line, *, chain: str, at: int) -> Any:
        """The job of a statement once it has succeeded. Raises: StatementError, BudgetError."""
        own = StatementId(run_uid=self._context.run_uid, chain=chain)
        failures = 0
        for _ in range(_MOST_NUMBERS):
            job, is_new = await self._submitted(node, unique_id, statement, own=own, at=at)
            stands = True
            if not is_new and not job.error_result:
                data = {"unique_id": unique_id, "job_id": job.job_id, "state": job.state}
                self._context.report("JobAdopted", data)
            if is_new or job.state != "DONE":
                job = await self._ended(node, job)
            elif not job.error_result:
                stands = await self._call(in_effect, self._client, job)
            if not job.error_result and stands:
                self._billed += int(job.total_bytes_billed or 0)
                return job
            own = own.following()
            if not is_new:
                continue  # it has failed in an attempt before this one, or what it did is not there any more
            failures += 1
            reason = str((job.error_result or {}).get("reason"))
            if node.cancelled or reason not in PAUSES or failures > self._retries:
                raise StatementError(errors_of(job), at=at, response={"job_id": job.job_id})
            await asyncio.sleep(_pause(reason, failures))
        raise StatementError(f"{_MOST_NUMBERS} jobs of one statement have failed", at=at)

    async def _submitted(
        self, node: _Node, unique_id: str, statement: Line, *, own: StatementId, at: int
    ) -> tuple[Any, bool]:
        """The job of this id, and whether it is one of this attempt. Raises: StatementError, BudgetError."""
        refusals = 0
        while True:
            await self._pace.take()
            if node.cancelled:
                raise StatementError("the run was told to stop", at=at)
            config = self._config(statement, unique_id)
            try:
                return await self._call(self._query, str(statement["sql"]), config, own.job), True
            except google_errors.Conflict:
                job = await self._existing(own.job)
                label = bigquery_ids.label_value(self._context.attempt)
                return job, (job.labels or {}).get(bigquery_ids.ATTEMPT) == label
            except (RequestError, GoogleAuthError) as error:
                reason, said = "backendError", str(error)
            except google_errors.GoogleAPICallError as error:
                reason, said = reason_of(error), errors_of(error)
            refusals += 1
            if reason not in PAUSES or refusals > _MOST_REFUSALS:
                raise StatementError(said, at=at)
            await asyncio.sleep(_pause(reason, refusals))

    def _query(self, sql: str, config: Any, job_id: str) -> Any:
        return self._client.query(
            sql, job_config=config, job_id=job_id, job_retry=None, retry=None, timeout=_REQUEST_SECONDS
        )

    async def _existing(self, job_id: str) -> Any:
        """The job of which BigQuery says that it is there; for a moment it may not show it yet."""
        for pause in (0.2, 0.5, 1, 2, 4):
            with contextlib.suppress(google_errors.NotFound):
                return await self._call(self._client.get_job, job_id, location=self._client.location)
            await asyncio.sleep(pause)
        return await self._call(self._client.get_job, job_id, location=self._client.location)

    def _config(self, statement: Line, unique_id: str) -> Any:
        """What dbt would have asked for, with what the run says of it. Raises: BudgetError."""
        given = copy.deepcopy(statement["config"])
        query = given.setdefault("query", {})
        if self._settings.get("priority"):
            query["priority"] = self._settings["priority"]
        budget = self._settings.get("maximumBytesBilled")
        if budget is not None:
            left = int(budget) - self._billed
            if left <= 0:
                raise BudgetError(
                    f"spec.async.maximumBytesBilled is used up: {self._billed} bytes were billed, and {budget} may be"
                )
            query["maximumBytesBilled"] = str(min(left, int(query.get("maximumBytesBilled") or left)))
        seconds = self._settings.get("jobTimeoutSeconds")
        if seconds:
            given["jobTimeoutMs"] = str(int(seconds) * 1000)
        labels = bigquery_ids.labels(
            run=self._context.run,
            node=unique_id,
            namespace=self._context.namespace,
            attempt=self._context.attempt,
            began_in=self._context.began_in(unique_id),
        )
        given["labels"] = {**given.get("labels", {}), **labels}
        return bigquery.QueryJobConfig.from_api_repr(given)

    # All jobs.

    async def _ended(self, node: _Node, job: Any) -> Any:
        """The job once it has ended."""
        if job.state == "DONE":
            return job
        created = job.created or datetime.now(timezone.utc)
        ended = asyncio.get_running_loop().create_future()
        flight = _Flight(job.job_id, location=job.location, created=created, ended=ended)
        self._flights[job.job_id] = node.flight = flight
        if self._poller is None or self._poller.done():
            self._poller = asyncio.ensure_future(self._poll())
        try:
            return await ended
        finally:
            node.flight = None
            self._flights.pop(job.job_id, None)

    async def _poll(self) -> None:
        """While there are jobs, find out which have ended."""
        while self._flights:
            await asyncio.sleep(_POLL_SECONDS)
            flights = list(self._flights.values())
            if not flights:
                return
            since = min(flight.created for flight in flights) - timedelta(seconds=1)
            try:
                done = await self._call(self._done, since, frozenset(flight.job_id for flight in flights))
            except _REFUSED:
                done = {}
            asked = [flight for flight in flights if flight.job_id in done and not self._told(flight, done)]
            others = sorted((flight for flight in flights if flight.job_id not in done), key=lambda one: one.asked)
            for flight in others[:_ASKED_AT_A_POLL]:
                flight.asked += 1
            await asyncio.gather(*(self._look(flight) for flight in (*asked, *others[:_ASKED_AT_A_POLL])))

    def _done(self, since: datetime, wanted: frozenset[str]) -> dict[str, Any]:
        listed = self._client.list_jobs(
            min_creation_time=since, state_filter="done", page_size=1000, timeout=_REQUEST_SECONDS
        )
        return {job.job_id: job for job in listed if job.job_id in wanted}

    @staticmethod
    def _told(flight: _Flight, done: Mapping[str, Any]) -> bool:
        """Whether the list has said all that is to be known of the job: of one that has failed it may leave out why."""
        job = done[flight.job_id]
        known = not job.error_result and complete(job)
        if known and not flight.ended.done():
            flight.ended.set_result(job)
        return known

    async def _look(self, flight: _Flight) -> None:
        try:
            job = await self._call(self._client.get_job, flight.job_id, location=flight.location)
        except _REFUSED as error:
            flight.unanswered += 1  # it is looked at again
            if flight.unanswered >= _MOST_LOOKS and not flight.ended.done():
                flight.ended.set_exception(error)
            return
        flight.unanswered = 0
        if job.state == "DONE" and not flight.ended.done():
            flight.ended.set_result(job)

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs))


def reason_of(error: google_errors.GoogleAPICallError) -> str:
    """BigQuery's word for why it has refused a request."""
    reasons = [str(each.get("reason")) for each in error.errors if isinstance(each, dict) and each.get("reason")]
    if reasons:
        return reasons[0]
    return "backendError" if isinstance(error, google_errors.ServerError) else ""


def complete(job: Any) -> bool:
    """Whether this is all of a job that has ended well, and not a shorter form of it."""
    bytes_of = (job.total_bytes_processed, job.total_bytes_billed)
    return job.state == "DONE" and None not in (
        *bytes_of,
        *(job.statement_type, job.destination, job.slot_millis, job.cache_hit),
    )


def in_effect(client: Any, job: Any) -> bool:
    """Whether what a job of before has made is still there: a table that is a newer one now is not the job's."""
    target = job.ddl_target_table or job.destination
    if target is None:
        return True
    try:
        table = client.get_table(target)
    except google_errors.NotFound:
        return False
    return bool(table.created and job.ended and table.created <= job.ended)


def _pause(reason: str, count: int) -> float:
    return float(min(PAUSES[reason] * 2 ** (count - 1), _LONGEST_PAUSE))
