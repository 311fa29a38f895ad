"""What a job of BigQuery answers, in dbt-bigquery's words."""

from __future__ import annotations

from typing import Any

from dbt_operator.runner.executors import Answer
from dbt_operator.runner.output import Line

_DML = ("INSERT", "DELETE", "MERGE", "UPDATE")


def answer_of(client: Any, job: Any, *, fetches: bool) -> Answer:
    """As the adapter's `execute` has it. Raises: what the client does."""
    code, count = _code_and_rows(client, job)
    processed = _bytes(job.total_bytes_processed)
    message = str(code)
    if count is not None:
        message = f"{code} ({_rows(count)} rows, {processed} processed)"
    elif job.total_bytes_processed is not None:
        message = f"{code} ({processed} processed)"
    response: Line = {
        "_message": message,
        "code": code,
        "rows_affected": count,
        "bytes_processed": job.total_bytes_processed,
        "bytes_billed": job.total_bytes_billed,
        "location": job.location,
        "project_id": job.project,
        "job_id": job.job_id,
        "slot_ms": job.slot_millis,
        "cache_hit": job.cache_hit,
    }
    response = {name: value for name, value in response.items() if value is not None}
    if not fetches:
        return Answer(message=message, response=response)
    found = job.result(max_results=10)
    columns = tuple(field.name for field in found.schema)
    return Answer(message=message, response=response, columns=columns, rows=tuple(row.values() for row in found))


def errors_of(failed: Any) -> str:
    """What BigQuery says of a job, or in answer to a request, in its own words."""
    errors = [each for each in getattr(failed, "errors", None) or () if isinstance(each, dict) and each.get("message")]
    if not errors and getattr(failed, "error_result", None):
        errors = [failed.error_result]
    return "\n".join(dict.fromkeys(str(each["message"]) for each in errors)) or str(failed)


def _code_and_rows(client: Any, job: Any) -> tuple[str | None, int | None]:
    kind = job.statement_type
    if kind == "CREATE_VIEW":
        return "CREATE VIEW", None
    if kind == "CREATE_TABLE_AS_SELECT":
        return "CREATE TABLE", client.get_table(job.destination).num_rows
    if kind == "SELECT":
        return "SELECT", client.get_table(job.destination).num_rows
    if kind in _DML:
        return kind, job.num_dml_affected_rows
    return ("SCRIPT", None) if kind == "SCRIPT" else (None, None)


def _bytes(count: Any) -> Any:
    if not count:
        return count
    amount = float(count)
    for unit in ("Bytes", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024:
            return f"{amount:3.1f} {unit}"
        amount /= 1024
    return f"{amount:3.1f} PiB"


def _rows(count: int) -> str:
    amount = float(count)
    for unit in ("", "k", "m", "b"):
        if abs(amount) < 1000:
            return f"{amount:3.1f}{unit}"
        amount /= 1000
    return f"{amount:3.1f}t"
