"""Reading the lists of a pod template: of what is no list, or no mapping, the API server says so."""

from collections.abc import Mapping, Sequence
from typing import Any


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """The items of a list of the template that are mappings."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def named(items: Any, name: str) -> Mapping[str, Any]:
    """The item of this name; empty where there is none."""
    return next((item for item in mappings(items) if item.get("name") == name), {})
