"""The operator's Prometheus metrics. None has a run's or a node's name as a label: their number would have no bound."""

from prometheus_client import Counter, Gauge, Histogram

STATUS_PATCHES = Counter(
    "dbt_operator_status_patches_total",
    "Writes of the status writer, by the server's answer (0: none).",
    ["kind", "code"],
)
LOG_LINES = Counter(
    "dbt_operator_log_lines_total",
    "Lines of pod logs: read, repeated (sent again after a reconnect), oversize (dropped), ignored (no event).",
    ["outcome"],
)
LOG_RECONNECTS = Counter("dbt_operator_log_reconnects_total", "Log streams that broke off before the log's end.")
EVENT_LAG = Histogram(
    "dbt_operator_event_lag_seconds",
    "From dbt's own time stamp of an event to the stored status that shows it.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60),
)
RUNS = Gauge("dbt_runs", "DbtRuns, by phase.", ["phase"])
RUN_DURATION = Histogram(
    "dbt_run_duration_seconds",
    "How long pods of a run were at work until its end, by the phase it ended in.",
    ["status"],
    buckets=(10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800),
)
