"""The metadata that each artifact of dbt begins with."""

from datetime import datetime


def metadata(
    schema: str, *, dbt_version: str, invocation_id: str, started_at: datetime, completed_at: datetime
) -> dict[str, object]:
    """The value of `metadata`. schema: the URL by which dbt knows the kind of the artifact and its version."""
    return {
        "dbt_schema_version": schema,
        "dbt_version": dbt_version,
        "generated_at": completed_at,
        "invocation_id": invocation_id,
        "invocation_started_at": started_at,
        "env": {},
    }
