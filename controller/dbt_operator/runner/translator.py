"""From dbt's messages to lines: which are passed on, and the result of a node at the moment it ends."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from dbt_operator.runner import deadlines
from dbt_operator.runner.compiled import FAILURES, Queries, excerpt
from dbt_operator.runner.deadlines import Deadlines
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.output import Line, plain

# dbt's own events that are passed on as they are.
PASSED = frozenset(
    [
        "MainReportVersion",
        "AdapterRegistered",
        "UnableToPartialParse",
        "DefaultSelector",
        "NoNodesForSelectionCriteria",
        "NothingToDo",
        "ConcurrencyLine",
        "LogHookStartLine",
        "LogHookEndLine",
        "LogStartLine",
        "LogModelResult",
        "LogTestResult",
        "LogSeedResult",
        "LogSnapshotResult",
        "LogFunctionResult",
        "LogFreshnessResult",
        "LogNodeNoOpResult",
        "LogStartBatch",
        "LogBatchResult",
        "SkippingDetails",
        "MarkSkippedChildren",
        "LogCancelLine",
        "GenericExceptionOnRun",
        "FinishedRunningStats",
        "EndOfRunSummary",
        "StatsLine",
        "RunResultError",
        "MainEncounteredError",
        # The last words of commands that have no results of nodes, or whose failure is in no result.
        "FreshnessCheckComplete",
        "CatalogWritten",
        "WriteCatalogFailure",
        "CannotGenerateDocs",
        "InternalErrorOnRun",
    ]
)
# Needed to say something of our own, not passed on.
USED = frozenset(("NodeFinished", "CommandCompleted"))
# What user code says through dbt: shown like any other output of it.
FORWARDED_TEXTS = frozenset(("JinjaLogInfo", "PrintEvent", "ShowNode", "CompiledNode"))
# Of these, what a command was asked for, and not the user's code.
_ANSWERS = frozenset(("ShowNode", "CompiledNode"))
# Errors that repeat what another event says, or have nothing to say.
_NOISE = frozenset(("RunResultFailure", "RunResultErrorNoMessage", "RunResultWarning", "RunResultWarningMessage"))
_LAST_WORDS = frozenset(("MainEncounteredError", "MainStackTrace"))
# Every invocation says these again; a run of ours is several invocations.
_ONCE = frozenset(("MainReportVersion", "AdapterRegistered", "UnableToPartialParse", "DefaultSelector"))
_LOGGED_RESULTS = frozenset(("LogModelResult", "LogSeedResult", "LogSnapshotResult", "LogTestResult"))
MOST_REMARKS = 50
MESSAGE_LENGTH = 2048


def converter() -> Callable[[Any], Line]:
    """The function that makes JSON-like values of dbt's messages, as dbt's own JSON log does.

    Fields at their default are included, where protobuf can do that under either of the names it gave the option.
    """
    to_dict = importlib.import_module("google.protobuf.json_format").MessageToDict

    def convert(message: Any) -> Line:
        line: Line
        try:
            line = to_dict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        except TypeError:
            line = to_dict(message, preserving_proto_field_name=True, including_default_value_fields=True)
        return line

    return convert


class Callback:
    """What dbt calls for each event, on its worker threads: were it to raise, the node would fail; nor may it block."""

    def __init__(
        self,
        *,
        put: Callable[[Any], None],
        warn: Callable[[str], None],
        queries: Queries,
        deadlines: Deadlines,
    ) -> None:
        self.invocation_id = ""
        self.executing = False
        self._put = put
        self._queries = queries
        self._deadlines = deadlines
        self._warn = warn
        self._listening = True
        self._begins = ""
        self._only: frozenset[str] | None = None
        self._all_levels = frozenset(("warn", "error"))
        self._completed: Callable[[], None] | None = None
        self._passes: Callable[[str], bool] = lambda _: False
        self._failures = 0

    def follow(
        self,
        *,
        listening: bool = True,
        chatty: bool = False,
        begins: str = "",
        only: frozenset[str] | None = None,
        completed: Callable[[], None] | None = None,
        passes: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Before an invocation: whether its events count, whether its info level does, and whom to tell of its end.

        begins: the name of the event by which a node begins, if that is not one that is passed on in any case.
        only: the names of the events that count, where not all do.
        passes: whether an error that ends the invocation does not end the attempt.
        """
        self.invocation_id = ""
        self.executing = False
        self._listening = listening
        self._begins = begins
        self._only = only
        self._all_levels = frozenset(("warn", "error", "info") if chatty else ("warn", "error"))
        self._completed = completed
        self._passes = passes

    def __call__(self, message: Any) -> None:
        """Take an event of dbt."""
        try:
            self._take(message)
        except Exception as error:  # noqa: BLE001 - what gets out of here fails the node
            self._failed(error)
        except BaseException as error:
            # The wish to stop arrives as a KeyboardInterrupt in the main thread, wherever that is: it belongs to dbt.
            if threading.current_thread() is threading.main_thread() and isinstance(error, KeyboardInterrupt):
                raise
            self._failed(error)

    def _take(self, message: Any) -> None:
        info = message.info
        name = info.name
        if not self.invocation_id:
            self.invocation_id = info.invocation_id
        # After the summary dbt only writes its artifacts.
        if name in ("EndOfRunSummary", "CommandCompleted") and self._completed is not None:
            self._completed()
        if name == "ConcurrencyLine":
            self.executing = True
        elif name == "SQLQuery":
            self._queries.begun(message.data.node_info.unique_id, message.data.sql)
        elif name == "SQLQueryStatus":
            self._queries.succeeded(message.data.node_info.unique_id)
        if name in deadlines.EVENTS:
            self._deadlines.saw(name, message.data.node_info.unique_id)
        if (name in _LAST_WORDS and self._passes(info.msg)) or (self._only is not None and name not in self._only):
            return
        if self._listening and (
            name in PASSED
            or name in USED
            or name in FORWARDED_TEXTS
            or name == self._begins
            or (info.level in self._all_levels and name not in _NOISE)
        ):
            self._put(message)

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures <= 10:
            self._warn(f"an event of dbt was lost: {error!r}")


