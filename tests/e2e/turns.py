"""Turns at the cluster's one operator: many tests that leave it in peace at once, or one that does not, alone.

Between processes, by locks on files: they end with the process that holds them, whatever ends it.
"""

import fcntl
from pathlib import Path
from typing import TextIO


class Turns:
    """The turns of one process, which holds one at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: TextIO | None = None
        self._alone = False

    def take(self, *, alone: bool) -> None:
        """Wait until it is this process's turn; nothing to wait for where it is alone already."""
        if self._held is not None and self._alone:
            return
        self.give_back()
        self._folder.mkdir(parents=True, exist_ok=True)
        # Whoever waits to be alone waits in the queue, and so lets nobody past who would keep the others company.
        with (self._folder / "queue").open("w") as queue:
            fcntl.flock(queue, fcntl.LOCK_EX)
            self._held = (self._folder / "operator").open("w")
            fcntl.flock(self._held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._alone = alone

    def give_back(self) -> None:
        """The turn of another; nothing where none is held."""
        if self._held is not None:
            self._held.close()
        self._held = None
