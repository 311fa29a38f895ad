"""kopf as a source of events: what it tells, what ends it, and that it is begun again beside the others."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest
import structlog

from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.kopf_watch import KopfWatch, Restarts, Subscription
from dbt_operator.kube.resources import DBT_RUNS, JOBS, PODS
from dbt_operator.kube.session import Request
from dbt_operator.kube.watch import Change
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.http_front import HttpFront, http_front

HASTY = Restarts(first=0.02, longest=0.1, settled=3600)
OURS = {"ours": "yes"}


Log = list[MutableMapping[str, Any]]


@pytest.fixture
def log() -> Iterator[Log]:
    """What the operator's own log has said that is worth knowing."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@dataclass
class Heard:
    """What the watches have told, in its order."""

    changes: list[str] = field(default_factory=list)
    threads: set[threading.Thread] = field(default_factory=set)

    def take(self, change: Change) -> None:
        metadata = change.obj["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}"
        self.changes.append(f"{name} is gone" if change.gone else name)
        self.threads.add(threading.current_thread())

    def subscriptions(self) -> list[Subscription]:
        return [
            Subscription(DBT_RUNS, self.take),
            Subscription(JOBS, self.take, labels=OURS),
            Subscription(PODS, self.take, labels=OURS),
        ]


def obj(name: str, *, namespace: str = "data", labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels or {}}}


@asynccontextmanager
async def watching(
    front: HttpFront,
    *namespaces: str | None,
    login: Callable[[], Any] | None = None,
    restarts: Restarts = HASTY,
) -> AsyncIterator[Heard]:
    heard = Heard()

    async def connect() -> kopf.ConnectionInfo:
        if login is not None:
            login()
        return kopf.ConnectionInfo(server=front.url)

    watches = [
        KopfWatch(namespace=namespace, subscriptions=heard.subscriptions(), login=connect, restarts=restarts)
        for namespace in namespaces
    ]
    tasks = [asyncio.create_task(watch.run()) for watch in watches]
    try:
        yield heard
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert kopfs() == []


def kopfs() -> list[str]:
    """The namespaces that have a thread."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kopf ")]


def told(log: Log) -> Log:
    """Of the operator's own log what is worth knowing."""
    return [line for line in log if line["log_level"] != "debug"]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what is waited for happens elsewhere, and sets no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("namespace", ["data", None])
async def test_what_is_there_is_told_and_then_every_change(namespace: str | None) -> None:
    server = ApiServer()
    server.put("dbtruns", obj("nightly"))
    server.put("jobs", obj("theirs"))
    async with http_front(server) as front, watching(front, namespace) as heard:
        await until(lambda: heard.changes == ["data/nightly"] and server.watched("jobs") and server.watched("pods"))
        server.put("jobs", obj("nightly-producer-1", labels=OURS))
        await until(lambda: len(heard.changes) == 2)
        server.remove("dbtruns", "data", "nightly")
        await until(lambda: len(heard.changes) == 3)
        assert heard.changes[1:] == ["data/nightly-producer-1", "data/nightly is gone"]
        assert heard.threads == {threading.current_thread()}
    written = [one for one in server.requests if one.method != "GET"]
    assert written == []


@pytest.mark.parametrize(
    ("plural", "refusal"),
    [
        ("dbtruns", ApiError(status=403, reason="Forbidden", message="you may not")),
        ("pods", ApiError(status=403, reason="Forbidden", message="you may not")),
        ("dbtruns", ApiError(status=404, reason="NotFound", message="no such thing")),
        ("jobs", ApiError(status=500, reason="InternalError", message="etcd")),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.status),
)
async def test_where_one_thing_is_refused_the_others_are_watched_on(plural: str, refusal: ApiError, log: Log) -> None:
    server, refused = ApiServer(), [0]

    async def refuse(_: Request, target: Target) -> None:
        if (target.namespace, target.plural) == ("gone", plural) and refused[0] >= 0:
            refused[0] += 1
            raise refusal

    server.before = refuse
    async with http_front(server) as front, watching(front, "gone", "data") as heard:
        await until(lambda: refused[0] >= 2)
        server.put("dbtruns", obj("nightly"))
        await until(lambda: "data/nightly" in heard.changes)
        (only,) = told(log)
        assert (only["event"], refusal.message in only["error"]) == ("cannot watch", True)
        refused[0] = -1
        server.put(plural, obj("back", namespace="gone", labels=OURS))
        await until(lambda: "gone/back" in heard.changes)
        assert told(log) == [only]


