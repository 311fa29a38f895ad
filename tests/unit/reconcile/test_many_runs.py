"""An operator lives for months: what it keeps of runs that have ended or are gone, and of namespaces that are."""

import asyncio
import gc
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kopf._core.reactor.inventory import ResourceMemory

from dbt_operator.api.values import format_time
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.queue import Entry
from dbt_operator.kube.session import Request
from tests.unit.reconcile.api_server import ApiServer, Target
from tests.unit.reconcile.operator import Operator, run, until
from tests.unit.reconcile.test_rollback import PRODUCER, RUN, record

LONG_AGO = format_time(datetime.now(UTC) - timedelta(hours=1))


def model(name: str, *, token: str | None = None, handled: str | None = None) -> dict[str, Any]:
    owner = {"kind": "DbtRun", "name": "nightly", "uid": "uid-of-nightly"}
    annotations = {"dbt-operator.io/retry": token} if token else {}
    metadata = {"name": name, "namespace": "data", "ownerReferences": [owner], "annotations": annotations}
    spec = {"runName": "nightly", "uniqueId": f"model.shop.{name}", "name": name, "resourceType": "model"}
    return {"metadata": metadata, "spec": spec, "status": {"handledRetry": handled} if handled else {}}


class Entries:
    """How many objects status writers remember, besides what other tests have left in this process."""

    def __init__(self) -> None:
        self._others = self._all()

    def __call__(self) -> int:
        return len(self._all()) - len(self._others)

    @staticmethod
    def _all() -> list[Entry]:
        gc.collect()
        return [obj for obj in gc.get_objects() if isinstance(obj, Entry)]


@pytest.fixture
def entries() -> Entries:
    return Entries()


# runs that have ended


async def test_of_a_run_that_ends_and_waits_for_its_ttl_no_loop_stays(entries: Entries) -> None:
    operator = Operator(ApiServer())
    operator.server.put("dbtruns", run(image="not a legal image", ttlSecondsAfterFinished=3600))
    async with operator.at_work():
        await until(lambda: operator.server.objects["dbtruns", "data", "nightly"]["status"].get("phase") == "Failed")
        await until(lambda: operator.loops == [])
        assert entries() == 0
        assert operator.server.names("dbtruns") == ["nightly"]


async def test_kopf_keeps_nothing_of_the_objects_that_it_shows() -> None:
    operator = Operator(ApiServer())
    for number in range(10):
        operator.server.put("dbtruns", run(f"run-{number}", ended=LONG_AGO))
    async with operator.at_work():
        await until(lambda: len(operator.manager._known) == 10)
        await until(lambda: not [obj for obj in gc.get_objects() if isinstance(obj, ResourceMemory)])


async def test_of_runs_that_have_ended_before_the_operator_starts_no_loop_is_made() -> None:
    operator = Operator(ApiServer())
    just_now = format_time(datetime.now(UTC))
    operator.server.put("dbtruns", run("kept", ended=LONG_AGO))
    operator.server.put("dbtruns", run("expires", ended=just_now, ttlSecondsAfterFinished=3600))
    operator.server.put("dbtruns", run("at-most", ended=just_now, ttlSecondsAfterFinished=2**31 - 1))
    async with operator.at_work():
        await until(lambda: len(operator.manager._known) == 3)
        await operator.manager.resync_once()
        assert operator.made == []


@pytest.mark.parametrize("spec", [{}, {"image": "not a legal image"}])
async def test_a_run_whose_ttl_is_over_is_deleted_without_anybody_waking_its_loop(spec: dict[str, Any]) -> None:
    operator = Operator(ApiServer())
    soon = format_time(datetime.now(UTC) - timedelta(seconds=9))
    operator.server.put("dbtruns", run("over", ended=LONG_AGO, ttlSecondsAfterFinished=60, **spec))
    operator.server.put("dbtruns", run("soon", ended=soon, ttlSecondsAfterFinished=10, **spec))
    operator.server.put("dbtruns", run("later", ended=LONG_AGO, ttlSecondsAfterFinished=7200, **spec))
    async with operator.at_work():
        await until(lambda: operator.server.names("dbtruns") == ["later"])
        await until(lambda: operator.loops == [])


async def test_dbtmodels_go_with_their_run_by_one_request_and_those_of_other_runs_stay() -> None:
    server = ApiServer()
    operator = Operator(server)
    uid = server.put("dbtruns", run("over", ended=LONG_AGO, ttlSecondsAfterFinished=60))["metadata"]["uid"]
    for number in range(200):
        mine = model(f"mine-{number}")
        mine["metadata"]["labels"] = {"dbt-operator.io/run-uid": uid}
        server.put("dbtmodels", mine)
    server.put("dbtmodels", model("another"))
    async with operator.at_work():
        await until(lambda: server.names("dbtruns") == [])
    assert server.names("dbtmodels") == ["another"]
    assert len([one for one in server.requests if one.method == "DELETE" and "/dbtmodels" in one.path]) == 1


