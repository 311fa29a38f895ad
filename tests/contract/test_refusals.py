"""What a real API server says of webhooks that fail and policies that refuse, and what that means for a run."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.names import GATE
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reasons import RunReason
from dbt_operator.kube.client import ApiError, Client, RetryPolicy
from dbt_operator.kube.resources import PODS
from dbt_operator.plan.attempt import Decision, Refusal
from dbt_operator.plan.facts import pod_facts
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.refusals import refusal_of
from tests.api import Api
from tests.contract.backends import backend_of
from tests.unit.pods.test_pod_template import spec

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="nightly-producer-1")


@contextmanager
def existing(api: Api, plural: str, manifest: dict[str, Any]) -> Iterator[None]:
    """A cluster-wide object for as long as the context lasts."""
    path = f"{ADMISSION}/{plural}"
    api.create_at(path, {"apiVersion": "admissionregistration.k8s.io/v1", **manifest})
    try:
        yield
    finally:
        api.delete_at(f"{path}/{manifest['metadata']['name']}")


def only_in(namespace: str) -> dict[str, Any]:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


@contextmanager
def failing_webhook(api: Api, namespace: str, *, groups: list[str], plural: str, operation: str) -> Iterator[None]:
    """A webhook of a namespace that nobody answers."""
    rule = {"apiGroups": groups, "apiVersions": ["v1"], "operations": [operation], "resources": [plural]}
    webhook = {
        "name": "guard.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": only_in(namespace),
        "rules": [rule],
    }
    manifest = {"kind": "ValidatingWebhookConfiguration", "metadata": {"name": namespace}, "webhooks": [webhook]}
    with existing(api, "validatingwebhookconfigurations", manifest):
        yield


@contextmanager
def frozen_pods(api: Api, namespace: str) -> Iterator[None]:
    """A policy of a namespace that lets no scheduling gate be removed."""
    gates = "size({}.spec.?schedulingGates.orValue([]))"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"]}
    validation = {"expression": f"{gates.format('object')} == {gates.format('oldObject')}", "message": "frozen"}
    policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}
    binding = {
        "policyName": namespace,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": only_in(namespace)},
    }
    name = {"metadata": {"name": namespace}}
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    with (
        existing(api, "validatingadmissionpolicies", {"kind": kinds[0], **name, "spec": policy}),
        existing(api, "validatingadmissionpolicybindings", {"kind": kinds[1], **name, "spec": binding}),
    ):
        yield


@pytest.fixture
async def hasty(kubeconfig: Path) -> AsyncIterator[Client]:
    """A client that tries nothing twice by itself."""
    async with await Client.connect(kubeconfig=str(kubeconfig), retry=RetryPolicy(attempts=1)) as connected:
        yield connected


async def start_refused(run: RunRef, client: Client) -> Refusal:
    """What the start of a pod is refused with. The server hears of a new rule a moment later."""
    containers = [{"name": "dbt", "image": "localhost/no-such-image:1"}]
    pod = {"schedulingGates": [{"name": GATE}], "nodeSelector": {"no": "such-node"}, "containers": containers}
    async with asyncio.timeout(60):
        for number in itertools.count():
            # Each has a name of its own: nothing that is still under way for one of them can reach another.
            name = {"name": f"held-{number}", "namespace": run.namespace}
            held = await client.create(resource=PODS, manifest={"metadata": name, "spec": pod})
            try:
                await backend_of(run, client).start_pod(pod_facts(held))
            except ApiError as error:
                refusal = refusal_of(error, what="the start of the pod")
                assert refusal is not None
                return refusal
            await client.delete(resource=PODS, namespace=run.namespace, name=name["name"], grace_seconds=0)
    raise AssertionError("the count has no end")


async def test_a_job_whose_webhook_fails_is_created_once_it_answers(run: RunRef, api: Api, hasty: Client) -> None:
    fields, backend = spec(podTemplate={"spec": {"nodeSelector": {"no": "such-node"}}}), backend_of(run, hasty)
    with failing_webhook(api, run.namespace, groups=["batch"], plural="jobs", operation="CREATE"):
        async with asyncio.timeout(60):
            while (done := await backend.create_attempt(PRODUCER, spec=fields)).created:
                await backend.stop_attempt(PRODUCER.name)
        assert done.refusal is not None
        assert done.refusal.reason is RunReason.API_SERVER_ERROR
        assert 'failed calling webhook "guard.example.com"' in done.refusal.message
    async with asyncio.timeout(60):
        while not (await backend.create_attempt(PRODUCER, spec=fields)).created:  # noqa: ASYNC110 - the server's to know
            await asyncio.sleep(0.2)


async def test_a_pod_whose_webhook_fails_is_let_go_later(run: RunRef, api: Api, hasty: Client) -> None:
    with failing_webhook(api, run.namespace, groups=[""], plural="pods", operation="UPDATE"):
        refusal = await start_refused(run, hasty)
    assert refusal.reason is RunReason.API_SERVER_ERROR
    assert 'failed calling webhook "guard.example.com"' in refusal.message


async def test_a_pod_that_a_policy_holds_is_refused_in_its_words(run: RunRef, api: Api, hasty: Client) -> None:
    with frozen_pods(api, run.namespace):
        refusal = await start_refused(run, hasty)
    assert refusal.reason is RunReason.ADMISSION_DENIED
    assert "denied request: frozen" in refusal.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"retry": {"podTemplate": {"spec": {"nodSelector": {}}}}}, "spec.retry.podTemplate.spec.nodSelector"),
        (
            {"nodes": [{"select": [{"name": "a"}], "podTemplate": {"spec": {"tolerations": [{"kye": "x"}]}}}]},
            "spec.nodes[0].podTemplate.spec.tolerations",
        ),
    ],
)
async def test_what_is_misspelt_for_later_pods_is_said_before_the_first_one(
    run: RunRef, api: Api, hasty: Client, fields: dict[str, Any], field: str
) -> None:
    created = await backend_of(run, hasty).create_attempt(PRODUCER, spec=spec(**fields))
    assert created.refusal is not None
    assert created.refusal.reason is RunReason.INVALID_POD_TEMPLATE
    assert field in created.refusal.message
    assert api.objects("jobs", namespace=run.namespace) == []


async def test_what_is_right_for_later_pods_keeps_nothing_back(run: RunRef, api: Api, hasty: Client) -> None:
    template = {"spec": {"nodeSelector": {"no": "such-node"}}}
    large = {"spec": {"containers": [{"name": "dbt", "resources": {"requests": {"memory": "9Gi"}}}]}}
    fields = {"podTemplate": template, "retry": {"podTemplate": large}}
    created = await backend_of(run, hasty).create_attempt(PRODUCER, spec=spec(**fields))
    assert created.created
    (job,) = api.objects("jobs", namespace=run.namespace)
    assert job["metadata"]["name"] == PRODUCER.name