class Translator:
    """Turns dbt's messages into the lines to print. Used by the printing thread alone, so it needs no locks."""

    def __init__(
        self,
        *,
        convert: Callable[[Any], Line],
        speak: Callable[[str, str], None],
        masker: Masker,
        queries: Queries,
        deadlines: Deadlines,
    ) -> None:
        self.dropped = 0
        self.results: dict[str, Line] = {}
        # What the manifest knows of the nodes, once it is there: relation, attached_node, materialized.
        self.known: dict[str, Line] = {}
        self._convert = convert
        self._speak = speak
        self._masker = masker
        self._queries = queries
        self._deadlines = deadlines
        self._remarks = 0
        self._once: set[str] = set()
        self._printed: set[str] = set()
        self._batched: set[str] = set()
        self._errors_reported: set[str] = set()
        self._of_nodes, self._begins = True, ""
        self._words: Mapping[str, str] = {}
        self.printed: list[str] = []

    def begin(self, *, nodes: bool, begins: str = "", words: Mapping[str, str] | None = None) -> None:
        """Before a command, with nothing left to print. nodes: it executes nodes, and is followed by them.

        Of a command that does not, what dbt says of nodes is how it goes about its work.
        words: other words for statuses of dbt's.
        """
        self._of_nodes, self._begins, self._words = nodes, begins, words or {}

    def lines(self, message: Any) -> Iterator[Line]:
        """The lines for a message: none, itself, or itself and a result."""
        line = self._convert(message)
        info, data = line["info"], line.setdefault("data", {})
        node = data.get("node_info") or {}
        # The user's own, of any size, and no business of whoever follows a run.
        node.pop("meta", None)
        name = info["name"]
        if name in FORWARDED_TEXTS:
            text = data.get("msg") or data.get("preview") or data.get("compiled") or info["msg"]
            self._speak("stdout", plain(str(text)))
            self.printed += [plain(str(info["msg"]))] if name in _ANSWERS else []
        elif not self._of_nodes and (node.get("unique_id") or data.get("unique_id")):
            return
        elif name == "NodeFinished":
            yield from self._finished(node, data.get("run_result") or {}, info)
        elif name in PASSED or name == self._begins:
            yield from self._passed(line, node)
        elif name not in USED:
            yield from self._remark(line)

    def _passed(self, line: Line, node: Line) -> Iterator[Line]:
        info, data = line["info"], line["data"]
        name = info["name"]
        if name in _ONCE and not self._first(name):
            return
        if name == "RunResultError" and node.get("unique_id") in self._errors_reported:
            return
        skipping = (data.pop("run_result", None) or {}) if name == "MarkSkippedChildren" else {}
        yield _envelope(line)
        if name == "LogStartBatch":
            self._batched.add(node.get("unique_id", ""))
        elif name in _LOGGED_RESULTS:
            self._batched.discard(node.get("unique_id", ""))
        elif name == "LogHookEndLine":
            yield own_line(self._hook(node, data), info)
        elif skipping and data.get("unique_id") and data["unique_id"] not in self.results:
            # Only where dbt said nothing else of the end: an exception on the worker thread itself.
            yield own_line(self._result({"unique_id": data["unique_id"]}, skipping), info)

    def _first(self, name: str) -> bool:
        first = name not in self._once
        self._once.add(name)
        return first

    def _remark(self, line: Line) -> Iterator[Line]:
        info = line["info"]
        text = plain(info.get("msg") or "")
        if info["level"] == "info":
            self._speak("stdout", text)
            return
        if info["name"] == "MainStackTrace" and "KeyboardInterrupt" in text:
            return
        # A run of ours is several invocations, each of which repeats some warnings.
        if text in self._printed:
            return
        self._printed.add(text)
        self._remarks += 1
        if self._remarks > MOST_REMARKS:
            self.dropped += 1
            return
        yield _envelope(line)

    def _finished(self, node: Line, result: Line, info: Line) -> Iterator[Line]:
        # Each batch of a microbatch model ends with a NodeFinished that looks like the model's own. The model's own
        # follows its LogModelResult.
        if node.get("unique_id") not in self._batched:
            yield own_line(self._result(node, result), info)

    def _hook(self, node: Line, data: Line) -> Line:
        # Hooks have no NodeFinished. Their error text comes with RunResultError at the end.
        status = str(data.get("status") or node.get("node_status") or "").lower()
        # dbt before 1.10 says OK here.
        status = "success" if status == "ok" else status
        return self._result(node, {"status": status, "execution_time": data.get("execution_time", 0)})

    def _result(self, node: Line, result: Line) -> Line:
        known = self.known.get(node.get("unique_id", ""), {})
        data = self._deadlines.marked(node_result(node=node, result=result, known=known, masker=self._masker))
        data["status"] = self._words.get(data["status"], data["status"])
        self.results[data["unique_id"]] = data
        query = self._queries.take(data["unique_id"])
        if query and data["status"] in FAILURES:
            lines = excerpt(query=query, message=plain(str(result.get("message") or "")), masker=self._masker)
            data.update({"excerpt": lines} if lines else {})
        if data["message"]:
            self._errors_reported.add(data["unique_id"])
        return data