async def test_when_it_watches_again_this_is_said(log: Log) -> None:
    server, refused = ApiServer(), [3]

    async def refuse(_: Request, target: Target) -> None:
        if target.plural == "jobs" and refused[0]:
            refused[0] -= 1
            raise ApiError(status=403, reason="Forbidden", message="you may not")

    server.before = refuse
    restarts = Restarts(first=0.02, longest=0.02, settled=3.0)
    async with http_front(server) as front, watching(front, None, restarts=restarts):
        await until(lambda: "watches again" in [line["event"] for line in told(log)])


async def test_a_right_that_is_taken_away_from_a_live_watch_ends_none_of_the_others() -> None:
    server = ApiServer()
    server.put("dbtruns", obj("before", namespace="gone"))
    refused: set[str | None] = set()

    async def refuse(_: Request, target: Target) -> None:
        if target.namespace in refused:
            raise ApiError(status=403, reason="Forbidden", message="you may not")

    server.before = refuse
    async with http_front(server) as front, watching(front, "gone", "data") as heard:
        await until(lambda: heard.changes == ["gone/before"] and server.watched("pods"))
        refused.add("gone")
        front.cut()
        await until(lambda: kopfs() == ["kopf data"])
        server.put("dbtruns", obj("nightly"))
        await until(lambda: "data/nightly" in heard.changes)
        refused.clear()
        server.put("dbtruns", obj("after", namespace="gone"))
        await until(lambda: "gone/after" in heard.changes)


async def test_a_resource_that_the_server_does_not_serve_yet_is_watched_once_it_does(
    log: Log,
) -> None:
    server = ApiServer()
    async with http_front(server) as front:
        front.served.remove(DBT_RUNS)
        async with watching(front, None) as heard:
            await until(lambda: len(told(log)) == 1)
            assert "does not serve dbtruns" in told(log)[0]["error"]
            front.served.add(DBT_RUNS)
            server.put("dbtruns", obj("nightly"))
            await until(lambda: "data/nightly" in heard.changes)


async def test_what_is_no_event_is_read_over_by_beginning_again() -> None:
    server = ApiServer()
    async with http_front(server) as front, watching(front, None) as heard:
        await until(lambda: all(server.watched(plural) for plural in ("dbtruns", "jobs", "pods")))
        await front.garble()
        server.put("dbtruns", obj("nightly"))
        await until(lambda: "data/nightly" in heard.changes)


async def test_credentials_that_cannot_be_loaded_are_asked_for_again(log: Log) -> None:
    server, failures = ApiServer(), [3]
    server.put("dbtruns", obj("nightly"))

    def login() -> None:
        if failures[0]:
            failures[0] -= 1
            raise OSError("the plugin of the kubeconfig has failed")

    async with http_front(server) as front, watching(front, None, login=login) as heard:
        await until(lambda: "data/nightly" in heard.changes)
    assert failures == [0]
    assert len([line for line in told(log) if "plugin" in line.get("error", "")]) == 1


async def test_a_token_that_has_expired_is_read_again() -> None:
    server, logins = ApiServer(), [0]

    def login() -> None:
        logins[0] += 1

    async with http_front(server) as front, watching(front, None, login=login) as heard:
        await until(lambda: server.watched("dbtruns") and server.watched("pods"))
        front.unauthorized = 1
        front.cut()
        server.put("dbtruns", obj("nightly"))
        await until(lambda: "data/nightly" in heard.changes)
    assert logins[0] >= 2


async def test_a_defect_of_what_is_woken_is_raised() -> None:
    def broken(_: Change) -> None:
        raise ZeroDivisionError

    server = ApiServer()
    server.put("dbtruns", obj("nightly"))
    async with http_front(server) as front:

        async def login() -> kopf.ConnectionInfo:
            return kopf.ConnectionInfo(server=front.url)

        with pytest.raises(ExceptionGroup) as raised:
            await KopfWatch(namespace=None, subscriptions=[Subscription(DBT_RUNS, broken)], login=login).run()
    assert raised.group_contains(ZeroDivisionError)
    assert kopfs() == []


async def test_kopf_is_told_to_end_whatever_it_is_doing() -> None:
    server, held = ApiServer(), asyncio.Event()

    async def hold(_: Request, target: Target) -> None:
        if target.plural == "jobs":
            held.set()
            await asyncio.Event().wait()

    server.before = hold
    async with http_front(server) as front:
        async with watching(front, "data", "other"):
            await held.wait()  # in the middle of a list
        async with watching(front, "data"):
            pass  # it has hardly begun
