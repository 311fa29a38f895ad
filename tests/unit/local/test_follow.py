"""The log of an attempt is read whole, whenever its process begins to print it, and however it ends."""

import asyncio
import fcntl
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.follow import followed
from dbt_operator.local.supervisor import CLAIM, claim


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_process_may_run_for_a_while_before_there_is_a_log(tmp_path: Path) -> None:
    attempt, caught_up, printed = LocalAttempt(tmp_path), asyncio.Event(), asyncio.Event()
    found: list[bytes] = []
    descriptor = claim(tmp_path / CLAIM)
    assert descriptor is not None

    def sink(lines: Iterable[bytes], _: datetime | None) -> None:
        found.extend(lines)
        printed.set()

    following = asyncio.create_task(followed(attempt, sink=sink, caught_up=caught_up.set, now=now))
    await caught_up.wait()
    attempt.log.write_bytes(b"one\ntwo\nthr")
    await printed.wait()
    with attempt.log.open("ab") as file:
        file.write(b"ee")
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
    ended = await following
    assert (found, ended.lines) == ([b"one", b"two", b"three"], 2)


async def test_one_that_has_printed_nothing_has_no_log(tmp_path: Path) -> None:
    ended = await followed(LocalAttempt(tmp_path), sink=lambda *_: None, caught_up=lambda: None, now=now)
    assert ended.lines == 1
