"""What is never masked: fields by which something is decided, and words that hide nothing."""

from __future__ import annotations

# Who a node is, what became of it and when, which database it is in, what the process is: a password that happens to
# be "orders", "duckdb" or "2026" must not change what the operator does. None of these fields holds free text.
FIELDS = frozenset(
    [
        # nodes
        "unique_id",
        "name",
        "node_name",
        "node_unique_id",
        "resource_type",
        "package",
        "path",
        "node_path",
        "fqn",
        "tags",
        "depends_on",
        "attached_node",
        "blocked_by",
        "materialized",
        "severity",
        "job_id",
        "query_id",
        "started_at",
        "completed_at",
        "node_started_at",
        "node_finished_at",
        "max_loaded_at",
        "snapshotted_at",
        "warn_after",
        "error_after",
        # dbt cancels the connection that has the unique_id of a node for a name.
        "conn_name",
        # what is another thing for it: words, numbers and quantities that were read as such
        "settings",
        # the process
        "command",
        "attempt",
        "run_uid",
        "invocation_id",
        "adapter_name",
        "adapter_version",
        "version",
        "dbt_version",
        "runner_version",
        "python",
        "target_name",
        "stream",
        "signal",
        "kind",
        "phase",
        "digest",
        "sha256",
    ]
)

# dbt's words for the state of a node. Its fields hold other texts too, which are masked.
STATUSES = frozenset(
    [
        *("none", "started", "compiling", "executing", "running", "queued", "pending"),
        *("reused", "no-op", "success", "pass", "warn", "skip", "skipped", "stale"),
        *("partial success", "runtime error", "fail", "error"),
    ]
)
STATUS_FIELDS = frozenset(("status", "node_status"))

# Words of dbt, of its adapters and of their errors. A value that is just one of them is no secret that could be kept:
# they stand in every log, and whoever reads one with "*****" in their places knows the value. What an error is called
# is decided by some of them.
WORDS = STATUSES | frozenset(
    [
        *("true", "false", "null", "default", "main", "public"),
        *("athena", "bigquery", "clickhouse", "databricks", "dremio", "duckdb", "exasol", "fabric", "firebolt", "glue"),
        *("greenplum", "hive", "impala", "materialize", "mysql", "oracle", "postgres", "postgresql", "redshift"),
        *("singlestore", "snowflake", "spark", "sqlite", "sqlserver", "starrocks", "synapse", "teradata", "trino"),
        *("model", "seed", "snapshot", "test", "unit_test", "source", "operation", "exposure", "saved_query"),
        *("function", "analysis", "metric", "semantic_model"),
        *("table", "view", "incremental", "ephemeral", "materialized_view", "microbatch", "merge", "append"),
        *("build", "compile", "parse", "info", "debug", "warning", "project", "profile", "profiles", "selector"),
        *("compilation", "parsing", "syntax", "database", "runtime", "dependency", "exception", "interrupted"),
        *("connection", "connect", "server", "host", "name", "network", "service", "system", "route", "address"),
        *("refused", "reset", "closed", "timed", "timeout", "failed", "unable", "cannot", "denied", "unreachable"),
        *("terminating", "starting", "shutting", "password", "credentials", "authentication", "permission"),
    ]
)