async def test_where_dbtmodels_cannot_be_deleted_their_run_is_and_the_rest_is_the_garbage_collectors() -> None:
    server = ApiServer()

    async def refuse(request: Request, target: Target) -> None:
        if request.method == "DELETE" and target.plural == "dbtmodels":
            raise ApiError(status=403, reason="Forbidden", message='User "x" cannot deletecollection resource')

    server.before = refuse
    operator = Operator(server)
    server.put("dbtruns", run("over", ended=LONG_AGO, ttlSecondsAfterFinished=60))
    async with operator.at_work():
        await until(lambda: server.names("dbtruns") == [])


async def test_a_run_that_a_retry_is_asked_for_while_its_dbtmodels_are_deleted_stays_and_has_them_again() -> None:
    server = ApiServer()

    async def ask(request: Request, target: Target) -> None:
        if request.method == "DELETE" and target.plural == "dbtmodels":
            stored = server.objects["dbtruns", "data", "nightly"]
            asking = stored["metadata"] | {"annotations": {"dbt-operator.io/retry": "now"}}
            server.put("dbtruns", stored | {"metadata": asking})

    server.after = ask
    operator = Operator(server)
    ended = run("nightly", ended=LONG_AGO, ttlSecondsAfterFinished=60)
    ended["metadata"]["uid"] = RUN.uid
    ended["status"]["attempts"] = [{"name": PRODUCER.name, "kind": "Producer", "state": "Failed"}]
    server.put("dbtruns", ended)
    server.put("configmaps", record())
    before = {"nightly.orders": "model.shop.orders", "nightly.raw": "seed.shop.raw"}
    for name, unique_id in before.items():
        stored = model(name)
        stored["metadata"]["labels"], stored["spec"]["uniqueId"] = {"dbt-operator.io/run-uid": RUN.uid}, unique_id
        server.put("dbtmodels", stored)
    async with operator.at_work():
        await until(lambda: any(one.method == "DELETE" and "/dbtmodels" in one.path for one in server.requests))
        await until(lambda: server.names("jobs") != [] and server.names("dbtmodels") == list(before))
        assert server.names("dbtruns") == ["nightly"]


async def test_a_ttl_that_is_given_after_the_end_counts_from_the_end() -> None:
    operator = Operator(ApiServer())
    operator.server.put("dbtruns", run("over", ended=LONG_AGO))
    operator.server.put("dbtruns", run("kept", ended=LONG_AGO, ttlSecondsAfterFinished=7200))
    async with operator.at_work():
        changed = run("over", ended=LONG_AGO, ttlSecondsAfterFinished=60)
        changed["metadata"] |= {
            "generation": 2,
            "uid": operator.server.objects["dbtruns", "data", "over"]["metadata"]["uid"],
        }
        operator.server.put("dbtruns", changed)
        await until(lambda: operator.server.names("dbtruns") == ["kept"])


async def test_a_ttl_that_is_taken_back_does_not_delete_the_run() -> None:
    operator = Operator(ApiServer())
    soon = format_time(datetime.now(UTC))
    before = operator.server.put("dbtruns", run("kept", ended=soon, ttlSecondsAfterFinished=1))
    operator.server.put("dbtruns", run("over", ended=soon, ttlSecondsAfterFinished=2))
    async with operator.at_work():
        changed = run("kept", ended=soon)
        changed["metadata"] |= {"generation": 2, "uid": before["metadata"]["uid"]}
        operator.server.put("dbtruns", changed)
        await until(lambda: operator.server.names("dbtruns") == ["kept"])


# runs that are gone


async def test_of_a_run_that_is_deleted_while_it_lives_nothing_stays(entries: Entries) -> None:
    operator = Operator(ApiServer())
    async with operator.at_work():
        for number in range(20):
            operator.server.put("dbtruns", run(f"run-{number}"))
        await until(lambda: len(operator.server.names("jobs")) == 20 and entries() == 20)
        for number in range(20):
            operator.server.remove("dbtruns", "data", f"run-{number}")
        await until(lambda: operator.loops == [])
        assert entries() == 0


