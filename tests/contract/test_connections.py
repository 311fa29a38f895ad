"""How a run connects, on a real API server: read once, kept for all attempts, each obstacle a reason and a sentence."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reasons import RunReason
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_CONNECTIONS, JOBS
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Creation
from tests.api import Api
from tests.contract.backends import backend_of
from tests.contract.crd_copies import Kind, copy_of, install, remove
from tests.unit.pods.test_pod_template import spec

NOWHERE = {"spec": {"nodeSelector": {"no": "such-node"}}}  # its pod never starts
KEY = {"name": "dwh", "key": "password"}
CONNECTION: dict[str, Any] = {"type": "postgres", "fields": {"host": "one"}, "secretFields": {"password": KEY}}


def decision(index: int) -> Decision:
    return Decision(index=index, kind=AttemptKind.PRODUCER, name=f"nightly-producer-{index}")


async def attempt(run: RunRef, client: Client, index: int = 1, **profile: Any) -> Creation:
    fields = spec(podTemplate=NOWHERE, profile=profile or {"connectionRef": {"name": "dwh"}})
    return await backend_of(run, client).create_attempt(decision(index), spec=fields)


def keep(api: Api, run: RunRef, **connection: Any) -> None:
    """The DbtConnection."""
    kind = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtConnection", "metadata": {"name": "dwh"}}
    api.apply(kind | {"spec": CONNECTION | connection}, namespace=run.namespace)


async def hosts(run: RunRef, client: Client) -> set[str]:
    """What the profiles that attempts mount say of the host."""
    found = set()
    for job in await client.list(resource=JOBS, namespace=run.namespace):
        volumes = job["spec"]["template"]["spec"]["volumes"]
        (volume,) = (each for each in volumes if each["name"] == "dbt-operator-profiles")
        name = volume["configMap"]["name"]
        kept = await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
        profile = yaml.safe_load(kept["data"]["profiles.yml"])
        found.add(profile["dbt_operator"]["outputs"]["default"]["host"])
    return found


async def test_a_connection_that_changes_or_goes_is_the_same_for_later_attempts(
    api: Api, run: RunRef, client: Client
) -> None:
    keep(api, run)
    assert (await attempt(run, client)).created
    keep(api, run, fields={"host": "two"})
    assert (await attempt(run, client, 2)).created
    await client.delete(resource=DBT_CONNECTIONS, namespace=run.namespace, name="dwh")
    assert (await attempt(run, client, 3)).created
    assert await hosts(run, client) == {"one"}
    assert len(await client.list(resource=JOBS, namespace=run.namespace)) == 3


async def test_a_run_without_its_connection_gets_no_pod_until_it_is_there(
    api: Api, run: RunRef, client: Client
) -> None:
    refusal = (await attempt(run, client)).refusal
    assert refusal is not None
    assert refusal.reason is RunReason.CONNECTION_NOT_FOUND
    assert refusal.message == (
        f"There is no DbtConnection dwh in namespace {run.namespace}, which spec.profile.connectionRef names."
    )
    keep(api, run)
    assert (await attempt(run, client)).created


async def test_a_connection_that_the_operator_cannot_use_is_a_sentence(api: Api, run: RunRef, client: Client) -> None:
    keep(api, run, fields={"host": "h"}, secretFields={"host/name": KEY})
    refusal = (await attempt(run, client)).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.message) == (
        RunReason.INVALID_SPEC,
        "DbtConnection dwh: spec: secretFields has host/name, which leads into a value that is no object.",
    )


async def test_what_is_kept_is_kept_for_good_and_goes_with_the_run(run: RunRef, client: Client) -> None:
    assert (await attempt(run, client, connection=CONNECTION)).created
    kept = await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name="nightly-profile")
    assert kept["immutable"] is True
    assert [owner["uid"] for owner in kept["metadata"]["ownerReferences"]] == [run.uid]


@pytest.fixture
def kind(api: Api) -> Iterator[Kind]:
    group = f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"
    found = install(api, copy_of("dbtconnections", group=group, kind="TriedConnection"))
    yield found
    remove(found)


def test_the_api_server_refuses_what_cannot_be_meant(kind: Kind) -> None:
    for wrong, sentence in (
        ({"type": "Postgres"}, "spec.type in body should match"),
        ({"fields": {"type": "x"}}, "type is a field beside fields"),
        ({"fields": {"password": "x"}}, "a name stands in fields too, which it cannot"),
        ({"secretFiles": {"password": KEY}}, "a name stands in fields or secretFields too, which it cannot"),
        ({"secretFields": {"password": {"name": "dwh"}}}, "spec.secretFields.password.key: Required value"),
        ({"secretFields": {"port": KEY | {"format": "Number"}}}, 'supported values: "Text", "JSON"'),
        ({"hosts": "h"}, "unknown field"),
    ):
        assert sentence in kind.refused(CONNECTION | wrong)
    made = kind.made(CONNECTION | {"fields": {"port": 1, "on": True, "none": None, "nested": {"a": [1.5, "1"]}}})
    assert made["spec"]["fields"] == {"port": 1, "on": True, "none": None, "nested": {"a": [1.5, "1"]}}
    assert made["spec"]["secretFields"]["password"]["format"] == "Text"
