"""dbt's sources.json for a whole run: how old each source was, from whichever attempt has looked at it last.

dbt writes this file for one invocation; a retry of one source would leave that one alone in it. This one is made of
what the attempts reported, in the schema that dbt reads for `--select source_status:fresher --state`.
"""

import gzip
from collections.abc import Iterable
from datetime import datetime

import msgspec

from dbt_operator.dbt.artifact_metadata import metadata
from dbt_operator.dbt.bodies import Freshness
from dbt_operator.dbt.state import NodeState

_SCHEMA = "https://schemas.getdbt.com/dbt/sources/v3.json"


def sources_file(
    nodes: Iterable[NodeState], *, dbt_version: str, invocation_id: str, started_at: datetime, completed_at: datetime
) -> bytes | None:
    """The file as gzip'd JSON; None where no source was looked at. Sources with an error are left out, as by dbt."""
    found = [(node, node.freshness) for node in nodes if node.freshness is not None]
    if not found:
        return None
    document = {
        "metadata": metadata(
            _SCHEMA,
            dbt_version=dbt_version,
            invocation_id=invocation_id,
            started_at=started_at,
            completed_at=completed_at,
        ),
        "results": [_result(node, freshness) for node, freshness in found],
        "elapsed_time": (completed_at - started_at).total_seconds(),
    }
    return gzip.compress(msgspec.json.encode(document), mtime=0)


def _result(node: NodeState, freshness: Freshness) -> dict[str, object]:
    return {
        "unique_id": node.unique_id,
        "max_loaded_at": freshness.max_loaded_at,
        "snapshotted_at": freshness.snapshotted_at,
        "max_loaded_at_time_ago_in_s": freshness.age_seconds,
        "status": freshness.status or node.status,
        "criteria": {
            "warn_after": _time(freshness.warn_after),
            "error_after": _time(freshness.error_after),
            "filter": None,
        },
        "adapter_response": {},
        "timing": [],
        "thread_id": "",
        "execution_time": node.execution_seconds or 0.0,
    }


def _time(text: str) -> dict[str, object]:
    """Such as "12 hours", as dbt's own files have it."""
    count, _, period = text.partition(" ")
    return {"count": int(count) if count.isdecimal() else None, "period": period.removesuffix("s") or None}
