"""JSON whose fields are read like those of dbt's own objects, so that both are read by the same code."""

from __future__ import annotations

from typing import Any

from dbt_operator.runner.output import Line


class Attributes:
    """A JSON object with its fields as attributes. A field that is not there is no attribute."""

    def __init__(self, line: Line) -> None:
        self.line = line

    def __getattr__(self, name: str) -> Any:
        try:
            value = self.line[name]
        except KeyError:
            raise AttributeError(name) from None
        return Attributes(value) if isinstance(value, dict) else value


class Manifest:
    """A manifest.json: of each collection the nodes by their unique ids."""

    def __init__(self, document: Line) -> None:
        self._document = document

    def __getattr__(self, name: str) -> dict[str, Attributes]:
        if name.startswith("_"):
            raise AttributeError(name)
        found = self._document.get(name) or {}
        return {unique_id: Attributes(node) for unique_id, node in found.items() if isinstance(node, dict)}

    @property
    def version(self) -> str:
        """The version of the dbt that wrote it."""
        return str((self._document.get("metadata") or {}).get("dbt_version") or "")

    @property
    def adapter_type(self) -> str:
        """The warehouse's kind."""
        return str((self._document.get("metadata") or {}).get("adapter_type") or "")


def as_line(message: Any) -> Line:
    """The event itself, as it was read."""
    line: Line = message.line
    return line
