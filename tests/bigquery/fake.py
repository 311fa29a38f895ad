"""What the fake remembers and does, without HTTP: jobs, a catalog, rules for what goes wrong, a journal of requests."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bigquery.catalog import DML, Catalog, Resource, read
from tests.bigquery.jobs import DONE, FOR_EVER, STATUS, Job, Row

ANONYMOUS = "_anonymous"
TESTED: Row = {"failures": 0, "should_warn": False, "should_error": False}


class ApiError(Exception):
    """A request is refused."""

    def __init__(self, reason: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.reason, self.message, self.status = reason, message, status or STATUS.get(reason, 400)

    def body(self) -> Resource:
        """As the service words it."""
        error = {"domain": "global", "reason": self.reason, "message": self.message}
        return {"error": {"code": self.status, "message": self.message, "errors": [error], "status": self.reason}}


@dataclass
class Behaviour:
    """What becomes of jobs whose text matches; the last one that matches counts.

    times: of how many jobs; None: of all.
    """

    match: str = ""
    seconds: float = 0.0
    pending: float = 0.0
    held: bool = False  # it does not end until it is told to
    error: tuple[str, str] | None = None  # reason and message that it ends with
    rows: Sequence[Row] | None = None
    bytes: int = 10_485_760
    cache_hit: bool = False
    times: int | None = None


@dataclass
class Fault:
    """What becomes of requests instead of their answer; `method` as the service calls it, such as jobs.insert.

    lost: the connection is closed without an answer, after what was asked for was done. `hangs`: it stays open, until
    the fake is told to release it.
    """

    method: str
    match: str = ""
    status: int = 0
    reason: str = "backendError"
    lost: bool = False
    hangs: bool = False
    times: int = 1


@dataclass(frozen=True)
class Request:
    """A line of the journal."""

    at: float
    method: str
    path: str
    job: str = ""
    status: int = 0  # of the answer; 0: it was lost


@dataclass
class FakeBigQuery:
    """The service: everything that a request may do, and what tests ask it."""

    location: str = "US"
    cancel_seconds: float = 0.0  # between the wish to cancel a job and its end
    longest_poll: float = 10.0  # how long a question for results may wait for the end of a job
    forgetful: bool = False  # an id is taken twice, and no label is kept, as an emulator may do
    catalog: Catalog = field(default_factory=Catalog)
    jobs: dict[tuple[str, str, str], Job] = field(default_factory=dict)
    behaviours: list[Behaviour] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    journal: list[Request] = field(default_factory=list)
    _next: int = FOR_EVER  # before which no job ends that has had no effect yet

    # What tests ask and say.

    def created(self, match: str = "") -> list[Job]:
        """The jobs that were made, the oldest first, without those that are a part of a script."""
        return [job for job in list(self.jobs.values()) if not job.parent and re.search(match, job.query, re.I | re.S)]

    def requests(self, method: str, job: str = "") -> list[Request]:
        """The lines of the journal of this method, and of this job."""
        return [one for one in list(self.journal) if one.method == method and job in ("", one.job)]

    def states(self, match: str = "") -> list[str]:
        """The states of these jobs."""
        now = self.now()
        return [job.state(now) for job in self.created(match)]

    def release(self, match: str = "") -> None:
        """Let jobs that are held come to their end now."""
        for job in self.created(match):
            if job.held and job.state(self.now()) != DONE:
                job.held, job.ends, job.error = False, self.now(), job.own_error
                self._next = 0

    @staticmethod
    def now() -> int:
        """In milliseconds, as all times here."""
        return int(time.time() * 1000)

    # What requests do.

    def insert(self, project: str, body: Mapping[str, Any], content: bytes = b"") -> Resource:
        """Jobs.insert. Raises: ApiError."""
        reference, configuration = body.get("jobReference") or {}, dict(body["configuration"])
        location = reference.get("location") or self.location
        given = str(reference.get("jobId") or f"job_{len(self.jobs)}_{self.now()}")
        key = (project, location, given)
        if self.forgetful:
            configuration.pop("labels", None)
        elif key in self.jobs:
            raise ApiError("duplicate", f"Already Exists: Job {project}:{location}.{given}")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,1024}", given):
            raise ApiError("invalid", f"Invalid job ID {given!r}")
        _check_labels(configuration.get("labels") or {})
        job = self._planned(key, configuration, content)
        if configuration.get("dryRun"):
            shown = job.resource(FOR_EVER)
            shown["jobReference"].pop("jobId")
            return shown
        self.jobs[key] = job
        self._next = min(self._next, job.ends)
        self.settle()
        return job.resource(self.now())

    def _planned(self, key: tuple[str, str, str], configuration: Resource, content: bytes) -> Job:
        query = configuration.get("query") or {}
        statement = read(str(query.get("query", "")))
        text = query.get("query") or json.dumps(configuration)
        behaviour = self._behaviour(text)
        now = self.now()
        started = now + int(behaviour.pending * 1000)
        job = Job(
            project=key[0],
            location=key[1],
            id=key[2],
            configuration=configuration,
            statement=statement,
            created=now,
            started=started,
            held=behaviour.held,
            ends=FOR_EVER if behaviour.held else started + int(behaviour.seconds * 1000),
            bytes=behaviour.bytes,
            cache_hit=behaviour.cache_hit,
        )
        if statement.name and not statement.kind.endswith("_SCHEMA"):
            default = query.get("defaultDataset") or {}
            job.target = self.catalog.full(statement.name, project=key[0], dataset=default.get("datasetId", ""))
        elif "query" in configuration and statement.kind == "SELECT":
            # Hidden, and of the same name for the same text, as a result that is kept.
            job.target = (key[0], ANONYMOUS, "anon" + hashlib.sha256("/".join(key).encode()).hexdigest()[:32])
        job.rows = tuple(
            behaviour.rows if behaviour.rows is not None else _rows(text) if statement.kind == "SELECT" else ()
        )
        self._limit(job, configuration, behaviour)
        if content:
            job.rows = tuple({"line": line} for line in content.decode(errors="replace").splitlines()[1:])
        return job

    def _limit(self, job: Job, configuration: Resource, behaviour: Behaviour) -> None:
        if behaviour.error is not None:
            job.error = job.own_error = {"reason": behaviour.error[0], "message": behaviour.error[1]}
        most = int((configuration.get("query") or {}).get("maximumBytesBilled") or 0)
        if most and job.bytes > most:
            text = f"Query exceeded limit for bytes billed: {most}. {job.bytes} or higher required."
            job.error, job.ends = {"reason": "bytesBilledLimitExceeded", "message": text}, job.started
        limit = int(configuration.get("jobTimeoutMs") or 0)
        if limit and job.ends > job.created + limit:
            job.ends = job.created + limit
            job.error = {"reason": "timeout", "message": f"Job timed out after {limit / 1000:g} sec"}

    def _behaviour(self, text: str) -> Behaviour:
        for behaviour in reversed(self.behaviours):
            if behaviour.times != 0 and re.search(behaviour.match, text, re.IGNORECASE | re.DOTALL):
                behaviour.times = None if behaviour.times is None else behaviour.times - 1
                return behaviour
        return Behaviour()

    def settle(self) -> None:
        """Let all jobs that have ended have their effect, in the order of their ends."""
        now = self.now()
        if now < self._next:
            return
        self._next = FOR_EVER  # at first: a test may release a job meanwhile
        open_ = [job for job in list(self.jobs.values()) if not job.settled]
        ended = [job for job in open_ if job.state(now) == DONE]
        self._next = min((self._next, *(job.ends for job in open_ if job.state(now) != DONE)))
        for job in sorted(ended, key=lambda one: one.ends):
            job.settled = True
            if job.error is None:
                self._commit(job)

    def _commit(self, job: Job) -> None:
        if job.type in ("COPY", "LOAD"):
            target = job.configuration[job.type.lower()]["destinationTable"]
            name = (target["projectId"], target["datasetId"], target["tableId"].partition("$")[0])
            found = self.catalog.tables.get(name)
            append = (job.configuration[job.type.lower()].get("writeDisposition") or "WRITE_APPEND") == "WRITE_APPEND"
            if found is None or not append:
                self.catalog.put(name, kind="TABLE", at=job.ends, rows=len(job.rows))
            else:
                found.rows, found.modified = found.rows + len(job.rows), job.ends
            return
        if job.statement.kind == "SELECT" and job.target is not None:
            self.catalog.put(job.target, kind="TABLE", at=job.ends, rows=len(job.rows))
            return
        problem = self.catalog.apply(job.statement, project=job.project, at=job.ends)
        if problem:
            job.error = {"reason": "notFound", "message": problem}

    def find(self, project: str, job_id: str, location: str = "") -> Job:
        """The job. Without a location it is looked for in the multi-regions only. Raises: ApiError."""
        self.settle()
        for place in (location,) if location else ("US", "EU"):
            if (project, place, job_id) in self.jobs:
                return self.jobs[project, place, job_id]
        raise ApiError("notFound", f"Not found: Job {project}:{location or 'US'}.{job_id}")

    def cancel(self, project: str, job_id: str, location: str = "") -> Resource:
        """Jobs.cancel: the wish. The job ends a while later; one that has ended stays as it is. Raises: ApiError."""
        job, now = self.find(project, job_id, location), self.now()
        if job.state(now) != DONE and not job.cancelled:
            job.cancelled = True
            job.ends = min(job.ends, now + int(self.cancel_seconds * 1000))
            self._next = min(self._next, job.ends)
            text = "Job execution was cancelled: User requested cancellation"
            job.error = {"reason": "stopped", "message": text}
        self.settle()
        return {"kind": "bigquery#jobCancelResponse", "job": job.resource(self.now())}

    def listed(self, project: str, query: Mapping[str, str], states: Sequence[str]) -> Resource:
        """Jobs.list: the newest first, in pages."""
        self.settle()
        now = self.now()
        since, until = int(query.get("minCreationTime") or 0), int(query.get("maxCreationTime") or FOR_EVER)
        wanted = {state.upper() for state in states}
        found = [
            job
            for job in reversed(self.jobs.values())
            if job.project == project
            and since <= job.created <= until
            and (not wanted or job.state(now) in wanted)
            and job.parent == query.get("parentJobId", "")
        ]
        first, size = int(query.get("pageToken") or 0), min(int(query.get("maxResults") or 1000), 1000)
        full = query.get("projection", "minimal").lower() == "full"
        page = [job.listed(now, full=full) for job in found[first : first + size]]
        more = {"nextPageToken": str(first + size)} if first + size < len(found) else {}
        return {"kind": "bigquery#jobList", "jobs": page, **more}

    def results(self, job: Job, *, rows: bool) -> Resource:
        """What getQueryResults answers now. Raises: ApiError with what the job failed for."""
        self.settle()
        now = self.now()
        if job.state(now) == DONE and job.error is not None:
            raise ApiError(job.error["reason"], job.error["message"])
        if job.state(now) == DONE and job.statement.kind == "SELECT" and job.target not in self.catalog.tables:
            raise ApiError("notFound", f"Not found: the result of job {job.id} has expired")
        return job.results(now, rows=rows)

    def forget(self, match: str) -> None:
        """What these jobs have made is gone, as the result of a query is a day later."""
        self.settle()
        for job in self.created(match):
            if job.target is not None:
                self.catalog.tables.pop(job.target, None)

    def fault(self, method: str, text: str) -> Fault | None:
        """What is to become of this request instead of its answer."""
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.match, text, re.IGNORECASE | re.DOTALL):
                fault.times -= 1
                return fault
        return None

    def executed(self) -> Iterator[tuple[str, str]]:
        """What changed the catalog, in its order: the kind of the statement and the relation's own name."""
        for statement in list(self.catalog.applied):
            yield statement.kind, statement.name[-1]


def _rows(text: str) -> tuple[Row, ...]:
    if re.search(r"should_error", text):
        return (TESTED,)
    return ({"id": 1},)


def _check_labels(labels: Mapping[str, str]) -> None:
    """Raises: ApiError where a label breaks the rules."""
    for key, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise ApiError("invalid", f"Invalid label {key!r}: {value!r}")


__all__ = ["DML", "ApiError", "Behaviour", "FakeBigQuery", "Fault", "Job", "Request"]
