"""The list of nodes of the attempt, of which some are given to a process of dbt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from dbt_operator.runner.output import Line


class Given:
    """What the attempt was given beside the unique ids, such as the periods that are left of a microbatch model."""

    def __init__(self, file: str) -> None:
        self._entries: dict[str, Line] = {}
        if file:
            with gzip.open(file, "rt", encoding="utf-8") as text:
                self._entries = {str(entry["unique_id"]): entry for entry in json.load(text)}

    def began_in(self, unique_id: str) -> str:
        """The attempt in which the execution began that is gone on with; "": none before this one."""
        return str(self._entries.get(unique_id, {}).get("began_in") or "")

    def write(self, nodes: Iterable[str], *, folder: Path) -> Path:
        """A file with these nodes, in the same form."""
        entries = [self._entries.get(one, {"unique_id": one}) for one in nodes]
        file = folder / "nodes.json.gz"
        file.write_bytes(gzip.compress(json.dumps(entries).encode()))
        return file
