"""Creating an attempt on a real API server: once, whoever tries how often, and what a refusal means for the run."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reasons import RunReason
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, JOBS
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.archive import build_archive
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Creation
from tests.conftest import Kubectl
from tests.contract.backends import backend_of
from tests.unit.pods.test_pod_template import spec

PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="nightly-producer-1")
NOWHERE = {"spec": {"nodeSelector": {"no": "such-node"}}}  # its pod never starts


async def create(client: Client, run: RunRef, **template: Any) -> Creation:
    fields = spec(podTemplate={"spec": NOWHERE["spec"] | template})
    return await backend_of(run, client).create_attempt(PRODUCER, spec=fields)


async def refused(client: Client, run: RunRef, **template: Any) -> tuple[RunReason, str]:
    done = await create(client, run, **template)
    assert not done.created
    assert done.refusal is not None
    return done.refusal.reason, done.refusal.message


def runner_of(job: dict[str, Any]) -> str:
    """The name of the ConfigMap that the pod of a Job takes its runner from."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    (name,) = (each["configMap"]["name"] for each in volumes if each["name"] == "dbt-operator-runner")
    return str(name)


async def test_an_attempt_is_created_once_however_often_it_is_tried(run: RunRef, client: Client) -> None:
    assert (await create(client, run)).created
    (before,) = await client.list(resource=JOBS, namespace=run.namespace)
    assert (await create(client, run)).created
    (job,) = await client.list(resource=JOBS, namespace=run.namespace)
    assert job["metadata"]["uid"] == before["metadata"]["uid"]
    runner = await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name=runner_of(job))
    for made in (job, runner):
        assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [run.uid]
        assert "finalizers" not in made["metadata"]  # the run can be deleted while no operator is there


async def test_after_an_upgrade_a_job_gets_the_runner_that_knows_its_arguments(
    run: RunRef, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        old.setattr("dbt_operator.pods.runner_files.build_archive", lambda: b"the runner of the version before")
        assert (await create(client, run)).created
    resume = Decision(index=2, kind=AttemptKind.RESUME, name="nightly-resume-1", nodes=frozenset({"model.shop.orders"}))
    assert (await backend_of(run, client).create_attempt(resume, spec=spec(podTemplate=NOWHERE))).created
    jobs = {job["metadata"]["name"]: job for job in await client.list(resource=JOBS, namespace=run.namespace)}
    runners = {name: await runner(client, run, name=runner_of(job)) for name, job in jobs.items()}
    assert runners == {PRODUCER.name: b"the runner of the version before", resume.name: build_archive()}


async def runner(client: Client, run: RunRef, *, name: str) -> bytes:
    found = await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
    return base64.b64decode(found["binaryData"]["runner.pyz"])


async def test_a_job_of_somebody_elses_is_left_alone(run: RunRef, client: Client, kubectl: Kubectl) -> None:
    kubectl("create", "job", PRODUCER.name, "-n", run.namespace, "--image=localhost/no-such-image:1")
    reason, message = await refused(client, run)
    assert reason is RunReason.NAME_CONFLICT
    assert f"Job {run.namespace}/{PRODUCER.name} exists already and has no owner" in message
    (job,) = await client.list(resource=JOBS, namespace=run.namespace)
    assert "ownerReferences" not in job["metadata"]


async def test_a_template_that_the_server_refuses_is_named_in_its_words(run: RunRef, client: Client) -> None:
    reason, message = await refused(client, run, dnsPolicy="Nonsense")
    assert reason is RunReason.INVALID_POD_TEMPLATE
    assert "spec.podTemplate.spec.dnsPolicy" in message


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ({"nodeSelektor": {"pool": "batch"}, "tolerationz": []}, ["nodeSelektor", "tolerationz"]),
        (
            {"containers": [{"name": "dbt", "resource": {}, "env": [{"name": "A", "vaule": "1"}]}]},
            ["containers[dbt].resource", "containers[dbt].env[A].vaule"],
        ),
        ({"volumes": [{"name": "scratch", "emptyDirr": {}}]}, ["volumes[scratch].emptyDirr"]),
        ({"initContainers": [{"name": "load", "image": "x", "comand": ["true"]}]}, ["initContainers[load].comand"]),
        ({"securityContext": {"runAsUserr": 7}}, ["securityContext.runAsUserr"]),
    ],
)
async def test_a_field_that_no_pod_has_is_refused_by_name(
    run: RunRef, client: Client, template: dict[str, Any], fields: list[str]
) -> None:
    reason, message = await refused(client, run, **template)
    assert reason is RunReason.INVALID_POD_TEMPLATE
    for field in fields:
        assert f'"spec.podTemplate.spec.{field}"' in message
    assert await client.list(resource=JOBS, namespace=run.namespace) == []


async def test_an_amount_that_is_none_is_named(run: RunRef, client: Client) -> None:
    reason, message = await refused(
        client, run, containers=[{"name": "dbt", "resources": {"limits": {"memory": "1Gigs", "cpu": "1"}}}]
    )
    assert reason is RunReason.INVALID_POD_TEMPLATE
    assert message.endswith(": spec.podTemplate.spec.containers[dbt].resources.limits.memory is '1Gigs'")


async def test_a_full_quota_is_told_and_passes(run: RunRef, client: Client, kubectl: Kubectl) -> None:
    kubectl("create", "quota", "none", "--hard=count/jobs.batch=0", "-n", run.namespace)
    # The quota's own controller has to see it first.
    kubectl("wait", "quota/none", "-n", run.namespace, "--for=jsonpath={.status.hard}", "--timeout=300s")
    reason, message = await refused(client, run)
    assert (reason, "exceeded quota: none" in message) == (RunReason.QUOTA_EXCEEDED, True)
    kubectl("delete", "quota", "none", "-n", run.namespace)
    # For a moment the server still goes by the quota that it has heard of last; the operator tries again, too.
    while not (done := await create(client, run)).created:
        assert done.refusal is not None
        assert done.refusal.reason is RunReason.QUOTA_EXCEEDED
        await asyncio.sleep(0.1)


async def test_a_missing_right_of_the_operator_is_told(
    run: RunRef, kubectl: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "nobody", "-n", run.namespace)
    config = yaml.safe_load(kubeconfig.read_bytes())  # noqa: ASYNC240  # nothing else is running
    config["users"][0]["user"] = {"token": kubectl("create", "token", "nobody", "-n", run.namespace).strip()}
    (tmp_path / "nobody").write_text(yaml.safe_dump(config))
    async with await Client.connect(kubeconfig=str(tmp_path / "nobody")) as nobody:
        reason, message = await refused(nobody, run)
    assert (reason, "cannot create resource" in message) == (RunReason.FORBIDDEN, True)


async def test_in_a_namespace_that_is_being_deleted_nothing_is_created_and_nothing_said(
    run: RunRef, client: Client, kubectl: Kubectl
) -> None:
    kubectl("delete", "namespace", run.namespace, "--wait=false")
    assert await create(client, run) == Creation()
    assert await client.list(resource=JOBS, namespace=run.namespace) == []