def own_line(data: Line, cause: Line) -> Line:
    """A NodeResult in the envelope of the event that told us."""
    return {"info": {**_info(cause), "name": "NodeResult", "level": "info", "code": "", "msg": ""}, "data": data}


def _info(info: Line) -> Line:
    return {key: info.get(key, "") for key in ("name", "level", "ts", "invocation_id", "code", "msg", "thread")}


def _envelope(line: Line) -> Line:
    return {"info": _info(line["info"]), "data": line["data"]}


def node_result(*, node: Line, result: Line, known: Line, masker: Masker) -> Line:
    """The data of a NodeResult from what dbt says of the node, of its result, and the manifest's knowledge."""
    unique_id = node.get("unique_id") or known.get("unique_id") or ""
    response = result.get("adapter_response") or {}
    resource_type = node.get("resource_type") or known.get("resource_type") or unique_id.split(".")[0]
    failures = result.get("num_failures")
    if failures is None:
        failures = result.get("failures")
    started, completed = _times(result.get("timing_info") or result.get("timing") or [])
    relation = known.get("relation") or (node.get("node_relation") or {}).get("relation_name") or None
    is_test = resource_type in ("test", "unit_test")
    return {
        "unique_id": unique_id,
        "resource_type": resource_type,
        "name": node.get("node_name") or known.get("name") or unique_id.rsplit(".", 1)[-1],
        "status": str(result.get("status") or ""),
        "message": masker.cut(plain(str(result.get("message") or "")).strip(), limit=MESSAGE_LENGTH),
        "execution_time": round(float(result.get("execution_time") or 0), 6),
        "started_at": started or _utc(node.get("node_started_at")),
        "completed_at": completed or _utc(node.get("node_finished_at")),
        "rows_affected": _count(response.get("rows_affected")),
        "bytes_processed": _count(response.get("bytes_processed")),
        "bytes_billed": _count(response.get("bytes_billed")),
        "slot_ms": _count(response.get("slot_ms")),
        "cache_hit": response.get("cache_hit"),
        # BigQuery calls it a job, Snowflake, Databricks and Redshift a query.
        "job_id": response.get("job_id") or response.get("query_id") or None,
        "num_failures": _count(failures) if is_test else None,
        "attached_node": known.get("attached_node"),
        "relation": relation,  # of a test: with the rows that it has found, where it keeps them
        "materialized": node.get("materialized") or known.get("materialized") or "",
    }


def _times(timing: list[Line]) -> tuple[str, str]:
    starts = [_utc(step.get("started_at")) for step in timing if step.get("started_at")]
    ends = [_utc(step.get("completed_at")) for step in timing if step.get("completed_at")]
    return (min(starts) if starts else "", max(ends) if ends else "")


def _utc(value: Any) -> str:
    # dbt writes UTC without saying so in some places and with Z in others.
    text = value.isoformat() if hasattr(value, "isoformat") else str(value or "")
    if text.endswith("+00:00"):
        text = text[:-6]
    return text if not text or text.endswith("Z") else text + "Z"


def _count(value: Any) -> int | None:
    # Numbers inside protobuf's Struct are floats, and 64-bit integers are JSON texts; -1 is a driver's "don't know".
    try:
        number = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number >= 0 else None
