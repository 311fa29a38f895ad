"""Which run is meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run, told from others that had its name before."""

    namespace: str
    name: str
    uid: str


def key_of(run: Mapping[str, Any]) -> RunKey:
    """The key of a DbtRun."""
    metadata = run["metadata"]
    return RunKey(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