async def test_of_a_run_whose_deletion_only_a_list_has_shown_nothing_stays(entries: Entries) -> None:
    server = ApiServer()
    operator = Operator(server)
    async with operator.at_work():
        server.put("dbtruns", run())
        await until(lambda: server.names("jobs") == ["nightly-producer-1"] and entries() == 1)
        del server.objects["dbtruns", "data", "nightly"]  # and no watch tells
        await operator.manager.resync_once()
        await until(lambda: operator.loops == [])
        assert entries() == 0


# their DbtModels


async def test_nothing_is_kept_of_the_dbtmodels_of_the_cluster() -> None:
    server = ApiServer()
    operator = Operator(server)
    for number in range(1200):
        server.put("dbtmodels", model(f"listed-{number}"))

    async def kept_after(name: str) -> int:
        """What the operator and kopf hold, in bytes, once they have heard of this DbtModel."""
        before = len(operator.made)
        server.put("dbtmodels", model(name, token="now"))  # noqa: S106 - no secret, but a mark
        await until(lambda: len(operator.made) > before)
        await until(lambda: operator.loops == [])
        places = [
            tracemalloc.Filter(True, place) for place in ("*/controller/dbt_operator/*", "*/site-packages/kopf/*")
        ]
        kept = tracemalloc.take_snapshot().filter_traces(places)
        return sum(each.size for each in kept.statistics("filename"))

    async with operator.at_work():
        await until(lambda: server.watched("dbtruns") and server.watched("dbtmodels"))
        tracemalloc.start()
        try:
            before = await kept_after("first")
            for number in range(2400):
                server.put("dbtmodels", model(f"watched-{number}"))
            grown = await kept_after("last") - before
            assert grown < 2400 * 50
        finally:
            tracemalloc.stop()
    asked_for = {one.accept for one in server.requests if one.path.endswith("/dbtmodels")}
    assert all("PartialObjectMetadata" in accept for accept in asked_for)


async def test_a_dbtmodel_that_asks_for_a_retry_is_heard_once() -> None:
    server = ApiServer()
    operator = Operator(server)
    server.put("dbtmodels", model("handled", token="before", handled="before"))  # noqa: S106 - as above
    server.put("dbtmodels", model("orders", token="now"))  # noqa: S106 - as above
    async with operator.at_work():
        await until(lambda: len(operator.made) == 1)
        stored = server.objects["dbtmodels", "data", "orders"]
        server.put("dbtmodels", stored | {"status": {"phase": "Running"}})
        server.put("dbtmodels", model("customers"))
        again = model("orders", token="again")  # noqa: S106 - as above
        again["metadata"]["uid"] = stored["metadata"]["uid"]
        server.put("dbtmodels", again)
        await until(lambda: len(operator.made) == 2)
    read = [one.path.rpartition("/")[2] for one in server.requests if "/dbtmodels/" in one.path]
    assert sorted(read) == ["handled", "orders", "orders"]


# namespaces


async def test_a_namespace_that_is_gone_or_forbidden_holds_up_no_other_and_may_come_back() -> None:
    server = ApiServer()
    refused = {"gone"}

    async def refuse(request: Request, target: Target) -> None:
        if target.namespace in refused:
            message = f'User "system:x" cannot {request.method} resource "{target.plural}"'
            raise ApiError(status=403, reason="Forbidden", message=message)

    server.before = refuse
    operator = Operator(server, namespaces=("gone", "data"))
    server.put("dbtruns", run("in-gone", namespace="gone"))
    async with operator.at_work():
        server.put("dbtruns", run("in-data"))
        await until(lambda: server.names("jobs") == ["in-data-producer-1"])
        await until(lambda: len([one for one in server.requests if one.path.endswith("/namespaces/gone/dbtruns")]) > 1)
        await operator.manager.resync_once()
        assert [key.name for key, _ in operator.made] == ["in-data"]
        refused.clear()
        await until(lambda: server.names("jobs") == ["in-data-producer-1", "in-gone-producer-1"])


async def test_a_run_that_is_created_while_a_list_is_under_way_is_executed_to_its_end() -> None:
    server = ApiServer()
    operator = Operator(server)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hold(request: Request, target: Target) -> None:
        if target.plural == "dbtruns" and not target.name and request.method == "GET":
            asked.set()
            await answer.wait()

    async with operator.at_work():
        await until(lambda: server.watched("dbtruns"))
        server.after = hold
        listing = asyncio.create_task(operator.manager.resync_once())
        await asked.wait()
        server.put("dbtruns", run())
        await until(lambda: operator.made != [])
        answer.set()
        await listing
        await until(lambda: server.names("jobs") == ["nightly-producer-1"])
        assert len(operator.made) == 1
