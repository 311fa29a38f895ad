"""The client against a real API server, and against the faults that a healthy one does not show."""

import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from dbt_operator.kube.client import ApiError, Client, NameConflictError, RetryPolicy
from dbt_operator.kube.resources import CONFIG_MAPS, EVENTS, JOBS, PODS
from tests.conftest import Kubectl
from tests.contract.fault_server import FaultServer, fault_server, refusal

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
QUICK = RetryPolicy(attempts=4, initial=0.01, longest=0.02, longest_retry_after=0.05)


@pytest.fixture
async def faults(tmp_path: Path) -> AsyncIterator[tuple[FaultServer, Client]]:
    async with (
        fault_server(tmp_path) as (server, path),
        await Client.connect(kubeconfig=str(path), request_timeout=0.5, retry=QUICK) as connected,
    ):
        yield server, connected


def config_map(namespace: str, name: str, *, owner_uid: str = "", **metadata: Any) -> dict[str, Any]:
    if owner_uid:
        metadata["ownerReferences"] = [OWNER | {"uid": owner_uid}]
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, "data": {"a": "1"}}


async def test_objects_are_created_read_changed_and_deleted(client: Client, namespace: str) -> None:
    made = await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "x"))
    where: dict[str, Any] = {"resource": CONFIG_MAPS, "namespace": namespace, "name": "x"}
    await client.patch(**where, patch={"data": {"a": None, "b": "2"}})
    assert (await client.get(**where))["data"] == {"b": "2"}
    await client.apply(resource=CONFIG_MAPS, manifest=config_map(namespace, "x"))
    found = await client.get(**where)
    assert found["data"] == {"a": "1", "b": "2"}
    assert "managedFields" not in found["metadata"]
    assert await client.delete(**where, uid=str(uuid.uuid4())) is False
    assert await client.delete(**where, version=made["metadata"]["resourceVersion"]) is False  # it has changed since
    assert await client.find(**where) is not None
    assert await client.delete(**where, uid=made["metadata"]["uid"]) is True
    assert await client.delete(**where) is False
    assert await client.find(**where) is None


async def test_a_list_is_complete_however_many_pages_it_has(client: Client, namespace: str, kubectl: Kubectl) -> None:
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap"} | config_map(namespace, f"c{n}", labels={"odd": str(n % 2)})
        for n in range(1100)
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    kubectl("create", "-f", "-", stdin=manifest)
    found = await client.list(resource=CONFIG_MAPS, namespace=namespace, labels={"odd": "1"})
    assert sorted(one["metadata"]["name"] for one in found) == sorted(f"c{n}" for n in range(1, 1100, 2))
    assert {(one["kind"], one["apiVersion"]) for one in found} == {("ConfigMap", "v1")}
    everywhere = await client.list(resource=CONFIG_MAPS, namespace=None, fields=f"metadata.namespace={namespace}")
    assert len(everywhere) >= 1100


async def test_all_objects_with_certain_labels_are_deleted_by_one_request(client: Client, namespace: str) -> None:
    for number in range(6):
        manifest = config_map(namespace, f"c{number}")
        manifest["metadata"]["labels"] = {"of": "mine" if number % 2 else "another"}
        await client.create(resource=CONFIG_MAPS, manifest=manifest)
    await client.delete_all(resource=CONFIG_MAPS, namespace=namespace, labels={"of": "mine"})
    left = {one["metadata"]["name"] for one in await client.list(resource=CONFIG_MAPS, namespace=namespace)}
    assert left - {"kube-root-ca.crt"} == {"c0", "c2", "c4"}
    await client.delete_all(resource=CONFIG_MAPS, namespace=namespace, labels={"of": "nobody"})


