"""Events on a real API server, and where they stand."""

import asyncio

from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, EVENTS, Object
from dbt_operator.plan.attempt import Request
from dbt_operator.pods.run import RunRef, owner_reference
from dbt_operator.reconcile.announce import Announcer
from tests.contract.backends import backend_of
from tests.unit.dbt.logs import model
from tests.unit.plan.story import Story

MODEL = "nightly.orders"


async def announcer_of(client: Client, run: RunRef) -> Announcer:
    """One that has seen the run, which has a DbtModel."""
    spec = {"runName": run.name, "uniqueId": "model.shop.orders", "name": "orders", "resourceType": "model"}
    metadata = {"name": MODEL, "namespace": run.namespace, "ownerReferences": [owner_reference(run)]}
    await client.create(
        resource=DBT_MODELS,
        manifest={"apiVersion": DBT_MODELS.api_version, "kind": DBT_MODELS.kind, "metadata": metadata, "spec": spec},
    )
    announcer = Announcer(backend=backend_of(run, client))
    announcer.look(await client.get(resource=DBT_RUNS, namespace=run.namespace, name=run.name))
    return announcer


async def told(client: Client, run: RunRef, *, times: int) -> list[tuple[str, str, str]]:
    """Kind, name and reason of each Event of ours about the run and its nodes, once there are so many."""
    while True:
        found: list[Object] = await client.list(resource=EVENTS, namespace=run.namespace)
        ours = [event for event in found if event["reason"] in ("NothingToRetry", "RetryWaits", "SettingIgnored")]
        if len(ours) >= times:
            return sorted((one["involvedObject"]["kind"], one["involvedObject"]["name"], one["reason"]) for one in ours)
        await asyncio.sleep(0.1)


async def test_a_retry_of_a_node_is_answered_where_it_was_asked_for_and_on_the_run(run: RunRef, client: Client) -> None:
    announcer = await announcer_of(client, run)
    announcer.nothing_to_retry(Request("a", "model.shop.orders"), model=MODEL)
    expected = [("DbtModel", MODEL, "NothingToRetry"), ("DbtRun", run.name, "NothingToRetry")]
    assert await told(client, run, times=2) == expected
    announcer.nothing_to_retry(Request("b", "model.shop.orders"), model=MODEL)
    assert await told(client, run, times=4) == sorted(2 * expected)


async def test_a_retry_that_waits_is_told_of_once(run: RunRef, client: Client) -> None:
    announcer = await announcer_of(client, run)
    for _ in range(3):
        announcer.retry_waits(Request("a"), model=None, why="spec.cancel is true; set it to false")
    announcer.retry_waits(Request("b"), model=None, why="spec.cancel is true; set it to false")
    assert await told(client, run, times=2) == 2 * [("DbtRun", run.name, "RetryWaits")]
    events = await client.list(resource=EVENTS, namespace=run.namespace)
    assert "A retry of the run was asked for, and waits: spec.cancel is true; set it to false." in [
        event["message"] for event in events
    ]


async def test_what_is_wrong_in_the_project_is_told_of_once(run: RunRef, client: Client) -> None:
    announcer = await announcer_of(client, run)
    story = Story(model("a", settings_ignored="timeout is wrong"), model("b"))
    story["Producer"].builds()
    for _ in range(3):
        announcer.ignored(story.plan())
    assert await told(client, run, times=1) == [("DbtRun", run.name, "SettingIgnored")]
