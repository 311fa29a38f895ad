"""The record of a run: the digest of all results, and RunFinished."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dbt_operator.runner.freshness import SKIPPED, STALE
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.output import Line, plain
from dbt_operator.runner.translator import node_result

MESSAGE_LENGTH = 200


def results_of(result: Any) -> list[Line] | None:
    """The results of an invocation as dbt returned them, in the form of NodeResult's `result`; None if it has none."""
    results = getattr(result, "results", None)
    if results is None:
        return None
    return [_plain_result(item) for item in results]


def _plain_result(result: Any) -> Line:
    node = getattr(result, "node", None)
    status = getattr(result, "status", "")
    return {
        "unique_id": getattr(node, "unique_id", None) or getattr(result, "unique_id", ""),
        "status": str(getattr(status, "value", status)),
        "message": getattr(result, "message", None),
        "execution_time": getattr(result, "execution_time", 0) or 0,
        "failures": getattr(result, "failures", None),
        "adapter_response": getattr(result, "adapter_response", None) or {},
        "compiled_code": getattr(node, "compiled_code", None),
        "freshness": _freshness(node, result),
        "timing": [
            {"started_at": getattr(step, "started_at", None), "completed_at": getattr(step, "completed_at", None)}
            for step in getattr(result, "timing", None) or ()
        ],
    }


def _freshness(node: Any, result: Any) -> Line | None:
    """How old the newest row of a source is, where dbt has found that out, and how old it may be."""
    if getattr(result, "max_loaded_at", None) is None:
        return None
    criteria = getattr(node, "freshness", None)
    return {
        "status": str(getattr(result.status, "value", result.status)),
        "max_loaded_at": _utc(result.max_loaded_at),
        "snapshotted_at": _utc(result.snapshotted_at),
        "age_seconds": round(float(result.age), 3),
        "warn_after": _limit(getattr(criteria, "warn_after", None)),
        "error_after": _limit(getattr(criteria, "error_after", None)),
    }


def _limit(time: Any) -> str:
    """Such as "12 hours"; "" where there is none."""
    count, period = getattr(time, "count", None), getattr(time, "period", None)
    if not count or not period:
        return ""
    return f"{count} {getattr(period, 'value', period)}{'' if count == 1 else 's'}"


def _utc(value: Any) -> str:
    return str(value.isoformat()) if value.tzinfo is not None else f"{value.isoformat()}Z"


def with_hooks(*, results: Iterable[Line], reported: Collection[str], hooks: Mapping[str, Sequence[str]]) -> list[Line]:
    """The results, with the names of the hooks that failed: dbt 1.8 gives their results no unique_id.

    dbt stops at the first hook that fails, so that this one is the first without a result.
    reported: the nodes whose results were in events.
    hooks: the unique_ids of the hooks of each kind, such as on-run-start, in the order of their execution.
    """
    named = []
    for result in results:
        if not result["unique_id"]:
            kind = str(result["message"] or "").partition(" failed")[0]
            left = (one for one in hooks.get(kind, ()) if one not in reported)
            result = {**result, "unique_id": next(left, "")}
        named.append(result)
    return named


def late_results(
    *, results: Iterable[Line], reported: dict[str, Line], known: dict[str, Line], masker: Masker
) -> list[Line]:
    """NodeResults of nodes that ended without an event: dbt handed their results over at the end only."""
    return [
        node_result(
            node={"unique_id": result["unique_id"]},
            result=result,
            known=known.get(result["unique_id"], {}),
            masker=masker,
        )
        for result in results
        # What was skipped is told by the digest: such a node has not ended, it never began.
        if result["unique_id"] not in reported and result["status"] not in (SKIPPED, STALE)
    ]


def digest_entries(*, results: Iterable[Line], masker: Masker) -> list[Line]:
    """The entries of RunResults, as they will be printed."""
    return [
        {
            "unique_id": result["unique_id"],
            "status": result["status"],
            # Three digits: shorter lines, and no number whose text depends on who writes it.
            "execution_time": round(float(result.get("execution_time") or 0), 3),
            "failures": result.get("failures", result.get("num_failures")),
            "message": masker.cut(plain(str(result.get("message") or "")), limit=MESSAGE_LENGTH),
        }
        for result in results
    ]


def digest(*, entries: list[Line]) -> str:
    """The checksum of the entries in the order they are printed, over their canonical JSON."""
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def peak_memory_bytes(*, parts: bool = False) -> int:
    """The most memory this process had in use, or a part of it; the kernel counts in KiB, except on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if parts:
        peak = max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024
