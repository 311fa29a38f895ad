"""`kubectl describe` says once what happened: in the message, and for each node in the failures."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import DbtModelSpec
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import NodeView, Tally
from dbt_operator.kube.client import Client
from dbt_operator.plan.attempt import Assessment, Life
from dbt_operator.plan.observation import Plan
from dbt_operator.reconcile.announce import Announcer
from dbt_operator.reconcile.objects import Tried, model_status
from dbt_operator.reconcile.observe import run_ref
from dbt_operator.reconcile.run_status import run_record, run_status
from tests.api import Api
from tests.conftest import Kubectl
from tests.contract.backends import backend_of
from tests.contract.crd_copies import RUN_SPEC, Kind, copy_of, install, remove
from tests.unit.plan import given

ERROR = "Database Error in model orders (models/orders.sql)\n  column shop.price does not exist"
ORDERS = NodeView(
    unique_id="model.shop.orders",
    name="orders",
    resource_type="model",
    phase=NodePhase.FAILED,
    reason=NodeReason.ERROR,
    message=ERROR,
    started_at=given.NOW,
    finished_at=given.NOW,
)
ENDS = [
    (RunPhase.FAILED, RunReason.NODES_FAILED, "1 of 40 nodes failed: orders (no such column); 3 were skipped for it."),
    (RunPhase.FAILED, RunReason.IMAGE_PULL_FAILED, "The image registry/dbt:1 could not be pulled: not found."),
    (RunPhase.CANCELLED, RunReason.CANCELLED, "The run was cancelled when 17 of 40 nodes had ended."),
    (RunPhase.SUCCEEDED, RunReason.SUCCEEDED_WITH_WARNINGS, "40 nodes were built; 2 tests warned."),
]


@pytest.fixture(scope="module")
def group() -> str:
    return f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"


@pytest.fixture(scope="module")
def runs(api: Api, group: str) -> Iterator[Kind]:
    kind = install(api, copy_of("dbtruns", group=group, kind="DescribedRun"))
    yield kind
    remove(kind)


@pytest.fixture(scope="module")
def models(api: Api, group: str) -> Iterator[Kind]:
    kind = install(api, copy_of("dbtmodels", group=group, kind="DescribedModel"))
    yield kind
    remove(kind)


def plan(phase: RunPhase, reason: RunReason, message: str) -> Plan:
    attempt = given.attempt(created=True)
    assessment = Assessment(attempt, Life.RUNNING, RunReason.EXECUTING, "dbt is executing nodes.")
    return Plan(
        start=False,
        assessments=(assessment,),
        history=History(attempts=(assessment.state,)),
        phase=phase,
        reason=reason,
        message=message,
        wake_at=given.NOW,
    )


def status_of(shown: Plan, *, before: dict[str, Any]) -> dict[str, Any]:
    record = run_record({"status": before})
    return run_status(
        plan=shown,
        record=record,
        conditions=record.conditions,
        tally=Tally([ORDERS]),
        artifacts=None,
        output=None,
        handled_retry=None,
        generation=1,
        now=given.NOW,
    ).to_dict()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end[1].value)
async def test_what_happened_to_a_run_is_said_once(
    runs: Kind, client: Client, kubectl: Kubectl, namespace: str, end: tuple[RunPhase, RunReason, str]
) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    announcer = Announcer(backend=backend_of(run_ref(runs.get(namespace, "nightly")), client))
    status: dict[str, Any] = {}
    for shown in (plan(RunPhase.RUNNING, RunReason.EXECUTING, "dbt is executing nodes."), plan(*end)):
        announcer.look(runs.get(namespace, "nightly"))
        status = status_of(shown, before=status)
        runs.report(namespace, "nightly", status)
        announcer.moved(shown, now=given.NOW + timedelta(seconds=9))
    announcer.node_failed(ORDERS)
    await asyncio.gather(*announcer._background)
    described = await asyncio.to_thread(kubectl, "describe", "-n", namespace, f"{runs.resource}/nightly")
    _phase, reason, message = end
    assert described.count(message) == 1
    assert described.count("column shop.price does not exist") == 1
    _, events = described.split("\nEvents:\n")
    assert reason.value in events
    assert f"{ORDERS.unique_id} failed (Error)." in events


def test_what_dbt_said_of_a_node_is_said_once(models: Kind, kubectl: Kubectl, namespace: str) -> None:
    spec = DbtModelSpec(run_name="nightly", unique_id=ORDERS.unique_id, name="orders", resource_type="model")
    models.create(namespace, "nightly.orders", spec.to_dict())
    earlier = structs.replace(ORDERS, message="deadlock detected")
    tried = [
        Tried(AttemptKind.PRODUCER, "nightly-producer-1", earlier),
        Tried(AttemptKind.RETRY, "nightly-retry-1", ORDERS),
    ]
    models.report(
        namespace,
        "nightly.orders",
        model_status(
            view=ORDERS, tried=tried, jobs=[(each.kind, each.job) for each in tried], handled_retry=None
        ).to_dict(),
    )
    described = kubectl("describe", "-n", namespace, f"{models.resource}/nightly.orders")
    assert described.count("column shop.price does not exist") == 1
    assert described.count("deadlock detected") == 1
