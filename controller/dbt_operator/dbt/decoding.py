"""Decoding one line of a pod's log into an event.

The line may come from dbt Core, from Fusion or from our runner; it may be damaged, huge, or printed by somebody else.
Whatever it is, decoding never raises.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from dbt_operator.dbt import parsing, run_parsing, values
from dbt_operator.dbt.bodies import Body
from dbt_operator.dbt.lines import LINE_LIMIT

# kubectl logs --prefix puts the pod before each line; --timestamps, and the kubelet's log API, the time of arrival.
_PREFIX = re.compile(rb"^(?:\[pod/[^\] ]{1,400}\] )?(?:\d{4}-\d{2}-\d{2}T[0-9:.]{8,20}(?:Z|[+-]\d{2}:\d{2}) )?")
_BOM = b"\xef\xbb\xbf"
_DECODER = msgspec.json.Decoder()
_RESULT_NAME = re.compile(r"^Log[A-Za-z]*Result$")

_PARSERS: Mapping[str, Callable[[Mapping[str, object]], Body | None]] = {
    "RunnerStarted": run_parsing.runner_started,
    "SelectedNodes": parsing.graph_part,
    "CommandStarted": run_parsing.command_started,
    "NodeResult": parsing.node_result,
    "CancelRequested": run_parsing.cancel_requested,
    "Hooks": run_parsing.hooks,
    "Microbatch": run_parsing.microbatch,
    "DatabaseFile": run_parsing.database_file,
    "Found": run_parsing.found,
    "Freshness": run_parsing.freshness,
    "Executors": run_parsing.executors,
    "HeldBack": run_parsing.held_back,
    "MemoryPeak": run_parsing.memory_peak,
    "Artifact": run_parsing.artifact_part,
    "ArtifactOmitted": run_parsing.artifact_omitted,
    "DeadlinesIgnored": run_parsing.deadlines_ignored,
    "JobIdsUnknown": run_parsing.job_ids_unknown,
    "RunResults": parsing.digest_part,
    "RunFinished": run_parsing.runner_finished,
    "MainReportVersion": run_parsing.report_version,
    "AdapterRegistered": run_parsing.adapter,
    "ConcurrencyLine": run_parsing.concurrency,
    "NoNodesForSelectionCriteria": run_parsing.no_match,
    "NothingToDo": run_parsing.nothing_to_do,
    "NoNodesSelected": run_parsing.nothing_to_do,
    "MainEncounteredError": run_parsing.main_error,
    "MainStackTrace": run_parsing.stack_trace,
    "LogCancelLine": run_parsing.cancel_line,
    "EndOfRunSummary": run_parsing.summary,
    "StatsLine": run_parsing.stats,
    "CommandCompleted": run_parsing.command_completed,
    "FreshnessCheckComplete": run_parsing.last_step,
    "CatalogWritten": run_parsing.last_step,
    "WriteCatalogFailure": run_parsing.failed_step,
    "CannotGenerateDocs": run_parsing.failed_step,
    "NodeStart": parsing.mentioned,
    "NodeCompiling": parsing.started,
    "NodeExecuting": parsing.started,
    "LogStartLine": parsing.started,
    "LogHookStartLine": parsing.started,
    "LogStartBatch": parsing.batch,
    "LogBatchResult": parsing.batch,
    "SkippingDetails": parsing.skipped,
    "NodeFinished": parsing.finished,
    "MarkSkippedChildren": parsing.marked,
    "RunResultError": parsing.message_of_node("msg", parsing.END_OF_RUN),
    "RunResultWarningMessage": parsing.message_of_node("msg", parsing.END_OF_RUN),
    "GenericExceptionOnRun": parsing.message_of_node("exc", parsing.ON_THE_WAY),
    "CatchableExceptionOnRun": parsing.message_of_node("exc", parsing.ON_THE_WAY),
    "InternalErrorOnRun": parsing.message_of_node("exc", parsing.ON_THE_WAY),
}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event: dbt's envelope, and what it says where that matters here."""

    name: str
    level: str = ""
    ts: datetime | None = None
    seq: int | None = None
    invocation_id: str = ""
    body: Body | None = None


def decode(line: bytes) -> Event | None:
    """The event on this line, or None when the line is no event."""
    if len(line) > LINE_LIMIT:
        return None
    document = _document(line)
    if not isinstance(document, dict):
        return None
    info = values.mapping(document.get("info"))
    name = values.identifier(info.get("name"))
    if not name:
        return None
    level = values.identifier(info.get("level")).lower()
    return Event(
        name=name,
        level=level,
        ts=values.moment(info.get("ts")),
        seq=_seq(document.get("seq")),
        invocation_id=values.identifier(info.get("invocation_id")),
        body=_body(name, values.mapping(document.get("data")), level=level, text=values.text(info.get("msg"))),
    )


def _document(line: bytes) -> object:
    line = _PREFIX.sub(b"", line.removeprefix(_BOM).strip(), count=1).removeprefix(_BOM).strip()
    if not line.startswith(b"{"):
        return None
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _lenient(line)


def _lenient(line: bytes) -> object:
    # Python's own parser reads what the strict one refuses: NaN and Infinity, which dbt prints for such floats,
    # halves of surrogate pairs, control characters inside texts.
    try:
        return json.loads(line.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _seq(value: object) -> int | None:
    return values.integer(value) if isinstance(value, int) else None


def _body(name: str, data: Mapping[str, object], *, level: str, text: str) -> Body | None:
    parse = _PARSERS.get(name)
    if parse is not None:
        return parse(data)
    if name == "LogTestResult":
        return parsing.test_ended(data, level=level)
    if name == "Generic":
        return parsing.generic(data, level=level, text=text)
    if name == "LogHookEndLine" or _RESULT_NAME.match(name):
        return parsing.ended(data, level=level)
    return parsing.complaint(data, text=text) if level == "error" else None
