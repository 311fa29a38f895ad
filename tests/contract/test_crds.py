"""The CRDs on a real apiserver: what it accepts, what it refuses with which words, and what kubectl shows.

The CRDs are installed as copies in a group of this session's own, under other names. So these tests disturb neither
an operator that runs in the cluster nor the CRDs that another checkout has installed in it, and a live operator does
not write into their objects.
"""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from dbt_operator.api.conditions import run_conditions
from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import (
    Counts,
    DbtInfo,
    DbtModelSpec,
    DbtModelStatus,
    DbtRunStatus,
    FailingTest,
    ModelAttempt,
    ModelTest,
    ModelTests,
    RunAttempt,
    RunFailure,
    Severity,
)
from tests.conftest import CHECKOUT, Kubectl

START = datetime(2026, 11, 20, 17, 11, 13, 219457, tzinfo=UTC)
RUN_SPEC: dict[str, Any] = {
    "image": "registry/dbt:1",
    "project": {"image": {"path": "/dbt"}},
    "profile": {"secretRef": {"name": "dwh"}},
}
MODEL_SPEC = DbtModelSpec(run_name="nightly", unique_id="model.shop.orders", name="orders", resource_type="model")


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the CRDs under the names that it has in these tests."""

    kubectl: Kubectl
    group: str
    kind: str
    plural: str
    schema: dict[str, Any]

    @property
    def resource(self) -> str:
        return f"{self.plural}.{self.group}"

    def manifest(self, name: str, spec: dict[str, Any]) -> str:
        metadata = {"name": name}
        version = f"{self.group}/v1alpha1"
        return json.dumps({"apiVersion": version, "kind": self.kind, "metadata": metadata, "spec": spec})

    def create(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        self.kubectl("create", "-n", namespace, "-f", "-", stdin=self.manifest(name, spec))

    def patch(self, namespace: str, name: str, patch: dict[str, Any]) -> tuple[str, ...]:
        """The arguments of a patch of spec or metadata."""
        return ("patch", "-n", namespace, self.resource, name, "--type=merge", "-p", json.dumps(patch))

    def report(self, namespace: str, name: str, status: dict[str, Any]) -> None:
        self.kubectl(*self.patch(namespace, name, {"status": status}), "--subresource=status")


def install(kubectl: Kubectl, *, plural: str, group: str, kind: str) -> Kind:
    """Install a copy of one of the CRDs."""
    crd = yaml.safe_load((CHECKOUT / "crds" / f"{plural}.yaml").read_text())
    own = kind.lower() + "s"
    crd["metadata"]["name"] = f"{own}.{group}"
    crd["spec"]["group"] = group
    # Other names too: kubectl remembers for hours what it once found under a short name such as dbtruns.
    crd["spec"]["names"] = {"kind": kind, "plural": own}
    kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(crd))
    kubectl("wait", "--for=condition=Established", f"crd/{own}.{group}", "--timeout=30s")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return Kind(kubectl=kubectl, group=group, kind=kind, plural=own, schema=schema)


@pytest.fixture(scope="module")
def kinds(kubectl: Kubectl) -> Iterator[tuple[Kind, Kind]]:
    group = f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"
    runs = install(kubectl, plural="dbtruns", group=group, kind="ContractRun")
    models = install(kubectl, plural="dbtmodels", group=group, kind="ContractModel")
    yield runs, models
    kubectl("delete", "crd", runs.resource, models.resource, "--wait=false")


@pytest.fixture
def runs(kinds: tuple[Kind, Kind]) -> Kind:
    return kinds[0]


@pytest.fixture
def models(kinds: tuple[Kind, Kind]) -> Kind:
    return kinds[1]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"profile": {"inProject": True, "profile": "shop", "target": "prod"}},
        {"profile": {"inProject": False, "secretRef": {"name": "dwh", "key": "p.yml"}}},
        {"select": ["staging+", "tag:nightly"], "exclude": ["orders"]},
        {"selector": "nightly", "select": [], "exclude": []},
        {"vars": {"day": "2026-11-20", "n": 1, "x": None, "list": [1, {"a": None}]}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "dbt", "env": []}]}}},
        {"imagePullSecrets": [{"name": "a"}, {"name": "b"}], "imagePullPolicy": "Never", "serviceAccountName": "ana"},
        {"threads": 1, "failFast": True, "fullRefresh": True, "command": "build"},
    ],
)
def test_a_good_run_is_accepted(runs: Kind, change: dict[str, Any]) -> None:
    manifest = runs.manifest("good", RUN_SPEC | change)
    runs.kubectl("create", "-n", "default", "--dry-run=server", "-f", "-", stdin=manifest)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"profile": {}},
            "spec.profile: Invalid value: .*: exactly one of inProject \\(true\\) and secretRef is required",
        ),
        ({"profile": {"inProject": False}}, "exactly one of inProject \\(true\\) and secretRef is required"),
        (
            {"profile": {"inProject": True, "secretRef": {"name": "a"}}},
            "exactly one of inProject \\(true\\) and secretRef",
        ),
        ({"selector": "x", "select": ["a"]}, "spec.selector: .*: selector cannot be combined with select or exclude"),
        ({"selector": "x", "exclude": ["a"]}, "selector cannot be combined with select or exclude"),
        ({"image": ""}, "spec.image: Invalid value"),
        ({"image": "a b"}, "spec.image: Invalid value"),
        ({"project": {}}, "spec.project.image: Required value"),
        ({"project": {"image": {"path": "dbt"}}}, "spec.project.image.path: Invalid value"),
        ({"command": "run"}, 'spec.command: Unsupported value: "run": supported values: "build"'),
        ({"threads": 0}, "spec.threads: Invalid value: 0: .* should be greater than or equal to 1"),
        ({"imagePullPolicy": "Sometimes"}, "spec.imagePullPolicy: Unsupported value"),
        (
            {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]},
            'imagePullSecrets\\[1\\]: Duplicate value: {"name":"a"}',
        ),
        ({"select": [""]}, "spec.select\\[0\\]: Invalid value"),
        ({"suspend": True}, 'unknown field "spec.suspend"'),
    ],
)
def test_a_bad_run_is_refused_with_words_that_name_the_field(runs: Kind, change: dict[str, Any], words: str) -> None:
    manifest = runs.manifest("bad", RUN_SPEC | change)
    assert re.search(
        words, runs.kubectl.refused("create", "-n", "default", "--dry-run=server", "-f", "-", stdin=manifest)
    )


@pytest.mark.parametrize("missing", ["image", "project", "profile"])
def test_what_is_required_of_a_run_is_named(runs: Kind, missing: str) -> None:
    manifest = runs.manifest("bad", {key: value for key, value in RUN_SPEC.items() if key != missing})
    answer = runs.kubectl.refused("create", "-n", "default", "--dry-run=server", "-f", "-", stdin=manifest)
    assert f"spec.{missing}: Required value" in answer


def test_a_spec_may_change_until_the_run_has_started_and_not_after(runs: Kind, namespace: str) -> None:
    pod = {"nodeSelector": {"a": "b"}}
    runs.create(namespace, "nightly", RUN_SPEC | {"vars": {"a": {"b": [1]}}, "podTemplate": {"spec": pod}})
    runs.kubectl(*runs.patch(namespace, "nightly", {"spec": {"threads": 4}}))
    runs.report(namespace, "nightly", {"phase": "Pending"})
    runs.kubectl(*runs.patch(namespace, "nightly", {"spec": {"threads": 5}}))
    runs.report(namespace, "nightly", {"startTime": "2026-11-20T17:11:13.219457Z"})
    changes: tuple[dict[str, Any], ...] = (
        {"threads": 6},
        {"threads": None},
        {"profile": {"secretRef": {"name": "other"}}},
        # Free-form parts are the ones that CEL overlooks most easily: a new value, a renamed key, deep and shallow.
        {"vars": {"a": {"b": [2]}}},
        {"vars": {"a": {"b": None, "c": [1]}}},
        {"vars": {"a": None, "z": {"b": [1]}}},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "c"}}}},
        {"podTemplate": {"spec": {"nodeSelector": None, "tolerations": []}}},
        {"podTemplate": None},
        {"podTemplate": {"spec": {"nodeSelector": {"a": None, "z": "b"}}}, "cancel": True},
        {"activeDeadlineSeconds": 60},
        {"producer": {"startDeadlineSeconds": 60}},
        {"threads": 6, "cancel": True},
    )
    for change in changes:
        answer = runs.kubectl.refused(*runs.patch(namespace, "nightly", {"spec": change}))
        assert "the run has started (status.startTime is set), so its spec can no longer change" in answer, change
    runs.kubectl(*runs.patch(namespace, "nightly", {"spec": {"cancel": True, "ttlSecondsAfterFinished": 3}}))
    runs.kubectl(*runs.patch(namespace, "nightly", {"spec": {"ttlSecondsAfterFinished": None}}))
    runs.kubectl(*runs.patch(namespace, "nightly", {"metadata": {"labels": {"team": "a"}}}))
    runs.report(namespace, "nightly", {"phase": "Running"})


def test_a_model_never_changes_what_it_is(models: Kind, namespace: str) -> None:
    models.create(namespace, "nightly.orders", MODEL_SPEC.to_dict())
    for change in ({"name": "x"}, {"dependsOn": ["model.shop.a"]}, {"tags": ["a"]}):
        answer = models.kubectl.refused(*models.patch(namespace, "nightly.orders", {"spec": change}))
        assert "the spec of a DbtModel says what dbt selected when the run began; it can never change" in answer
    models.report(namespace, "nightly.orders", {"phase": "Running"})


def test_the_largest_objects_can_be_stored_and_updated(runs: Kind, models: Kind, namespace: str) -> None:
    # The cost of CEL grows with the object: a rule that is too dear would refuse every later status of a large one.
    text = "x" * 120
    spec = DbtModelSpec(
        run_name="nightly",
        unique_id="model.shop.orders",
        name="orders",
        resource_type="model",
        tags=(text,) * 200,
        depends_on=tuple(f"{text}{number}" for number in range(5000)),
        tests=tuple(ModelTest(unique_id=f"{text}{number}", name=text) for number in range(1000)),
    )
    models.create(namespace, "large", spec.to_dict())
    models.report(namespace, "large", {"phase": "Running"})
    large = {
        "vars": {f"v{number}": text * 10 for number in range(400)},
        "select": [text] * 1000,
        "exclude": [text] * 1000,
    }
    runs.create(namespace, "large", RUN_SPEC | large)
    runs.report(namespace, "large", {"startTime": "2026-11-20T17:11:13Z"})
    runs.report(namespace, "large", {"phase": "Running"})


def test_before_the_operator_has_looked_a_model_is_pending_and_a_run_not_done(
    runs: Kind, models: Kind, namespace: str
) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    models.create(namespace, "nightly.orders", MODEL_SPEC.to_dict())
    get = ("get", "-n", namespace)
    assert runs.kubectl.json(*get, runs.resource, "nightly")["status"] == {"observedGeneration": -1}
    assert models.kubectl.json(*get, models.resource, "nightly.orders")["status"] == {"phase": "Pending"}


def run_status() -> DbtRunStatus:
    """A status with every field set."""
    phase, reason, message = RunPhase.FAILED, RunReason.NODES_FAILED, "1 of 40 nodes failed: orders."
    return DbtRunStatus(
        phase=phase,
        reason=reason,
        message=message,
        conditions=run_conditions(phase=phase, reason=reason, message=message, now=START, generation=1, previous=()),
        observed_generation=1,
        start_time=START,
        completion_time=START + timedelta(seconds=92),
        nodes=Counts(total=40, pending=20, running=3, succeeded=15, skipped=1, failed=1),
        tests=Counts(total=3, succeeded=3),
        failures=(RunFailure(unique_id="model.shop.orders", name="orders", message="no such column"),),
        dbt=DbtInfo(version="1.11.16", adapter="duckdb", adapter_version="1.10.1", target="prod", invocation_id="i"),
        peak_memory_bytes=123456789,
        attempts=(
            RunAttempt(
                name="nightly-producer-1",
                kind=AttemptKind.PRODUCER,
                state=AttemptPhase.FAILED,
                reason=reason,
                start_time=START,
                completion_time=START,
                pod="nightly-producer-1-abcde",
                exit_code=1,
                log_time="2026-11-20T17:11:13.219457123Z",
            ),
        ),
    )


def model_status() -> DbtModelStatus:
    """A status with every field set."""
    return DbtModelStatus(
        phase=NodePhase.FAILED,
        reason=NodeReason.TESTS_FAILED,
        message="INSERT 99",
        blocked_by="model.shop.a",
        started_at=START,
        finished_at=START,
        execution_seconds=0.0512,
        rows_affected=99,
        bytes_processed=2**40,
        job_id="job",
        tests=ModelTests(
            total=5,
            passed=4,
            warned=0,
            failed=1,
            errored=0,
            skipped=0,
            failing=(FailingTest(unique_id="test.shop.t", name="t", message="Got 3 results", failures=3),),
        ),
        tries=1,
        attempts=(
            ModelAttempt(
                kind=AttemptKind.PRODUCER,
                job="nightly-producer-1",
                phase=NodePhase.FAILED,
                message="m",
                started_at=START,
                finished_at=START,
            ),
        ),
    )


def test_every_field_of_a_status_is_stored_as_it_was_written(runs: Kind, models: Kind, namespace: str) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.report(namespace, "nightly", run_status().to_dict())
    assert runs.kubectl.json("get", "-n", namespace, runs.resource, "nightly")["status"] == run_status().to_dict()
    spec = DbtModelSpec(
        run_name="nightly",
        unique_id="model.shop.orders",
        name="orders",
        resource_type="model",
        package="shop",
        path="models/orders.sql",
        materialized="table",
        relation='"dev"."main"."orders"',
        tags=("nightly",),
        depends_on=("model.shop.a",),
        tests=(ModelTest(unique_id="test.shop.t", name="t", severity=Severity.WARN),),
    )
    models.create(namespace, "nightly.orders", spec.to_dict())
    models.report(namespace, "nightly.orders", model_status().to_dict())
    stored = models.kubectl.json("get", "-n", namespace, models.resource, "nightly.orders")
    assert stored["spec"] == spec.to_dict()
    assert stored["status"] == model_status().to_dict()


def columns(table: str) -> list[list[str]]:
    """The cells of kubectl's table, without the age."""
    return [re.split(r" {2,}", line.strip()) for line in table.splitlines()]


