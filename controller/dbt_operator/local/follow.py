"""The log of an attempt, while its process prints it."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.kube.logs import Ended, EndReason, Sink
from dbt_operator.local.attempts import LocalAttempt

_PIECE = 256 * 1024
_TAIL_SECONDS = 0.05


async def followed(
    attempt: LocalAttempt, *, sink: Sink, caught_up: Callable[[], None], now: Callable[[], datetime]
) -> Ended:
    """Hand over the lines of its file until its process has ended and all of it was read."""
    splitter, count, behind, file = LineSplitter(), 0, True, None
    try:
        while True:
            # In this order: what it prints before its end is there when it is not alive any more.
            alive = attempt.alive
            # What runs may not have printed anything yet, and then there is no file.
            file = file or attempt.open_log()
            while file is not None and (piece := file.read(_PIECE)):
                lines = splitter.feed(piece)
                count += len(lines)
                if lines:
                    sink(lines, now())
                await asyncio.sleep(0)
            if behind:
                behind = False
                caught_up()
            if not alive:
                break
            await asyncio.sleep(_TAIL_SECONDS)
    finally:
        if file is not None:
            file.close()
    rest = splitter.flush()
    if rest is not None:
        sink([rest], now())
    return Ended(EndReason.TERMINATED, lines=max(count, 1))
