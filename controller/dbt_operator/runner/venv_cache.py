"""Virtual environments that outlive their pod, on a volume that many pods share. It works without locks.

    environments/KEY.UNIQUE/venv       an environment, made at its final path, as its scripts have that in them
    environments/KEY.UNIQUE/building   … that is not whole yet
    environments/KEY.UNIQUE/whole      … that is: the same file under another name
    environments/KEY.UNIQUE/closed     … that nobody may begin to use, as it is about to be removed
    used/KEY.UNIQUE                    touched while it is in use
    removed/KEY.UNIQUE                 what is left of one while its files are deleted

KEY names what was asked for. Who finds no whole environment of a key makes one, and waits for nobody who may be doing
the same: work is wasted then, and nothing else, and a process that was killed is in nobody's way. One rename of a file
makes an environment whole. So there is never a half one, whenever a process or a machine stops.

Who uses an environment first touches its mark, then looks whether it is closed, and touches the mark every now and
then afterwards. Who removes one closes it when its mark is old, and removes it a good while later if its mark is old
then as well. Once it is closed it gets no new users. Until it is removed, a user who came just before has touched the
mark once more, and a client of a file server, which sees changes late, has seen that it is closed. The first step of a
removal is a rename: a process that was believed dead can make nothing whole there any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# How often who uses an environment touches its mark.
TOUCH_SECONDS = 3600.0
# Many times that, and longer than a client of a file server remembers what it has seen.
CLOSED_SECONDS = 86400.0
_BUILDING, _WHOLE, _CLOSED = "building", "whole", "closed"


@dataclass(frozen=True)
class Entry:
    """An environment of the cache, whole or not."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """All that belongs to it."""
        return self.root / "environments" / self.name

    @property
    def venv(self) -> Path:
        """The environment itself."""
        return self.folder / "venv"

    @property
    def mark(self) -> Path:
        """What is touched while it is in use."""
        return self.root / "used" / self.name

    @property
    def closed(self) -> bool:
        """Whether nobody may begin to use it."""
        return (self.folder / _CLOSED).exists()

    def packages(self) -> list[str] | None:
        """What is installed; None where it is not whole."""
        with contextlib.suppress(OSError):
            packages: list[str] = json.loads((self.folder / _WHOLE).read_text(encoding="utf-8"))
            return packages
        return None

    def make_whole(self, *, packages: list[str]) -> None:
        """Let others use it. Raises: OSError, also where it was removed meanwhile."""
        building = self.folder / _BUILDING
        # It has to be there: an installer makes folders anew that were removed, without what was in them.
        with building.open("r+", encoding="utf-8") as file:
            json.dump(packages, file)
        # Where the machine stops now there may be no whole environment whose files were never written to the disk.
        os.sync()
        building.rename(self.folder / _WHOLE)


class Cache:
    """The environments on a volume. unused_seconds: after which they are removed."""

    def __init__(self, root: Path, *, unused_seconds: float) -> None:
        self._root = root
        self._unused_seconds = unused_seconds

    def find(self, key: str, *, packages: list[str] | None = None) -> Entry | None:
        """A whole environment of this key, with just these packages if they are named; it is in use from now on."""
        for entry in self._entries(key):
            installed = entry.packages()
            if installed is None or packages not in (None, installed):
                continue
            entry.mark.touch()
            if not entry.closed:
                return entry
        return None

    def begin(self, key: str) -> Entry:
        """A new one, which is to be made. Raises: OSError."""
        entry = Entry(self._root, f"{key}.{secrets.token_hex(6)}")
        entry.mark.parent.mkdir(parents=True, exist_ok=True)
        entry.mark.touch()
        entry.folder.mkdir(parents=True)
        (entry.folder / _BUILDING).touch()
        return entry

    def give_up(self, entry: Entry) -> None:
        """Remove one that could not be made."""
        self._remove(entry)

    def prune(self) -> None:
        """Close what has not been used for long, and remove what was closed long ago. What cannot be done is left."""
        now = self._root / "now"
        for entry in self._entries():
            # Others may do the same at this moment, or may have deleted what was seen here.
            with contextlib.suppress(OSError):
                now.touch()  # by the clock of the file server, as all times here are
                self._prune(entry, now=now.stat().st_mtime)
        for left in self._names("removed"):
            self._delete(left)

    def _prune(self, entry: Entry, *, now: float) -> None:
        try:
            unused = now - entry.mark.stat().st_mtime
        except FileNotFoundError:
            entry.mark.touch()
            return
        closed = entry.folder / _CLOSED
        if closed.exists():
            if unused > CLOSED_SECONDS and now - closed.stat().st_mtime > CLOSED_SECONDS:
                self._remove(entry)
        elif unused > (self._unused_seconds if entry.packages() is not None else CLOSED_SECONDS):
            closed.touch()

    def _remove(self, entry: Entry) -> None:
        removed = self._root / "removed"
        with contextlib.suppress(OSError):
            removed.mkdir(exist_ok=True)
            entry.folder.rename(removed / entry.name)
            self._delete(entry.name)

    def _delete(self, name: str) -> None:
        shutil.rmtree(self._root / "removed" / name, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._root / "used" / name).unlink()

    def _entries(self, key: str = "") -> Iterator[Entry]:
        """In the same order for everybody, so that of two that were made at once the same one is used."""
        return (Entry(self._root, name) for name in self._names("environments") if name.startswith(key))

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(path.name for path in (self._root / folder).iterdir())
        except OSError:
            return []
