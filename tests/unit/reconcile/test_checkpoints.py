"""How often checkpoints are stored: what is said is soon safe, and etcd is left in peace."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

import pytest

from dbt_operator.kube.api_error import ApiError
from dbt_operator.plan.attempt import Checkpoint, Recorded, Release
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.attempts import Attempts
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.checkpoints import Checkpoints
from dbt_operator.reconcile.follower import Follower
from dbt_operator.reconcile.records import Records
from tests.unit.dbt.logs import folded
from tests.unit.plan import lines
from tests.unit.plan.given import NOW, POD, PRODUCER


@dataclass
class Given:
    """An attempt that says something each second, and the place of its record: `size` is that of a checkpoint."""

    size: int = 5000
    refused: bool = False
    record: Recorded = field(default_factory=lambda: Recorded(PRODUCER, release=Release(pod=POD.uid, at=NOW)))
    written: list[int] = field(default_factory=list)  # in which seconds
    _now: datetime = NOW
    _peak: int = 0

    def __post_init__(self) -> None:
        backend = cast(Backend, self)
        self._follower = Follower(backend=backend, pod=POD, changed=lambda: None)
        self._checkpoints = Checkpoints(backend=backend, records=cast(Records, self))

    def now(self) -> datetime:
        return self._now

    async def checkpoint(self, _: int, checkpoint: Checkpoint) -> int:
        self.written.append(int((self._now - NOW).total_seconds()))
        if self.refused:
            raise ApiError(status=500, message="no space")
        self.record = replace(self.record, checkpoint=checkpoint)
        return self.size

    async def passes(self, *, seconds: int, quiet: bool = False) -> datetime | None:
        due = None
        for _ in range(seconds):
            self._now += timedelta(seconds=1)
            if not quiet:
                self._peak += 1
                self._follower.state = folded([lines.line(6, "MemoryPeak", peak_memory_bytes=self._peak)])
            due = await self._checkpoints.store(self.record, self._follower)
        return due


@pytest.mark.parametrize(("size", "pause"), [(5000, 5), (187 * 1024, 23)])
async def test_what_is_large_is_stored_less_often(size: int, pause: int) -> None:
    given = Given(size=size)
    await given.passes(seconds=100)
    assert len(given.written) > 3
    assert min(after - before for before, after in zip(given.written, given.written[1:], strict=False)) >= pause


async def test_where_nothing_was_said_nothing_is_stored() -> None:
    given = Given()
    assert await given.passes(seconds=60, quiet=True) is None
    assert given.written == []
    assert await given.passes(seconds=1) is None
    assert len(given.written) == 1
    assert await given.passes(seconds=60, quiet=True) is None
    assert len(given.written) == 1


async def test_what_could_not_be_stored_is_tried_again_without_anything_new() -> None:
    given = Given(refused=True)
    due = await given.passes(seconds=6)
    assert due is not None
    assert len(given.written) == 1
    given.refused = False
    await given.passes(seconds=6, quiet=True)
    assert given.record.checkpoint is not None


async def test_what_another_controller_has_stored_meanwhile_is_known_at_once() -> None:
    """Whoever stores the end of the attempt next must not take back what that one has read."""
    further = folded([lines.line(7, "MemoryPeak", peak_memory_bytes=2)])
    record = Recorded(PRODUCER, release=Release(pod=POD.uid, at=NOW))

    class Elsewhere:
        """The records, which another controller writes at the same moment."""

        stored = record

        def all(self) -> list[Recorded]:
            return [self.stored]

        async def checkpoint(self, _: int, checkpoint: Checkpoint) -> int:
            self.stored = replace(record, checkpoint=replace(checkpoint, state=further))
            return 0

    given = Given()
    attempts = Attempts(
        backend=cast(Backend, given),
        announcer=cast(Announcer, None),
        records=cast(Records, Elsewhere()),
        gone_pods={},
        changed=lambda: None,
        wake=lambda: None,
    )
    follower = Follower(backend=cast(Backend, given), pod=POD, changed=lambda: None)
    follower.state = folded([lines.line(6, "MemoryPeak", peak_memory_bytes=1)])
    attempts._followers[PRODUCER.name] = follower
    await attempts.store_checkpoints(last=True)
    assert follower.state == further
