"""Work in a thread of its own: how it ends concerns nobody else, and nothing of it stays."""

import asyncio
import threading

import pytest

from dbt_operator.kube.own_thread import in_own_thread

NAME = "the work of a test"


def alive() -> bool:
    return any(thread.name == NAME for thread in threading.enumerate())


async def for_ever() -> None:
    await asyncio.Event().wait()


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_ends_when_nobody_wants_it_any_more() -> None:
    task = asyncio.create_task(in_own_thread(for_ever, name=NAME, grace=30))
    await asyncio.sleep(0)
    assert alive()
    await cancelled(task)
    assert not alive()


async def test_what_ends_the_work_is_raised() -> None:
    async def fails() -> None:
        raise PermissionError("no")

    with pytest.raises(PermissionError, match=r"^no$"):
        await in_own_thread(fails, name=NAME, grace=30)
    assert not alive()


@pytest.mark.parametrize("error", [SystemExit("no"), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
async def test_not_even_what_ends_a_process_ends_more_than_the_work(error: BaseException) -> None:
    async def fails() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await in_own_thread(fails, name=NAME, grace=30)
    assert not alive()


async def test_work_that_cancels_all_tasks_of_its_loop_cancels_none_of_ours() -> None:
    async def cancels() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    ours = asyncio.create_task(asyncio.sleep(0.05, result="done"))
    await in_own_thread(cancels, name=NAME, grace=30)
    assert await ours == "done"


async def test_tasks_that_the_work_leaves_end_with_it(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    left: list[asyncio.Task[None]] = []

    async def waits() -> None:
        try:
            await for_ever()
        finally:
            ended.set()

    async def fails() -> None:
        raise PermissionError("no")

    async def leaves() -> None:
        left.append(asyncio.create_task(waits()))
        left.append(asyncio.create_task(fails()))
        await asyncio.sleep(0)

    await in_own_thread(leaves, name=NAME, grace=30)
    assert ended.is_set()
    left.clear()
    assert caplog.text == ""


async def test_work_that_does_not_end_is_left_alone_after_a_while() -> None:
    begun, enough = threading.Event(), threading.Event()

    async def hangs() -> None:
        begun.set()
        enough.wait()

    task = asyncio.create_task(in_own_thread(hangs, name=NAME, grace=0.01))
    while not begun.is_set():  # noqa: ASYNC110 - an event of another thread
        await asyncio.sleep(0.01)
    await cancelled(task)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == NAME]
    assert thread.daemon
    enough.set()
    thread.join()
