"""Work that takes an event loop for its own gets one, in a thread.

What it does with the tasks of its loop, and how it ends, concerns nobody else.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import structlog

_log = structlog.get_logger(__name__)

# Connections over TLS are closed by the loop a moment after they were told to be.
_CLOSING_SECONDS = 0.25


async def in_own_thread(work: Callable[[], Coroutine[Any, Any, None]], *, name: str, grace: float) -> None:
    """Run work in a thread with an event loop of its own. Raises what ended it.

    When this is cancelled so is the work, and is waited for: for `grace` seconds at most, after which its thread is
    left alone. Such a thread does not keep the process.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_left_behind)
    main = loop.create_task(_alone(work))
    ended: Future[None] = Future()
    ended.set_running_or_notify_cancel()  # from now on only the thread sets it

    def run() -> None:
        try:
            _run_to_its_end(loop, main)
        except Exception as error:  # noqa: BLE001 - it is raised where the work is waited for
            ended.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - there this would end more than the work
            ended.set_exception(RuntimeError(f"ended by {error!r}"))
        else:
            ended.set_result(None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    over = asyncio.wrap_future(ended)
    try:
        await asyncio.shield(over)
    except asyncio.CancelledError:
        try:
            loop.call_soon_threadsafe(main.cancel)
        except RuntimeError:  # its loop is closed
            _log.debug("had ended already", thread=name)
        await asyncio.wait([over], timeout=grace)
        if over.done():
            over.exception()  # taken note of: nobody wants to know it any more
        else:
            _log.warning("did not end in time", thread=name)
        raise
    finally:
        if over.done():
            thread.join()  # nothing is left for it to do


async def cancel_others(*spared: "asyncio.Task[Any] | None") -> None:
    """End all tasks of the loop but these and the current one, also those that overhear it at first."""
    while others := asyncio.all_tasks() - {asyncio.current_task(), *spared}:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=0.1)


async def _alone(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        await work()
    finally:
        await cancel_others()
        await asyncio.sleep(_CLOSING_SECONDS)


def _run_to_its_end(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _left_behind(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of the tasks that the work has left some may have failed; why it has ended is raised."""
    _log.debug("left behind", what=context.get("message"), error=repr(context.get("exception")))