async def test_whether_an_object_could_be_deleted_is_asked_without_deleting_it(client: Client, namespace: str) -> None:
    made = await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "x"))
    version = made["metadata"]["resourceVersion"]
    which: dict[str, Any] = {"resource": CONFIG_MAPS, "namespace": namespace, "name": "x"}
    assert await client.delete(**which, version=version, dry_run=True)
    assert not await client.delete(**which, version="1", dry_run=True)
    assert (await client.get(**which))["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_object_that_exists_is_adopted_only_from_the_same_owner(client: Client, namespace: str) -> None:
    owner = await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "owner"))
    mine, other = owner["metadata"]["uid"], str(uuid.uuid4())
    manifest = config_map(namespace, "x", owner_uid=mine)
    made, created = await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=mine)
    again, created_again = await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=mine)
    assert (created, created_again) == (True, False)
    assert made["metadata"]["uid"] == again["metadata"]["uid"]
    manifest = config_map(namespace, "x", owner_uid=other)
    with pytest.raises(NameConflictError, match=r"ConfigMap .*/x exists already and belongs to another") as conflict:
        await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=other)
    assert conflict.value.stale
    await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "theirs"))
    manifest = config_map(namespace, "theirs", owner_uid=mine)
    with pytest.raises(NameConflictError, match="has no owner") as conflict:
        await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid=mine)
    assert not conflict.value.stale


