"""The status writer against a real API server, and against one that answers with every kind of fault."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dbt_operator.kube.client import ApiError, Client, NameConflictError, RetryPolicy
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, Object
from dbt_operator.kube.writer import Backoff, ForgottenError, Problem, StatusWriter
from tests.contract.fault_server import fault_server, refusal

RUN = "the uid of the run"
UNTOUCHED = {"phase": "Pending"}  # the CRD's own default


@asynccontextmanager
async def running(writer: StatusWriter) -> AsyncIterator[StatusWriter]:
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        await writer.close(within=0)
        await task


@pytest.fixture
async def owner(client: Client, namespace: str) -> Object:
    """Something real to own objects: Kubernetes deletes what has an owner that does not exist."""
    manifest = {"metadata": {"name": "owner", "namespace": namespace}}
    return await client.create(resource=CONFIG_MAPS, manifest=manifest)


def model(owner: Object, name: str) -> dict[str, Any]:
    metadata = owner["metadata"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": metadata["uid"]}
    return {
        "apiVersion": DBT_MODELS.api_version,
        "kind": DBT_MODELS.kind,
        "metadata": {"name": name, "namespace": metadata["namespace"], "ownerReferences": [reference]},
        "spec": {"runName": "r", "uniqueId": f"model.p.{name}", "name": name, "resourceType": "model"},
    }


def submit(writer: StatusWriter, namespace: str, name: str, *, terminal: bool = False, **status: Any) -> None:
    writer.submit(run=RUN, resource=DBT_MODELS, namespace=namespace, name=name, status=status, terminal=terminal)


def create(writer: StatusWriter, owner: Object, name: str) -> None:
    uid = owner["metadata"]["uid"]
    writer.submit_create(run=RUN, resource=DBT_MODELS, manifest=model(owner, name), owner_uid=uid)


async def stored(client: Client, namespace: str, name: str) -> Mapping[str, Any]:
    found = await client.get(resource=DBT_MODELS, namespace=namespace, name=name)
    status: Mapping[str, Any] = found.get("status") or {}
    return status


@pytest.mark.usefixtures("crds")
async def test_a_run_of_many_nodes_ends_with_every_status_stored(client: Client, namespace: str, owner: Object) -> None:
    names = [f"r.n{number}" for number in range(200)]
    async with running(StatusWriter(client=client, max_per_second=1000, burst=1000)) as writer:
        for name in names:
            create(writer, owner, name)
            submit(writer, namespace, name, phase="Pending")
        for name in names:
            submit(writer, namespace, name, phase="Running", startedAt="2026-11-20T17:11:13Z")
            await asyncio.sleep(0.002)
        for name in names:
            submit(writer, namespace, name, phase="Succeeded", reason="Success", terminal=True, rowsAffected=7)
        assert await writer.flush(run=RUN, within=30)
    found = await client.list(resource=DBT_MODELS, namespace=namespace)
    assert {one["metadata"]["name"] for one in found} == set(names)
    assert {str(one["status"]) for one in found} == {
        str({"phase": "Succeeded", "reason": "Success", "rowsAffected": 7})  # startedAt was cleared
    }


@pytest.mark.usefixtures("crds")
async def test_after_a_restart_an_unchanged_status_is_not_written(
    client: Client, namespace: str, owner: Object
) -> None:
    async with running(StatusWriter(client=client)) as writer:
        create(writer, owner, "r.a")
        submit(writer, namespace, "r.a", phase="Running", message="x", tests={"passed": 1, "failed": 0})
        assert await writer.flush(within=10)
    before = await client.get(resource=DBT_MODELS, namespace=namespace, name="r.a")
    async with running(StatusWriter(client=client)) as writer:
        writer.known(run=RUN, resource=DBT_MODELS, obj=before)
        submit(writer, namespace, "r.a", phase="Running", message="x", tests={"passed": 1, "failed": 0})
        assert await writer.flush(within=10)
        create(writer, owner, "r.a")
        submit(writer, namespace, "r.a", phase="Running", message="x", tests={"passed": 1, "failed": 0})
        assert await writer.flush(within=10)
    after = await client.get(resource=DBT_MODELS, namespace=namespace, name="r.a")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


@pytest.mark.usefixtures("crds")
async def test_a_part_of_a_status_is_stored_at_once_and_only_onto_the_version_that_was_read(
    client: Client, namespace: str, owner: Object
) -> None:
    async with running(StatusWriter(client=client, quiet_interval=0.01)) as writer:
        create(writer, owner, "r.a")
        submit(writer, namespace, "r.a", phase="Failed", terminal=True)
        assert await writer.flush(within=10)
        key: dict[str, Any] = {"run": RUN, "resource": DBT_MODELS, "namespace": namespace, "name": "r.a"}
        before = await client.get(resource=DBT_MODELS, namespace=namespace, name="r.a")
        version = before["metadata"]["resourceVersion"]
        await writer.store(**key, patch={"handledRetry": "one"}, version=version)
        with pytest.raises(ApiError, match="modified"):
            await writer.store(**key, patch={"handledRetry": "two"}, version=version)
        assert await writer.flush(within=10)
        assert await stored(client, namespace, "r.a") == {"phase": "Failed", "handledRetry": "one"}
        submit(writer, namespace, "r.a", phase="Failed", message="why", handledRetry="one", terminal=True)
        assert await writer.flush(within=10)
    assert await stored(client, namespace, "r.a") == {"phase": "Failed", "handledRetry": "one", "message": "why"}


@pytest.mark.usefixtures("crds")
async def test_changes_of_others_are_no_obstacle_and_are_kept(client: Client, namespace: str, owner: Object) -> None:
    async with running(StatusWriter(client=client, quiet_interval=0.01)) as writer:
        create(writer, owner, "r.a")
        submit(writer, namespace, "r.a", phase="Running")
        assert await writer.flush(within=10)
        where: dict[str, Any] = {"resource": DBT_MODELS, "namespace": namespace, "name": "r.a"}
        await client.patch(**where, patch={"metadata": {"annotations": {"dbt-operator.io/retry": "1"}}})
        await client.patch(**where, patch={"status": {"phase": "Pending", "jobId": "j"}}, subresource="status")
        submit(writer, namespace, "r.a", phase="Succeeded", terminal=True)
        assert await writer.flush(within=10)
    found = await client.get(**where)
    assert found["status"] == {"phase": "Succeeded"}
    assert found["metadata"]["annotations"] == {"dbt-operator.io/retry": "1"}


@pytest.mark.usefixtures("crds")
async def test_an_object_of_a_later_run_is_never_written_to(client: Client, namespace: str, owner: Object) -> None:
    async with running(StatusWriter(client=client)) as writer:
        create(writer, owner, "r.a")
        submit(writer, namespace, "r.a", phase="Running")
        assert await writer.flush(within=10)
        await client.delete(resource=DBT_MODELS, namespace=namespace, name="r.a")
        await client.create(resource=DBT_MODELS, manifest=model(owner, "r.a"))
        submit(writer, namespace, "r.a", phase="Failed", terminal=True)
        assert await writer.flush(within=10)
    assert await stored(client, namespace, "r.a") == UNTOUCHED


@pytest.mark.usefixtures("crds")
async def test_what_the_schema_refuses_is_reported_once_and_blocks_nothing(
    client: Client, namespace: str, owner: Object
) -> None:
    problems: list[Problem] = []
    async with running(StatusWriter(client=client, on_problem=problems.append)) as writer:
        create(writer, owner, "r.a")
        for _ in range(3):
            submit(writer, namespace, "r.a", phase="Nonsense")
            assert await writer.flush(within=10)
        submit(writer, namespace, "r.a", phase="Succeeded", terminal=True)
        assert await writer.flush(within=10)
    assert await stored(client, namespace, "r.a") == {"phase": "Succeeded"}
    assert [(one.name, one.final, isinstance(one.error, ApiError)) for one in problems] == [("r.a", True, True)]


@pytest.mark.usefixtures("crds")
async def test_a_deleted_object_is_left_alone(client: Client, namespace: str, owner: Object) -> None:
    async with running(StatusWriter(client=client)) as writer:
        create(writer, owner, "r.a")
        assert await writer.flush(within=10)
        await client.delete(resource=DBT_MODELS, namespace=namespace, name="r.a")
        submit(writer, namespace, "r.a", phase="Succeeded", terminal=True)
        submit(writer, namespace, "r.never", phase="Succeeded", terminal=True)
        assert await writer.flush(within=10)
    assert await client.list(resource=DBT_MODELS, namespace=namespace) == []


@pytest.mark.usefixtures("crds")
async def test_an_object_is_created_once_and_never_taken_from_others(
    client: Client, namespace: str, owner: Object
) -> None:
    uid = owner["metadata"]["uid"]
    theirs = model(owner, "r.theirs")
    del theirs["metadata"]["ownerReferences"]
    await client.create(resource=DBT_MODELS, manifest=theirs)
    async with running(StatusWriter(client=client)) as writer:
        wanted: dict[str, Any] = {"run": RUN, "resource": DBT_MODELS, "owner_uid": uid}
        assert await writer.ensure(**wanted, manifest=model(owner, "r.a")) is True
        assert await writer.ensure(**wanted, manifest=model(owner, "r.a")) is False
        with pytest.raises(NameConflictError, match="has no owner"):
            await writer.ensure(**wanted, manifest=model(owner, "r.theirs"))
        submit(writer, namespace, "r.theirs", phase="Succeeded", terminal=True)
        assert await writer.flush(within=10)
    assert await stored(client, namespace, "r.theirs") == UNTOUCHED


QUICK = Backoff(first=0.01, longest=0.05, slow=0.05, overload=0.02)


@asynccontextmanager
async def faulty(
    folder: Path, *, max_per_second: float = 10_000, **more: Any
) -> AsyncIterator[tuple[Any, StatusWriter]]:
    retry = RetryPolicy(attempts=1, initial=0.01)
    async with (
        fault_server(folder) as (server, path),
        await Client.connect(kubeconfig=str(path), request_timeout=0.5, retry=retry) as client,
        running(
            StatusWriter(
                client=client,
                max_per_second=max_per_second,
                burst=100,
                backoff=QUICK,
                settle_interval=0.02,
                quiet_interval=0.02,
                **more,
            )
        ) as writer,
    ):
        yield server, writer


PATH = f"/apis/{DBT_MODELS.api_version}/namespaces/n/dbtmodels"


async def test_the_newest_state_is_stored_whatever_the_server_does(tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311  # no secret
    owner = {"metadata": {"name": "owner", "namespace": "n", "uid": RUN}}
    newest: dict[str, dict[str, Any]] = {}

    def fault(_: web.Request) -> web.Response | str | None:
        kinds: list[Any] = ["lost", "cut", refusal(503), refusal(500), refusal(409, "Conflict"), refusal(429)]
        return chance.choice(kinds) if chance.random() < 0.4 else None

    async with faulty(tmp_path) as (server, writer):
        server.fault = fault
        for name in "abcde":
            create(writer, owner, name)
        for step in range(60):
            name = chance.choice("abcde")
            newest[name] = {"rows": step} | {key: step for key in "xyz" if chance.random() < 0.5}
            submit(writer, "n", name, terminal=chance.random() < 0.2, **newest[name])
            await asyncio.sleep(0.01)
        assert await writer.flush(within=60)
    assert {path.removeprefix(f"{PATH}/"): one.get("status", {}) for path, one in server.objects.items()} == newest


async def test_a_server_that_is_overloaded_is_left_in_peace_for_as_long_as_it_asks(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (server, writer):
        for name in "ab":
            server.objects[f"{PATH}/{name}"] = {"metadata": {"name": name, "resourceVersion": "0"}}
        server.faults = [refusal(429, Retry_After="1")]
        submit(writer, "n", "a", phase="Running")
        await asyncio.sleep(0.2)
        submit(writer, "n", "b", phase="Failed", terminal=True)
        await asyncio.sleep(0.2)
        assert len(server.requests) == 1
        assert await writer.flush(within=10)
    assert [server.objects[f"{PATH}/{name}"]["status"]["phase"] for name in "ab"] == ["Running", "Failed"]


async def test_missing_rights_are_reported_and_tried_again(tmp_path: Path) -> None:
    problems: list[Problem] = []
    async with faulty(tmp_path, on_problem=problems.append) as (server, writer):
        server.objects[f"{PATH}/a"] = {"metadata": {"name": "a", "resourceVersion": "0"}}
        server.faults = [refusal(403, "Forbidden", 'User "x" cannot patch resource "dbtmodels/status"')]
        submit(writer, "n", "a", phase="Running")
        assert await writer.flush(within=10)
    assert server.objects[f"{PATH}/a"]["status"] == {"phase": "Running"}
    assert [(one.final, one.run) for one in problems] == [(False, RUN)]


async def test_an_object_of_a_deleted_run_of_the_same_name_is_waited_for(tmp_path: Path) -> None:
    owner = {"metadata": {"name": "owner", "namespace": "n", "uid": RUN}}
    old = {"metadata": {"name": "owner", "namespace": "n", "uid": "the uid of the run before"}}
    async with faulty(tmp_path) as (server, writer):
        server.objects[f"{PATH}/a"] = model(old, "a")
        create(writer, owner, "a")
        await asyncio.sleep(0.2)
        del server.objects[f"{PATH}/a"]  # as the garbage collector does in the end
        assert await writer.flush(within=10)
    assert server.objects[f"{PATH}/a"]["metadata"]["ownerReferences"][0]["uid"] == RUN


async def test_a_forgotten_run_sends_nothing_more(tmp_path: Path) -> None:
    async with faulty(tmp_path, max_per_second=100.0) as (server, writer):
        for number in range(1000):
            submit(writer, "n", f"n{number}", phase="Running")
        waiting = asyncio.create_task(
            writer.ensure(
                run=RUN,
                resource=DBT_MODELS,
                manifest=model({"metadata": {"namespace": "n", "uid": RUN}}, "a"),
                owner_uid=RUN,
            )
        )
        assert not await writer.flush(run=RUN, within=0.1)
        writer.forget(run=RUN)
        with pytest.raises(ForgottenError):
            await waiting
        assert writer.pending(run=RUN) == 0
        sent = len(server.requests)
        await asyncio.sleep(1)  # in which it would have sent a hundred
        assert len(server.requests) <= sent + 16  # what was on its way already: so many at once, and no more


async def test_an_answer_that_never_comes_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with faulty(tmp_path) as (server, writer):
        for name in "ab":
            server.objects[f"{PATH}/{name}"] = {"metadata": {"name": name, "resourceVersion": "0"}}
        server.faults = ["hang"]
        submit(writer, "n", "a", phase="Running")
        await asyncio.sleep(0.05)
        submit(writer, "n", "b", phase="Running")
        assert await writer.flush(within=10)
    assert [server.objects[f"{PATH}/{name}"]["status"]["phase"] for name in "ab"] == ["Running", "Running"]
