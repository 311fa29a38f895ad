"""Which ended runs are deleted: those whose time to live is over, and those that a limit of the history leaves out."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbt_operator.api.status import DbtRunStatus
from dbt_operator.api.values import format_time
from dbt_operator.kube.session import Request
from dbt_operator.reconcile.retention import HistoryLimit, Retention
from dbt_operator.reconcile.run_key import RunKey, key_of
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.operator import Operator, run, until

NOW = datetime.now(UTC)
LIMIT = HistoryLimit(label="schedule", succeeded=2, failed=1)


def ended(
    name: str,
    *,
    ago: int,
    phase: str = "Succeeded",
    value: str | None = "nightly",
    namespace: str = "data",
    token: str | None = None,
    handled: str | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A run that ended so many hours ago; `value`: that of its label; `token`: of the retry that is asked for."""
    manifest = run(name, namespace=namespace, ended=format_time(NOW - timedelta(hours=ago)), **spec)
    manifest["status"] |= {"phase": phase} | ({"handledRetry": handled} if handled else {})
    manifest["metadata"] |= {"labels": {"schedule": value} if value else {}}
    manifest["metadata"] |= {"annotations": {"dbt-operator.io/retry": token} if token else {}}
    return manifest


def live(name: str) -> dict[str, Any]:
    manifest = run(name)
    manifest["metadata"]["labels"] = {"schedule": "nightly"}
    return manifest


async def settled(operator: Operator, *, gone: int) -> list[str]:
    """The names of the runs that are left once so many were deleted, and nothing is left to do."""
    before = len(operator.server.names("dbtruns"))
    async with operator.at_work():
        await until(lambda: len(operator.server.names("dbtruns")) == before - gone)
        await until(lambda: operator.server.watched("dbtruns"))
        await until(lambda: operator.loops == [])
    return operator.server.names("dbtruns")


def history(server: ApiServer, *runs: dict[str, Any]) -> Operator:
    for one in runs:
        server.put("dbtruns", one)
    return Operator(server, history_limit=LIMIT)


# the time to live


async def test_a_run_that_says_no_time_to_live_has_that_of_the_administrator() -> None:
    operator = Operator(ApiServer(), default_ttl=timedelta(hours=2))
    operator.server.put("dbtruns", ended("old", ago=3))
    operator.server.put("dbtruns", ended("invalid", ago=3, image="not a legal image"))
    operator.server.put("dbtruns", ended("new", ago=1))
    operator.server.put("dbtruns", ended("longer", ago=3, ttlSecondsAfterFinished=4 * 3600))
    operator.server.put("dbtruns", ended("shorter", ago=1, ttlSecondsAfterFinished=0))
    namespaces = ended("of-its-namespace", ago=3)
    namespaces["status"]["defaults"] = {"namespace": {"ttlSecondsAfterFinished": 4 * 3600}}
    operator.server.put("dbtruns", namespaces)
    nonsense = ended("of-nonsense", ago=1)
    nonsense["status"]["defaults"] = {"namespace": {"ttlSecondsAfterFinished": "soon"}}
    operator.server.put("dbtruns", nonsense)
    assert await settled(operator, gone=3) == ["longer", "new", "of-its-namespace", "of-nonsense"]


async def test_by_default_runs_are_kept_for_ever() -> None:
    operator = Operator(ApiServer())
    operator.server.put("dbtruns", ended("old", ago=100_000))
    assert await settled(operator, gone=0) == ["old"]
    assert operator.made == []


# the limits of the history


async def test_of_the_runs_with_the_same_label_the_newest_are_kept_by_how_they_ended() -> None:
    runs = [ended(f"green-{ago}", ago=ago) for ago in (5, 1, 3, 4, 2)]
    runs += [ended("red-1", ago=1, phase="Failed"), ended("red-2", ago=2, phase="Cancelled")]
    assert await settled(history(ApiServer(), *runs), gone=4) == ["green-1", "green-2", "red-1"]


async def test_runs_of_another_label_value_or_namespace_or_without_the_label_are_counted_apart() -> None:
    runs = [ended(f"nightly-{ago}", ago=ago) for ago in (1, 2, 3)]
    runs += [ended(f"hourly-{ago}", ago=ago, value="hourly") for ago in (4, 5)]
    runs += [ended(f"none-{ago}", ago=ago, value=None) for ago in (6, 7, 8)]
    runs += [ended(f"there-{ago}", ago=ago, namespace="other") for ago in (6, 7)]
    left = await settled(history(ApiServer(), *runs), gone=1)
    assert "nightly-3" not in left
    assert len(left) == len(runs) - 1


async def test_without_a_number_all_are_kept_and_with_none_no_run_is() -> None:
    server = ApiServer()
    server.put("dbtruns", ended("green", ago=1))
    server.put("dbtruns", ended("red", ago=1, phase="Failed"))
    operator = Operator(server, history_limit=HistoryLimit(label="schedule", failed=0))
    assert await settled(operator, gone=1) == ["green"]


