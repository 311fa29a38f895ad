"""The images that the operator itself brings into the pod of an attempt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What the administrator has chosen. `tools`: of the init containers that make the pod ready for dbt."""

    tools: str
