"""Calls that take minutes: what is decided after them goes by the clock of that moment."""

import asyncio

from tests.unit.plan import lines
from tests.unit.reconcile.cluster import Given

PRODUCER, AGAIN = "nightly-producer-1", "nightly-resume-1"


async def test_a_process_that_may_live_is_waited_for_however_long_the_look_took() -> None:
    async with Given() as given:
        pod = await given.pod(PRODUCER)
        given.server.run_pod(pod, *lines.EXECUTING)
        await given.until(lambda: given.said()[0] == "Running")
        answered = given.server.slow["jobs"] = asyncio.Event()
        given.server.take("pods", pod)  # by force: its process has its grace period left
        await given.until(lambda: pod in given.server.missed)
        given.later(seconds=61)
        answered.set()
        await given.until(lambda: given.said()[1] == "BackingOff")
        given.later(seconds=50)
        await given.rests()
        assert given.server.names("jobs") == []
        given.later(seconds=20)
        await given.until(lambda: AGAIN in given.server.names("jobs"))


async def test_a_pod_that_starts_during_a_long_look_has_not_missed_its_deadline() -> None:
    async with Given(spec={"producer": {"startDeadlineSeconds": 60}}) as given:
        pod = await given.pod(PRODUCER)
        await given.rests()
        answered, before = asyncio.Event(), given.server.looks
        given.server.slow["events"] = answered  # they are listed after the pods
        given.later(seconds=10)
        await given.until(lambda: given.server.looks > before)
        given.server.run_pod(pod, *lines.EXECUTING)
        given.later(seconds=90)
        answered.set()
        await given.until(lambda: given.said()[0] == "Running")
        assert given.server.names("jobs") == [PRODUCER]