async def test_an_event_is_shown_once_however_often_it_is_posted(
    client: Client, namespace: str, kubectl: Kubectl
) -> None:
    await client.create(resource=CONFIG_MAPS, manifest=config_map(namespace, "x"))
    regarding = await client.get(resource=CONFIG_MAPS, namespace=namespace, name="x")
    for key in ("1", "1", "2"):
        await client.record_event(regarding=regarding, kind="Warning", reason="NodeFailed", message="m" * 5000, key=key)
    found = await client.list(resource=EVENTS, namespace=namespace, fields="reason=NodeFailed")
    assert [len(event["message"]) for event in found] == [1024, 1024]
    assert "NodeFailed" in kubectl("describe", "configmap", "x", "-n", namespace)


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_real_refusals_are_understood(
    client: Client, namespace: str, kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    async def refused(manifest: dict[str, Any], resource: Any = CONFIG_MAPS, by: Client = client) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await by.create(resource=resource, manifest=manifest)
        return caught.value

    pod = {"metadata": {"name": "p", "namespace": namespace}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    assert (await refused(pod, PODS)).denied
    job = {"metadata": {"name": "j", "namespace": namespace}, "spec": {"template": {"spec": {"containers": []}}}}
    assert (await refused(job, JOBS)).invalid
    assert (await refused(job | {"spec": {"template": 5}}, JOBS)).invalid
    assert (await refused(config_map(namespace, "big") | {"data": {"a": "x" * 2_000_000}})).too_large
    kubectl("create", "quota", "none", "--hard=count/jobs.batch=0", "-n", namespace)
    spec = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
    # The quota's own controller has to see it first.
    kubectl("wait", "quota/none", "-n", namespace, "--for=jsonpath={.status.hard}", "--timeout=300s")
    assert (await refused(job | {"spec": {"template": {"spec": spec}}}, JOBS)).quota_exceeded
    kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    config = yaml.safe_load(kubeconfig.read_bytes())  # noqa: ASYNC240  # nothing else is running
    config["users"][0]["user"] = {"token": kubectl("create", "token", "nobody", "-n", namespace).strip()}
    (tmp_path / "nobody").write_text(yaml.safe_dump(config))
    async with await Client.connect(kubeconfig=str(tmp_path / "nobody")) as nobody:
        assert (await refused(config_map(namespace, "x"), by=nobody)).forbidden
    kubectl("delete", "namespace", namespace, "--wait=false")
    assert (await refused(config_map(namespace, "x"))).namespace_terminating
    kubectl("delete", "namespace", namespace, "--ignore-not-found")
    kubectl("create", "namespace", namespace)  # the fixture deletes it


async def test_the_proxy_that_the_environment_names_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server(tmp_path) as (server, path):
        config = yaml.safe_load(path.read_bytes())
        monkeypatch.setenv("http_proxy", config["clusters"][0]["cluster"]["server"])
        config["clusters"][0]["cluster"]["server"] = "http://kubernetes.invalid"  # nobody but the proxy can find it
        path.write_text(yaml.safe_dump(config))
        server.objects["/api/v1/namespaces/n/configmaps/x"] = {"metadata": {"name": "x"}}
        async with await Client.connect(kubeconfig=str(path), retry=QUICK) as client:
            assert await client.get(resource=CONFIG_MAPS, namespace="n", name="x") == {"metadata": {"name": "x"}}
        monkeypatch.setenv("no_proxy", "kubernetes.invalid")
        async with await Client.connect(kubeconfig=str(path), retry=QUICK) as client:
            with pytest.raises(ApiError, match=r"kubernetes\.invalid"):
                await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [refusal(503), refusal(429, Retry_After="1"), "cut", "lost", "hang"])
async def test_what_may_pass_is_tried_again(faults: tuple[FaultServer, Client], fault: web.Response | str) -> None:
    server, client = faults
    server.objects["/api/v1/namespaces/n/configmaps/x"] = {"metadata": {"name": "x", "resourceVersion": "1"}}
    server.faults = [fault]
    assert (await client.get(resource=CONFIG_MAPS, namespace="n", name="x"))["metadata"]["name"] == "x"
    assert len(server.requests) == 2


async def test_what_does_not_pass_ends_as_an_error(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    server.fault = lambda _: "hang"
    with pytest.raises(ApiError, match="timed out") as caught:
        await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
    assert caught.value.transient
    assert len(server.requests) == QUICK.attempts


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
async def test_what_will_not_pass_is_not_tried_again(faults: tuple[FaultServer, Client], status: int) -> None:
    server, client = faults
    server.fault = lambda _: refusal(status)
    with pytest.raises(ApiError):
        await client.patch(resource=CONFIG_MAPS, namespace="n", name="x", patch={})
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["cut", "lost", "hang"])
async def test_a_creation_whose_answer_got_lost_counts_as_ours(faults: tuple[FaultServer, Client], fault: str) -> None:
    server, client = faults
    server.faults = [fault] if fault != "hang" else ["cut"] * QUICK.attempts
    manifest = config_map("n", "x", owner_uid="mine")
    found, created = await client.create_or_adopt(resource=CONFIG_MAPS, manifest=manifest, owner_uid="mine")
    assert found["metadata"]["name"] == "x"
    assert not created
    assert len(server.objects) == 1


async def test_a_rotated_token_is_read_again(faults: tuple[FaultServer, Client], tmp_path: Path) -> None:
    server, client = faults
    server.objects["/api/v1/namespaces/n/configmaps/x"] = {"metadata": {"name": "x"}}
    server.fault = lambda request: None if request.headers["Authorization"] == "Bearer second" else refusal(401)
    (tmp_path / "token").write_text("second")
    await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
    await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
    assert server.tokens == ["Bearer first", "Bearer second", "Bearer second"]


async def test_a_token_that_is_not_accepted_is_an_error(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    server.fault = lambda _: refusal(401, "Unauthorized", "Unauthorized")
    with pytest.raises(ApiError) as caught:
        await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
    assert caught.value.unauthorized
    assert len(server.requests) == 2


async def test_a_list_whose_continuation_expired_begins_again(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults

    def page(name: str, token: str) -> web.Response:
        return web.json_response({"metadata": {"continue": token}, "items": [{"metadata": {"name": name}}]})

    server.faults = [page("old", "t1"), refusal(410, "Expired"), page("a", "t2"), page("b", "")]
    found = await client.list(resource=CONFIG_MAPS, namespace="n")
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert ["continue=" in path for _, path in server.requests] == [False, True, False, True]


async def test_an_event_that_cannot_be_posted_harms_nobody(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    regarding = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "n", "uid": "u"}}
    for fault in (refusal(403), refusal(500), "hang"):
        server.faults = [fault]
        await client.record_event(regarding=regarding, kind="Normal", reason="R", message="m")
    assert len(server.requests) == 3


async def test_the_time_is_the_servers(faults: tuple[FaultServer, Client]) -> None:
    server, client = faults
    there = datetime.now(UTC) + timedelta(hours=1)
    server.faults = [web.json_response({}, headers={"Date": format_datetime(there, usegmt=True)})]
    await client.get(resource=CONFIG_MAPS, namespace="n", name="x")
    assert timedelta(minutes=59) < client.now() - datetime.now(UTC) < timedelta(minutes=61)