async def test_a_run_that_ends_takes_the_place_of_the_oldest() -> None:
    operator = history(ApiServer(), ended("old", ago=2), ended("older", ago=3))
    async with operator.at_work():
        await until(lambda: operator.server.watched("dbtruns"))
        operator.server.put("dbtruns", live("now"))
        await until(lambda: operator.server.names("jobs") == ["now-producer-1"])
        assert operator.server.names("dbtruns") == ["now", "old", "older"]
        operator.server.put("dbtruns", ended("another", ago=1))
        await until(lambda: operator.server.names("dbtruns") == ["another", "now", "old"])


async def test_a_run_that_is_asked_for_a_retry_is_not_counted_and_not_deleted() -> None:
    operator = history(ApiServer(), ended("new", ago=1), ended("old", ago=2), ended("older", ago=3))
    asked = ended("asked", ago=9, token="now")  # noqa: S106 - no secret, but a mark
    key, status = key_of({"metadata": asked["metadata"] | {"uid": "u"}}), DbtRunStatus.parse(asked["status"])
    assert status is not None
    asked["metadata"]["uid"] = key.uid
    retention = Retention(now=lambda: NOW.timestamp(), limit=LIMIT)
    for one in operator.server.objects.values():
        shown = DbtRunStatus.parse(one["status"])
        assert shown is not None
        retention.observed(one, shown)
    retention.observed(asked, status)
    assert retention.ttl(asked, ended_at=status.completion_time) is None
    retention.stop()
    assert await settled(operator, gone=1) == ["new", "old"]


async def test_a_retry_that_was_handled_keeps_no_run() -> None:
    runs = [ended("new", ago=1), ended("old", ago=2)]
    runs.append(ended("older", ago=3, token="then", handled="then"))  # noqa: S106 - as above
    assert await settled(history(ApiServer(), *runs), gone=1) == ["new", "old"]


async def test_a_run_that_was_retried_counts_by_its_last_end() -> None:
    runs = [ended("retried", ago=9), ended("new", ago=1), ended("old", ago=2)]
    runs[0]["status"]["completionTime"] = format_time(NOW)
    assert await settled(history(ApiServer(), *runs), gone=1) == ["new", "retried"]


@pytest.mark.parametrize("limit", [LIMIT, HistoryLimit()])
async def test_a_retry_that_is_asked_for_at_the_last_moment_keeps_the_run(limit: HistoryLimit) -> None:
    server = ApiServer()
    operator = Operator(server, history_limit=limit, default_ttl=timedelta(hours=9))
    asked: list[str] = []

    async def ask(request: Request, target: Target) -> None:
        if request.method == "DELETE" and target.plural == "dbtruns":
            asked.append(target.name)
            before = server.objects["dbtruns", "data", target.name]
            marked = before["metadata"] | {"annotations": {"dbt-operator.io/retry": "now"}}
            server.put("dbtruns", before | {"metadata": marked})

    server.before = ask
    for one in (ended("oldest", ago=10), ended("new", ago=1), ended("old", ago=2)):
        server.put("dbtruns", one)
    async with operator.at_work():
        await until(lambda: server.names("jobs") == ["oldest-producer-1"])
    assert asked == ["oldest"]
    assert server.names("dbtruns") == ["new", "old", "oldest"]


async def test_a_dbtmodel_that_asks_for_a_retry_keeps_its_run() -> None:
    retention = Retention(now=lambda: NOW.timestamp(), limit=HistoryLimit(label="schedule", succeeded=0))
    manifest = ended("nightly", ago=1)
    manifest["metadata"]["uid"] = "u"
    status = DbtRunStatus.parse(manifest["status"])
    assert status is not None
    retention.observed(manifest, status)
    assert retention.ttl(manifest, ended_at=status.completion_time) == timedelta()
    assert retention.ttl(manifest, ended_at=status.completion_time, asked=True) is None
    assert retention.ttl(manifest, ended_at=None) is None, "it lives again"
    retention.stop()


# many runs


async def test_thousands_of_runs_that_are_too_many_are_deleted_a_few_at_a_time() -> None:
    due: list[RunKey] = []
    retention = Retention(now=lambda: NOW.timestamp(), limit=LIMIT, due=due.append)
    for ago in range(1, 1001):
        manifest = ended(f"run-{ago}", ago=ago)
        manifest["metadata"]["uid"] = f"u{ago}"
        status = DbtRunStatus.parse(manifest["status"])
        assert status is not None
        retention.observed(manifest, status)
    await until(lambda: due != [])
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(due) == 20
    assert {"run-1", "run-2"}.isdisjoint(key.name for key in due)
    retention.stop()


async def test_nothing_is_kept_of_runs_that_somebody_deletes_before_their_time() -> None:
    retention = Retention(now=lambda: NOW.timestamp(), default_ttl=timedelta(days=10_000), limit=LIMIT)
    for number in range(5000):
        manifest = ended(f"run-{number}", ago=1)
        manifest["metadata"]["uid"] = f"u{number}"
        status = DbtRunStatus.parse(manifest["status"])
        assert status is not None
        retention.observed(manifest, status)
        retention.forget(key_of(manifest))
    kept = (getattr(retention, name) for name in Retention.__slots__)
    assert all(len(each) < 200 for each in kept if isinstance(each, dict | list))
    retention.stop()
