"""One job: what was asked for, and where it is in its life, by a clock in milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.bigquery.catalog import DML, Name, Resource, Statement

PENDING, RUNNING, DONE = "PENDING", "RUNNING", "DONE"
FOR_EVER = 1 << 60
# The reasons of errors, and with which status a request answers that tells of them.
STATUS = {
    "notFound": 404,
    "duplicate": 409,
    "accessDenied": 403,
    "rateLimitExceeded": 403,
    "jobRateLimitExceeded": 403,
    "quotaExceeded": 403,
    "backendError": 503,
    "internalError": 500,
    "stopped": 499,
    "timeout": 400,
}
Row = Mapping[str, Any]
_TYPES = {bool: "BOOLEAN", int: "INTEGER", float: "FLOAT", datetime: "TIMESTAMP"}


@dataclass
class Job:
    """A job. Its times are planned when it is made, and change only where it is held or cancelled."""

    project: str
    id: str
    location: str
    configuration: Resource
    statement: Statement
    created: int
    started: int
    ends: int
    target: Name | None = None  # what it makes or changes; of a query a table that has no name
    rows: tuple[Row, ...] = ()
    bytes: int = 0
    cache_hit: bool = False
    held: bool = False  # it ends when it is told to, or when its time is over
    error: Resource | None = None  # that it ends with
    own_error: Resource | None = None  # … if nothing else comes before
    cancelled: bool = False
    settled: bool = False  # its end has had its effect
    parent: str = ""
    children: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        """An id is unique in a project and a location."""
        return self.project, self.location, self.id

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.configuration.get("labels") or {})

    @property
    def query(self) -> str:
        """The text of the statement, "" of a copy or a load."""
        return str((self.configuration.get("query") or {}).get("query", ""))

    @property
    def type(self) -> str:
        """QUERY, COPY or LOAD."""
        return next((kind.upper() for kind in ("query", "copy", "load") if kind in self.configuration), "UNKNOWN")

    def state(self, now: int) -> str:
        """PENDING, RUNNING or DONE."""
        if now >= self.ends:
            return DONE
        return RUNNING if now >= self.started else PENDING

    @property
    def reference(self) -> Resource:
        """How it is called."""
        return {"projectId": self.project, "jobId": self.id, "location": self.location}

    def status(self, now: int) -> Resource:
        """Its state, with the error that it ended with."""
        state = self.state(now)
        if state == DONE and self.error is not None:
            return {"state": state, "errorResult": self.error, "errors": [self.error]}
        return {"state": state}

    def resource(self, now: int) -> Resource:
        """As jobs.get shows it."""
        return {
            "kind": "bigquery#job",
            "id": f"{self.project}:{self.location}.{self.id}",
            "jobReference": self.reference,
            "user_email": "dbt@example.com",
            "configuration": self._shown_configuration(),
            "status": self.status(now),
            "statistics": self._statistics(now),
        }

    def listed(self, now: int, *, full: bool) -> Resource:
        """As jobs.list shows it; without its configuration where that is not asked for."""
        shown = self.resource(now)
        if not full:
            shown.pop("configuration")
        status = shown["status"]
        return shown | {"state": status["state"]} | {k: v for k, v in status.items() if k == "errorResult"}

    def _shown_configuration(self) -> Resource:
        shown = {**self.configuration, "jobType": self.type}
        if "query" in shown and self.target is not None:
            project, dataset, table = self.target
            target = {"projectId": project, "datasetId": dataset, "tableId": table}
            shown["query"] = {**shown["query"], "destinationTable": target}
        return shown

    def _statistics(self, now: int) -> Resource:
        state = self.state(now)
        found: Resource = {"creationTime": str(self.created)}
        if state != PENDING:
            found["startTime"] = str(min(self.started, self.ends))
        if self.parent:
            found["parentJobId"] = self.parent
        if self.children:
            found["numChildJobs"] = str(len(self.children))
        if state == DONE:
            milliseconds = str(max(self.ends - self.started, 0))
            found |= {"endTime": str(self.ends), "totalSlotMs": milliseconds, "totalBytesProcessed": str(self.bytes)}
        if "query" in self.configuration:
            found["query"] = self._query_statistics(done=state == DONE)
        return found

    def _query_statistics(self, *, done: bool) -> Resource:
        kind = self.statement.kind
        found: Resource = {"statementType": kind}
        if self.target is not None and kind.partition("_")[0] in ("CREATE", "DROP", "ALTER"):
            project, dataset, table = self.target
            found["ddlTargetTable"] = {"projectId": project, "datasetId": dataset, "tableId": table}
            found["ddlOperationPerformed"] = kind.partition("_")[0]
        if done:
            found |= {
                "totalBytesProcessed": str(self.bytes),
                "totalBytesBilled": "0" if self.cache_hit else str(self.bytes),
                "totalSlotMs": str(max(self.ends - self.started, 0)),
                "cacheHit": self.cache_hit,
            }
        if done and kind in DML:
            found["numDmlAffectedRows"] = "1"
        return found

    def results(self, now: int, *, rows: bool) -> Resource:
        """As getQueryResults shows it."""
        done = self.state(now) == DONE
        found: Resource = {"kind": "bigquery#getQueryResultsResponse", "jobReference": self.reference}
        found |= {"jobComplete": done, "cacheHit": self.cache_hit, "totalBytesProcessed": str(self.bytes)}
        if not done:
            return found
        first = self.rows[0] if self.rows else {}
        fields = [{"name": k, "type": _TYPES.get(type(v), "STRING"), "mode": "NULLABLE"} for k, v in first.items()]
        found |= {"schema": {"fields": fields}, "totalRows": str(len(self.rows))}
        if self.statement.kind in DML:
            found["numDmlAffectedRows"] = "1"
        if rows:
            found["rows"] = [{"f": [{"v": _as_text(value)} for value in row.values()]} for row in self.rows]
        return found


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return str(int(value.timestamp() * 1_000_000))
    return str(value).lower() if isinstance(value, bool) else str(value)