def test_kubectl_shows_the_columns(runs: Kind, models: Kind, namespace: str) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.report(namespace, "nightly", run_status().to_dict())
    header, row = columns(runs.kubectl("get", "-n", namespace, runs.resource))
    assert header == ["NAME", "PHASE", "NODES", "FAILED", "DURATION", "AGE"]
    assert row[:-1] == ["nightly", "Failed", "17/40", "1", "1m32s"]
    header, row = columns(runs.kubectl("get", "-n", namespace, runs.resource, "-o", "wide"))
    assert header[6:] == ["REASON", "ADAPTER", "TARGET", "MESSAGE"]
    assert row[6:] == ["NodesFailed", "duckdb", "prod", "1 of 40 nodes failed: orders."]

    spec = MODEL_SPEC.to_dict() | {"materialized": "table", "relation": '"dev"."main"."orders"'}
    models.create(namespace, "nightly.orders", spec)
    models.report(namespace, "nightly.orders", model_status().to_dict())
    header, row = columns(models.kubectl("get", "-n", namespace, models.resource))
    assert header == ["NAME", "RUN", "TYPE", "PHASE", "TESTS", "TRIES", "SECONDS", "ROWS", "AGE"]
    assert row[:-1] == ["nightly.orders", "nightly", "model", "Failed", "4/5", "1", "0.05", "99"]
    header, row = columns(models.kubectl("get", "-n", namespace, models.resource, "-o", "wide"))
    assert header[9:] == ["MATERIALIZED", "RELATION", "REASON", "MESSAGE"]
    assert row[9:] == ["table", '"dev"."main"."orders"', "TestsFailed", "INSERT 99"]


