"""Loops are started, woken and ended by what the watch shows, and by what it has missed."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from dbt_operator.kube.client import Client
from dbt_operator.reconcile.manager import Manager, RunKey


@dataclass
class Loop:
    """Runs until it is told to end; counts how often it was woken."""

    key: RunKey
    woken: int = 0
    failures: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a bug")
        await self.over.wait()

    def wake(self) -> None:
        self.woken += 1

    def pod_gone(self, pod: Any) -> None:
        self.gone.append(pod["metadata"]["name"])

    def problem(self, problem: Any) -> None:
        raise AssertionError(problem)

    def asked(self, *, unique_id: str, token: str | None) -> None:
        self.requests.append((unique_id, token))


@dataclass
class Listing:
    """What a list of the runs shows."""

    runs: list[dict[str, Any]] = field(default_factory=list)

    async def list(self, **_: Any) -> list[dict[str, Any]]:
        return self.runs


@dataclass
class Given:
    """A manager, the loops it has made, and what the cluster would list."""

    listing: Listing = field(default_factory=Listing)
    loops: list[Loop] = field(default_factory=list)
    failures: int = 0
    again: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        def make(key: RunKey) -> Loop:
            self.loops.append(Loop(key, failures=self.failures if not self.loops else 0))
            if len(self.loops) == 2:
                self.again.set()
            return self.loops[-1]

        self.manager = Manager(client=cast(Client, self.listing), make_loop=make, namespaces=())


def run(name: str = "nightly", *, uid: str = "u1", generation: int = 1, phase: str | None = None) -> dict[str, Any]:
    metadata = {"namespace": "data", "name": name, "uid": uid, "generation": generation}
    return {"metadata": metadata, "status": {"phase": phase} if phase else {}}


def job(uid: str = "u1") -> dict[str, Any]:
    owner = {"kind": "DbtRun", "name": "nightly", "uid": uid}
    return {"metadata": {"namespace": "data", "name": "nightly-producer-1", "ownerReferences": [owner]}}


def model(token: str, *, handled: str | None = None) -> dict[str, Any]:
    owner = {"kind": "DbtRun", "name": "nightly", "uid": "u1"}
    annotations = {"dbt-operator.io/retry": token}
    metadata = {"namespace": "data", "name": "nightly.orders", "ownerReferences": [owner], "annotations": annotations}
    status = {"handledRetry": handled} if handled else {}
    return {"metadata": metadata, "spec": {"uniqueId": "model.shop.orders"}, "status": status}


async def test_a_retry_asked_for_on_a_node_starts_the_loop_of_a_run_that_has_ended() -> None:
    given = Given()
    given.manager.observed(run(phase="Failed"))
    assert given.loops == []
    given.manager.model_changed(model("again"))
    (loop,) = given.loops
    assert loop.requests == [("model.shop.orders", "again")]
    await given.manager.stop()


async def test_a_retry_that_was_handled_wakes_nobody() -> None:
    given = Given()
    given.manager.model_changed(model("again", handled="again"))
    assert given.loops == []


async def test_a_retry_asked_for_on_a_run_that_has_ended_starts_its_loop() -> None:
    given = Given()
    ended = run(phase="Failed")
    given.manager.observed(ended)
    assert given.loops == []
    ended["metadata"]["annotations"] = {"dbt-operator.io/retry": "again"}
    given.manager.observed(ended)
    assert len(given.loops) == 1
    ended["status"]["handledRetry"] = "again"
    await given.manager.stop()
    later = Given()
    later.manager.observed(ended)
    assert later.loops == []


async def test_a_run_gets_one_loop_however_often_it_is_seen() -> None:
    given = Given()
    given.manager.observed(run())
    given.manager.observed(run())
    given.manager.observed(run(phase="Running"))  # the echo of a status of our own
    assert [loop.key.uid for loop in given.loops] == ["u1"]
    assert given.loops[0].woken == 0


async def test_a_change_of_the_spec_wakes_the_loop() -> None:
    given = Given()
    given.manager.observed(run())
    given.manager.observed(run(generation=2))
    assert given.loops[0].woken == 1


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Cancelled"])
async def test_an_ended_run_gets_no_loop(phase: str) -> None:
    given = Given()
    given.manager.observed(run(phase=phase))
    assert given.loops == []


async def test_a_job_that_lives_on_starts_the_loop_even_of_an_ended_run() -> None:
    given = Given()
    given.manager.observed(run(phase="Failed"))
    given.manager.child_changed(job(), alive=False)
    assert given.loops == []
    given.manager.child_changed(job(), alive=True)
    assert len(given.loops) == 1


async def test_a_pod_wakes_the_loop_of_its_run_and_its_last_state_is_handed_over_when_it_is_gone() -> None:
    given = Given()
    given.manager.observed(run())
    (loop,) = given.loops
    pod = {"metadata": {"name": "nightly-producer-1-abcde", "labels": {"dbt-operator.io/run-uid": "u1"}}}
    given.manager.pod_changed(pod, gone=False)
    assert (loop.woken, loop.gone) == (1, [])
    given.manager.pod_changed(pod, gone=True)
    assert (loop.woken, loop.gone) == (2, ["nightly-producer-1-abcde"])
    given.manager.pod_changed({"metadata": {"name": "another", "labels": {}}}, gone=True)
    assert loop.woken == 2


async def test_a_run_of_the_same_name_is_another_run() -> None:
    given = Given()
    given.manager.observed(run(uid="u1"))
    given.manager.deleted(run(uid="u1"))
    given.manager.observed(run(uid="u2"))
    assert [loop.key.uid for loop in given.loops] == ["u1", "u2"]


async def test_a_loop_that_fails_is_begun_again() -> None:
    given = Given(failures=1)
    given.manager.observed(run())
    async with asyncio.timeout(10):
        await given.again.wait()


async def test_a_stopped_manager_starts_nothing() -> None:
    given = Given()
    await given.manager.stop()
    given.manager.observed(run())
    assert given.loops == []


async def test_a_run_that_the_watch_has_missed_is_found_by_the_list() -> None:
    given = Given(listing=Listing([run()]))
    await given.manager.resync_once()
    assert len(given.loops) == 1


async def test_a_run_that_is_gone_from_the_list_is_forgotten() -> None:
    given = Given()
    given.manager.observed(run())
    await given.manager.resync_once()
    await asyncio.sleep(0)
    given.manager.observed(run())
    assert len(given.loops) == 2


async def test_the_watch_is_called_dead_when_two_lists_show_what_it_has_not() -> None:
    given = Given(listing=Listing([run()]))
    await given.manager.resync_once()
    assert given.manager.check() is None  # it may just be late
    await given.manager.resync_once()
    assert "dead" in (given.manager.check() or "")


async def test_a_watch_that_shows_the_change_after_all_is_alive() -> None:
    given = Given(listing=Listing([run()]))
    await given.manager.resync_once()
    given.manager.observed(run())
    await given.manager.resync_once()
    assert given.manager.check() is None
