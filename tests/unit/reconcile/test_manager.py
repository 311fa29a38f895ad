"""Loops are started, woken and ended by what the watch shows, and by what it has missed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from dbt_operator.kube.client import ApiError, Client
from dbt_operator.reconcile.manager import Manager
from dbt_operator.reconcile.retention import Retention
from dbt_operator.reconcile.run_key import RunKey
from dbt_operator.reconcile.supersession import Supersession


@dataclass
class Loop:
    """Runs until it is told to end; counts how often it was woken."""

    key: RunKey
    woken: int = 0
    failures: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    ended: bool = False

    async def run(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a bug")
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

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
    """What lists of the runs show, by namespace; None stands for all of them."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str | None, ApiError] = field(default_factory=dict)
    held: asyncio.Event | None = None  # a list shows what was there when it began, and answers when this is set
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def list(self, *, namespace: str | None, **_: Any) -> list[dict[str, Any]]:
        shown = [run for run in self.runs if namespace in (None, run["metadata"]["namespace"])]
        self.begun.set()
        if self.held is not None:
            await self.held.wait()
        if namespace in self.refused:
            raise self.refused[namespace]
        return shown

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Given:
    """A manager, the loops it has made, and what the cluster would list."""

    listing: Listing = field(default_factory=Listing)
    namespaces: tuple[str, ...] = ()
    loops: list[Loop] = field(default_factory=list)
    failures: int = 0
    again: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        def make(key: RunKey) -> Loop:
            self.loops.append(Loop(key, failures=self.failures if not self.loops else 0))
            if len(self.loops) == 2:
                self.again.set()
            return self.loops[-1]

        self.manager = Manager(
            client=cast(Client, self.listing),
            make_loop=make,
            forget=lambda _: None,
            retention=Retention(now=lambda: self.listing.now().timestamp()),
            supersession=Supersession(),
            namespaces=self.namespaces,
            clock=lambda: self.seconds,
        )

    @property
    def alive(self) -> list[str]:
        """The uids of the runs whose loops have not ended."""
        return [loop.key.uid for loop in self.loops if not loop.ended]


def run(
    name: str = "nightly",
    *,
    namespace: str = "data",
    uid: str = "u1",
    generation: int = 1,
    phase: str | None = None,
    **status: Any,
) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "uid": uid, "generation": generation}
    return {"metadata": metadata, "spec": {}, "status": status | ({"phase": phase} if phase else {})}


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


async def test_an_end_that_another_operator_has_written_over_starts_the_loop_again() -> None:
    """Two live at once for a moment, and the other one is told to stop before it has noticed that the run had ended."""
    given = Given()
    given.manager.observed(run(phase="Failed"))
    given.manager.observed(run(phase="Retrying"))
    assert len(given.loops) == 1
    given.manager.observed(run(phase="Retrying"))
    assert given.loops[0].woken == 0
    await given.manager.stop()


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


async def test_a_run_that_a_list_has_shown_is_not_woken_again_by_each_list() -> None:
    given = Given(listing=Listing([run()]))
    await given.manager.resync_once()
    await given.manager.resync_once()
    assert given.loops[0].woken == 0


# a list takes a while, and the watch is faster


async def resynced_while(given: Given, *told: Callable[[], None]) -> None:
    """A list is under way while these things happen."""
    given.listing.held = asyncio.Event()
    under_way = asyncio.create_task(given.manager.resync_once())
    await given.listing.begun.wait()
    for happens in told:
        happens()
    given.listing.held.set()
    await under_way
    await asyncio.sleep(0)  # a loop that was cancelled has ended now


async def test_a_run_that_is_created_while_a_list_is_under_way_keeps_its_loop() -> None:
    given = Given()
    await resynced_while(given, lambda: given.manager.observed(run()))
    assert given.alive == ["u1"]
    given.manager.observed(run(generation=2))
    assert given.loops[0].woken == 1


