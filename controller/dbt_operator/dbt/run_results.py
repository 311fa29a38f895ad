"""dbt's run_results.json for a whole run: one result of each node, from the attempt that reported it last.

dbt writes this file for one invocation, and none at all when it is killed. This one is made of what the attempts
said, in the schema that dbt reads for `dbt retry`, `--select result:error` and `--state`.
"""

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.artifact_metadata import metadata
from dbt_operator.dbt.compiled import Code, by_node
from dbt_operator.dbt.state import NodeState
from dbt_operator.dbt.statuses import STALE
from dbt_operator.dbt.values import shorten

_SCHEMA = "https://schemas.getdbt.com/dbt/run-results/v6.json"
# The statuses that dbt's own reader of schema 6 knows; it refuses a file with another one. dbt before 1.12, which does
# not know "reused", never reports it.
_STATUSES = frozenset(
    {"success", "error", "skipped", "pass", "fail", "warn", "partial success", "no-op", "runtime error", "reused"}
)
_FAILURES = frozenset({"error", "fail", "partial success", "runtime error"})
_SYNONYMS = {"skip": "skipped", STALE: "skipped"}
_Result = dict[str, object]
_UNKNOWN = "Its outcome is unknown."
# Reasons of nodes of which dbt reported nothing: they may have been executed, or somebody stopped dbt before them.
_UNDONE = frozenset({NodeReason.LOST, NodeReason.CANCELLED})
# Reasons that say more than the text of dbt's error, which is only that of the cancelled query.
_STOPPED = frozenset({NodeReason.CANCELLED, NodeReason.FAIL_FAST})


class NodeOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A node at the end of the run: its report that counts, and how the run shows it."""

    node: NodeState
    phase: NodePhase
    reason: NodeReason | None = None
    message: str = ""


def run_results(
    *,
    outcomes: Iterable[NodeOutcome],
    dbt_version: str,
    invocation_id: str,
    started_at: datetime,
    completed_at: datetime,
    arguments: Mapping[str, object],
    limit: int | None = None,
    codes: Sequence[Code] = (),
    room: int | None = None,
) -> bytes:
    """The file as gzip'd JSON, the same bytes for the same run.

    Of several outcomes of one node the last one stands. Results come in the order in which the nodes ended. Those of
    which dbt writes no result, ephemeral models and sources, are left out; a node whose outcome is unknown, or that
    was cancelled, is an error whose message says so.
    `arguments` are dbt's by their names in Python; `dbt retry` needs at least `which`, the command ("build").

    Of the compiled codes all are put in, or those of the nodes that failed, or none: so that the file has no more than
    `room` bytes. The code of a node that was skipped belongs to an attempt before, and is left out.

    Where that is more than `limit` bytes a poorer form is made, the first that fits of these: messages cut to 200
    bytes; of each node its status and nothing else. The last one is returned whatever its size.
    """
    last = {outcome.node.unique_id: outcome for outcome in outcomes}
    known = [(outcome.node, result) for outcome in last.values() if (result := _result(outcome)) is not None]
    results = [result for _, result in sorted(known, key=lambda pair: _place(pair[0]))]
    document = {
        "metadata": metadata(
            _SCHEMA,
            dbt_version=dbt_version,
            invocation_id=invocation_id,
            started_at=started_at,
            completed_at=completed_at,
        ),
        "results": results,
        "elapsed_time": (completed_at - started_at).total_seconds(),
        "args": arguments,
    }
    data = _packed(document)
    if room is None or len(data) > room:
        room = limit  # what the room is to be left for gives way in any case
    for texts in (by_node(codes), by_node(codes, failed=True)) if codes else ():
        fuller = _packed(document | {"results": [_with_code(result, texts) for result in results]})
        if room is None or len(fuller) <= room:
            return fuller
    for poorer in (_short_message, _outline):
        if limit is None or len(data) <= limit:
            break
        data = _packed(document | {"results": [poorer(result) for result in results]})
    return data


class _CodeOfResult(msgspec.Struct, frozen=True):
    unique_id: str
    status: str
    compiled_code: str | None = None


class _CodesOfResults(msgspec.Struct, frozen=True):
    results: tuple[_CodeOfResult, ...] = ()


def codes_in(content: bytes | None) -> tuple[Code, ...]:
    """The compiled codes in such a file, as of an attempt before all others; none where there is no file."""
    try:
        found = msgspec.json.decode(gzip.decompress(content or b""), type=_CodesOfResults)
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError):
        return ()
    return tuple(
        Code(unique_id=each.unique_id, code=each.compiled_code, failed=each.status in _FAILURES)
        for each in found.results
        if each.compiled_code is not None
    )


def _packed(document: Mapping[str, object]) -> bytes:
    return gzip.compress(msgspec.json.encode(document), mtime=0)


def _with_code(result: _Result, texts: Mapping[str, str]) -> _Result:
    code = texts.get(str(result["unique_id"])) if result["status"] != "skipped" else None
    return result if code is None else result | {"compiled": True, "compiled_code": code}


def _short_message(result: _Result) -> _Result:
    message = result["message"]
    return result | {"message": shorten(message, limit=200) if isinstance(message, str) else None}


def _outline(result: _Result) -> _Result:
    # dbt's reader wants every field.
    return result | {
        "timing": [],
        "execution_time": 0.0,
        "adapter_response": {},
        "message": None,
        "relation_name": None,
    }


def _place(node: NodeState) -> tuple[bool, float, str]:
    """Where the node's result stands: by the time at which it ended, those that never did at the end."""
    ended = node.finished_at or node.ended_ts
    return ended is None, ended.timestamp() if ended is not None else 0.0, node.unique_id


def _result(outcome: NodeOutcome) -> _Result | None:
    node = outcome.node
    if node.resource_type == "source" or (node.resource_type == "model" and node.materialized == "ephemeral"):
        return None
    result = _result_of(outcome)
    if result is None:
        return None
    status, message = result
    return {
        "status": status,
        "timing": _timing(node),
        "thread_id": "",
        "execution_time": node.execution_seconds or 0.0,
        "adapter_response": _adapter_response(node),
        "message": message or None,
        "failures": node.num_failures,
        "unique_id": node.unique_id,
        "compiled": None,
        "compiled_code": None,
        "relation_name": node.relation or None,
        "batch_results": None,
    }


def _result_of(outcome: NodeOutcome) -> tuple[str, str] | None:
    """Status and message; None when there is nothing to say, because the command executes no such node."""
    node = outcome.node
    if node.phase.terminal:
        status = _SYNONYMS.get(node.status, node.status)
        if status not in _STATUSES:
            return "error", outcome.message or _UNKNOWN
        stopped = outcome.reason in _STOPPED or (status == "skipped" and not node.message)
        return status, outcome.message if stopped and outcome.message else node.message
    if outcome.phase is NodePhase.SUCCEEDED:
        return None
    if outcome.phase is NodePhase.SKIPPED and outcome.reason not in _UNDONE:
        return "skipped", outcome.message
    return "error", outcome.message or _UNKNOWN


def _timing(node: NodeState) -> list[dict[str, object]]:
    if node.started_at is None:
        return []
    return [{"name": "execute", "started_at": node.started_at, "completed_at": node.finished_at}]


def _adapter_response(node: NodeState) -> dict[str, object]:
    known = {
        "rows_affected": node.rows_affected,
        "bytes_processed": node.bytes_processed,
        "bytes_billed": node.bytes_billed,
        "slot_ms": node.slot_milliseconds,
        "job_id": node.job_id or None,
    }
    return {name: value for name, value in known.items() if value is not None}
