"""One process for a run: the file that it has locked says which. The kernel takes the lock back however it ends."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

_TRIES = 50


class HeldError(Exception):
    """Another process has the run; the text says which."""


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Have the run for oneself. Raises: HeldError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, file)
        os.ftruncate(descriptor, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, file: Path) -> None:
    for _ in range(_TRIES):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        other = holder(file)
        if other is not None:
            raise HeldError(other)
        time.sleep(0.01)  # somebody has only looked who has the run
    raise HeldError("another process")


def holder(file: Path) -> str | None:
    """Which process has the run, None if none has."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        with suppress(ValueError, KeyError):
            said = json.loads(os.read(descriptor, 4096))
            return f"process {said['pid']} (since {said['since']})"
        return "another process"
    finally:
        os.close(descriptor)
    return None