def test_kubectl_waits_for_the_end_of_a_run(runs: Kind, namespace: str) -> None:
    wait = ("wait", "-n", namespace, f"{runs.resource}/nightly", "--timeout=3s")
    ended = "--for=jsonpath={.status.completionTime}"
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.kubectl.refused(*wait, ended)
    runs.report(namespace, "nightly", run_status().to_dict())
    runs.kubectl(*wait, ended)
    runs.kubectl(*wait, "--for=condition=Failed")
    runs.kubectl.refused(*wait, "--for=condition=Complete")


def objects(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object below a schema that has fields, with its path as `kubectl explain` takes it."""
    schema = schema.get("items", schema)
    if "properties" in schema:
        yield path, schema["properties"]
    for name, each in schema.get("properties", {}).items():
        yield from objects(each, f"{path}.{name}")


def test_kubectl_explains_every_field(runs: Kind, models: Kind) -> None:
    for kind in (runs, models):
        for path, fields in objects(kind.schema, kind.plural):
            answer = kind.kubectl("explain", path, f"--api-version={kind.group}/v1alpha1")
            shown = " ".join(answer.split())
            for name, field in fields.items():
                assert f" {name} <" in shown, f"{path}.{name}"
                assert " ".join(field.get("description", "").split()) in shown, f"{path}.{name}"
