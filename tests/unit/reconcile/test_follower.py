"""From where a log is to be read on: from before whatever is not stored yet."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dbt_operator.kube.logs import Sink
from dbt_operator.plan.attempt import Checkpoint
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.follower import Follower
from tests.unit.dbt.logs import folded
from tests.unit.dbt.test_artifacts import MANIFEST, artifact_lines
from tests.unit.plan import lines
from tests.unit.plan.given import POD
from tests.unit.plan.lines import SEED

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
PIECES = artifact_lines(MANIFEST, bytes(range(256)) * 4)


class Log:
    """Takes the place of a backend: hands over what the test says, a second for each batch."""

    def __init__(self) -> None:
        self.since: datetime | None = None
        self.batches: asyncio.Queue[Sequence[bytes]] = asyncio.Queue()

    async def follow_log(
        self, _: object, *, since: datetime | None, sink: Sink, caught_up: Callable[[], None], **__: Any
    ) -> None:
        self.since, position = since, since or NOW
        caught_up()
        while True:
            position += timedelta(seconds=1)
            sink(await self.batches.get(), position)
            self.batches.task_done()

    async def prints(self, *batch: bytes) -> None:
        """Print a batch; return when it was read."""
        self.batches.put_nowait(batch)
        await self.batches.join()


async def test_reading_goes_on_before_a_file_that_is_not_whole_or_not_stored() -> None:
    log = Log()
    follower = Follower(backend=cast(Backend, log), pod=POD, changed=lambda: None)
    follower.start()
    await follower.caught_up()
    assert follower.checkpoint().position is None
    await log.prints(*lines.EXECUTING)
    assert follower.checkpoint() == Checkpoint(folded(lines.EXECUTING), NOW + timedelta(seconds=1))
    await log.prints(PIECES[0])
    await log.prints(*PIECES[1:-1], lines.result(6, SEED, "success"))
    assert follower.checkpoint().position == NOW + timedelta(seconds=1)
    assert follower.checkpoint().state.nodes[SEED].status == "success"  # that is not held up
    await log.prints(PIECES[-1])
    assert [file.name for file in follower.artifacts] == [MANIFEST]
    assert follower.checkpoint().position == NOW + timedelta(seconds=1)
    follower.artifacts.clear()  # they are stored
    assert follower.checkpoint().position == NOW + timedelta(seconds=4)
    await follower.stop()


async def test_the_next_one_begins_where_the_checkpoint_says() -> None:
    log = Log()
    checkpoint = Checkpoint(folded(lines.EXECUTING), NOW + timedelta(hours=1))
    follower = Follower(backend=cast(Backend, log), pod=POD, changed=lambda: None)
    follower.state, follower.position = checkpoint.state, checkpoint.position
    follower.start()
    await follower.caught_up()
    assert log.since == checkpoint.position
    assert follower.checkpoint() == checkpoint
    await log.prints(lines.result(6, SEED, "success"))
    assert follower.facts().state == folded([*lines.EXECUTING, lines.result(6, SEED, "success")])
    await follower.stop()


async def test_what_another_controller_has_read_beyond_that_is_taken_over() -> None:
    follower = Follower(backend=cast(Backend, Log()), pod=POD, changed=lambda: None, state=folded(lines.EXECUTING))
    before = follower.state
    follower.take_up(Checkpoint(folded(lines.GRAPH), NOW))
    assert follower.state is before
    follower.take_up(Checkpoint(folded(lines.GREEN_LOG), NOW))
    assert follower.state == folded(lines.GREEN_LOG)