async def test_a_run_that_is_created_anew_while_a_list_is_under_way_keeps_its_loop() -> None:
    given = Given(listing=Listing([run(uid="u1")]))
    given.manager.observed(run(uid="u1"))
    await resynced_while(
        given,
        lambda: given.manager.deleted(run(uid="u1")),
        lambda: given.manager.observed(run(uid="u2")),
    )
    assert given.alive == ["u2"]
    given.manager.observed(run(uid="u2", generation=2))
    assert [loop.woken for loop in given.loops] == [0, 1]


async def test_a_run_that_is_deleted_while_a_list_is_under_way_gets_no_loop() -> None:
    given = Given(listing=Listing([run(phase="Failed")]))
    given.manager.observed(run(phase="Failed"))
    await resynced_while(given, lambda: given.manager.deleted(run(phase="Failed")))
    assert given.loops == []


async def test_a_change_that_is_told_while_a_list_is_under_way_is_not_taken_back_by_it() -> None:
    given = Given(listing=Listing([run(generation=1)]))
    given.manager.observed(run(generation=1))
    await resynced_while(given, lambda: given.manager.observed(run(generation=2)))
    assert given.loops[0].woken == 1
    given.manager.observed(run(generation=2, phase="Running"))
    assert given.loops[0].woken == 1  # an echo


# a namespace that is gone, or may not be seen

FORBIDDEN = ApiError(status=403, reason="Forbidden", message='User "system:x" cannot list resource "dbtruns"')
NOT_FOUND = ApiError(status=404, reason="NotFound", message="the server could not find the requested resource")
NO_ANSWER = ApiError(status=0, reason="Timeout", message="GET timed out")


@pytest.mark.parametrize("refusal", [FORBIDDEN, NOT_FOUND, NO_ANSWER])
async def test_a_namespace_that_cannot_be_listed_is_no_obstacle_to_the_others(refusal: ApiError) -> None:
    runs = [run(namespace="first", uid="u1"), run(namespace="gone", uid="u2"), run(namespace="last", uid="u3")]
    given = Given(listing=Listing(runs, refused={"gone": refusal}), namespaces=("first", "gone", "last"))
    for _ in range(20):
        given.seconds += 30
        await given.manager.resync_once()
        assert given.manager.check() is None
    assert [loop.key.namespace for loop in given.loops] == ["first", "last"]
    del given.listing.refused["gone"]
    await given.manager.resync_once()
    assert [loop.key.namespace for loop in given.loops] == ["first", "last", "gone"]


@pytest.mark.parametrize("refusal", [FORBIDDEN, NOT_FOUND])
async def test_no_restart_helps_against_a_refusal_even_if_nothing_else_is_watched(refusal: ApiError) -> None:
    given = Given(listing=Listing(refused={"gone": refusal}), namespaces=("gone",))
    for _ in range(20):
        given.seconds += 30
        await given.manager.resync_once()
        assert given.manager.check() is None


async def test_the_runs_of_a_namespace_that_cannot_be_listed_are_not_taken_for_deleted() -> None:
    given = Given(listing=Listing(refused={"gone": FORBIDDEN}), namespaces=("gone",))
    given.manager.observed(run(namespace="gone"))
    await given.manager.resync_once()
    await asyncio.sleep(0)
    assert given.alive == ["u1"]


async def test_a_server_that_does_not_answer_for_long_may_answer_another_process() -> None:
    given = Given(listing=Listing(refused={None: NO_ANSWER}))
    given.seconds = 290
    await given.manager.resync_once()
    assert given.manager.check() is None
    given.seconds = 310
    await given.manager.resync_once()
    assert "has not answered" in (given.manager.check() or "")


# words of a later version


async def test_a_run_in_a_phase_that_a_later_version_has_added_is_looked_at_and_one_that_has_ended_is_not() -> None:
    given = Given()
    given.manager.observed(run(uid="u1", phase="Preparing", reason="Odd"))
    given.manager.observed(run("other", uid="u2", phase="PartlySucceeded", completionTime="2026-11-20T03:00:00Z"))
    assert [loop.key.uid for loop in given.loops] == ["u1"]


async def test_a_status_of_which_a_part_cannot_be_read_still_tells_that_the_run_has_ended() -> None:
    given = Given()
    given.manager.observed(run(phase="Failed", reason="Odd", nodes="many", attempts=[{"kind": "Odd"}], message=7))
    assert given.loops == []
