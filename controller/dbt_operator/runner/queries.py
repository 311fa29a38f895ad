"""Cancelling what one node has asked of the warehouse, as dbt itself does with everything when it is interrupted."""

from __future__ import annotations

import copy
import sys
from collections.abc import Hashable, Mapping
from typing import Any, Callable

_OWN_CONNECTION = "dbt-operator-deadline"


def loaded_adapters() -> list[Any]:
    """The adapters that dbt has loaded; from one call of dbt to the next they stay."""
    factory = getattr(sys.modules.get("dbt.adapters.factory"), "FACTORY", None)
    return list(getattr(factory, "adapters", {}).values())


def cancellable(adapter: Any) -> bool:
    """Whether the queries of one node can be cancelled, and nothing else is by that."""
    # Of a DuckDB that is a server dbt cancels nothing.
    if adapter.type() not in WAYS or getattr(adapter.config.credentials, "remote", None):
        return False
    try:
        return bool(adapter.is_cancelable())
    except Exception:  # noqa: BLE001 - that of DuckDB can only be asked once it is connected
        return True


def cancel_queries_of(unique_id: str, *, adapter: Any) -> bool:
    """Cancel the queries of this node, and say whether there may have been any. Raises: what the driver does."""
    manager = adapter.connections
    with adapter.connection_named(_OWN_CONNECTION):
        # What follows must not wait for a login: meanwhile the thread of the node may have come to the next one.
        _ = manager.get_thread_connection().handle
        found = False
        for thread, connection in list(manager.thread_connections.items()):
            # As it is at one moment. The thread gives its connection another name, and another handle, for each node.
            seen = copy.copy(connection)
            if seen.name == unique_id and seen.state == "open":
                WAYS[adapter.type()](manager, thread, seen)
                found = True
        return found


def _by_connection(manager: Any, _thread: Hashable, connection: Any) -> None:
    manager.cancel(connection)


def _by_job(manager: Any, thread: Hashable, connection: Any) -> None:
    jobs = list(manager.jobs_by_thread.get(thread, ()))
    # Those of nodes before this one have ended. The name is looked at once more, as this node may have too.
    if manager.thread_connections[thread].name == connection.name:
        for job in jobs[-1:]:
            connection.handle.cancel_job(job)


# Adapters whose own cancelling ends the queries of one connection, which other nodes can do without: by ending the
# backend or the statement (Postgres, Redshift, DuckDB), or what the session or the job does. Read in the code of dbt's
# adapters of 1.8 to 1.12. Of others it does nothing (Fabric), leaves a closed connection to the next node of the thread
# (ClickHouse, Databricks), or has not reached the warehouse (Trino).
WAYS: Mapping[str, Callable[[Any, Hashable, Any], None]] = {
    **dict.fromkeys(("postgres", "redshift", "duckdb", "snowflake", "athena"), _by_connection),
    "bigquery": _by_job,
}
