"""The CRDs on a real apiserver: what it accepts, what it refuses with which words, and what kubectl shows."""

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbt_operator.api.commands import Stage
from dbt_operator.api.conditions import run_conditions
from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import (
    Counts,
    DbtInfo,
    DbtModelSpec,
    DbtModelStatus,
    DbtRunStatus,
    ListedTest,
    ModelAttempt,
    ModelBatches,
    ModelTest,
    ModelTests,
    NodeCounts,
    RunArtifacts,
    RunAttempt,
    RunDefaults,
    RunFailure,
    RunOutput,
    RunProject,
    Severity,
    SourceFreshness,
)
from tests.api import Api
from tests.conftest import Kubectl
from tests.contract.crd_copies import RUN_SPEC, Kind, copy_of, install, remove

START = datetime(2026, 11, 20, 17, 11, 13, 219457, tzinfo=UTC)
MODEL_SPEC = DbtModelSpec(run_name="nightly", unique_id="model.shop.orders", name="orders", resource_type="model")


@pytest.fixture(scope="module")
def kinds(api: Api) -> Iterator[tuple[Kind, Kind]]:
    group = f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"
    runs = install(api, copy_of("dbtruns", group=group, kind="ContractRun"))
    models = install(api, copy_of("dbtmodels", group=group, kind="ContractModel"))
    yield runs, models
    remove(runs)
    remove(models)


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
        {"profile": {"target": "prod"}},
        {"select": ["staging+", "tag:nightly"], "exclude": ["orders"]},
        {"selector": "nightly", "select": [], "exclude": []},
        {"vars": {"day": "2026-11-20", "n": 1, "x": None, "list": [1, {"a": None}]}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "dbt", "env": []}]}}},
        {"imagePullSecrets": [{"name": "a"}, {"name": "b"}], "imagePullPolicy": "Never", "serviceAccountName": "ana"},
        {"threads": 1, "failFast": True, "fullRefresh": True, "command": "build"},
        {
            "resourceTypes": ["model", "test"],
            "excludeResourceTypes": [],
            "indirectSelection": "buildable",
            "warnErrorOptions": {"error": ["all"], "warn": ["Deprecations"]},
            "sample": "3 days",
            "empty": True,
            "eventTimeStart": "2026-11-01",
            "eventTimeEnd": "2026-11-02",
            "storeFailures": True,
            "tests": "AfterAll",
            "args": ["--no-introspect", "--output-keys", "name"],
        },
        {"state": {"runRef": {"name": "prod"}}, "defer": True, "favorState": True},
        {"state": {"runRef": {"selector": {"matchLabels": {"env": "prod"}}, "last": "Ended"}}, "command": "clone"},
        {"state": {"artifactsFrom": {"configMapRef": {"name": "prod"}}}, "command": "ls"},
        {"state": {"artifactsFrom": {"volume": {"source": {"emptyDir": {}}, "path": "prod"}}}},
        {"state": {"artifactsFrom": {"archive": {"secretRef": {"name": "prod", "key": "prod.tgz"}}}}},
        {"supersedes": {"label": "ci/pull-request"}},
        {"command": "run-operation", "runOperation": {"macro": "grant", "args": {"a": [None, 1.5]}}, "warnError": True},
        {
            "command": "ls",
            "storeFailures": False,
            "empty": False,
            "fullRefresh": False,
            "select": [],
            "warnError": False,
        },
        {"command": "snapshot", "sourceFreshness": "SkipStale", "staleParents": "All"},
        {"command": "ls", "sourceFreshness": "Ignore"},
        {"mode": "Async", "async": {"maxInFlight": 300, "priority": "BATCH", "location": "EU"}},
        {"mode": "Async", "async": {"compiledSql": {"objectStorage": "s3://audit/dbt/prod"}}},
        {"command": "clone", "mode": "PerNode", "perNode": {"parallelism": 100, "group": "Path"}},
        {"suspend": True, "cancel": True, "producer": {"maxRestarts": 0}},
        {"producer": {"maxRestarts": 100, "startDeadlineSeconds": 1}},
        {
            "retry": {
                "limit": 0,
                "reasons": [],
                "parallelism": 1,
                "together": 1,
                "backoff": {"factor": 1, "duration": "0s"},
            }
        },
        {"retry": {"limit": 20, "parallelism": 20, "together": 1000, "backoff": {"factor": 10, "max": "24h"}}},
        {"retry": {"reasons": ["Error", "TestsFailed", "CompileError", "PartialSuccess", "ConnectionFailed"]}},
        {"retry": {"reasons": ["DeadlineExceeded"], "podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}},
        {"producer": {"podTemplate": {"metadata": {"annotations": {"a": "b"}}}}, "nodes": []},
        {
            "nodes": [
                {"select": [{"name": "a*", "tag": "x"}, {"resourceType": "unit_test"}], "activeDeadlineSeconds": 1},
                {"select": [{"package": "shop", "path": "models/*"}], "retry": {"backoff": {"max": "1m"}}},
                {"select": [{"tag": "x"}], "podTemplate": {"spec": {"containers": [{"name": "dbt", "env": []}]}}},
            ]
        },
        {"retry": {"backoff": {"duration": "1h30m5s", "factor": 1.5, "max": "86400s"}}},
        {"retry": {"downstream": "PerNode", "concurrencyPolicy": "Forbid"}},
        {"retry": {"downstream": "Together", "concurrencyPolicy": "Allow"}},
    ],
)
def test_a_good_run_is_accepted(runs: Kind, change: dict[str, Any]) -> None:
    runs.made(RUN_SPEC | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"profile": {"inProject": True, "secretRef": {"name": "a"}}},
            "spec.profile: .*: only one of inProject \\(true\\), secretRef, connection and connectionRef can be given",
        ),
        ({"selector": "x", "select": ["a"]}, "spec.selector: .*: selector cannot be combined with select or exclude"),
        ({"selector": "x", "exclude": ["a"]}, "selector cannot be combined with select or exclude"),
        ({"image": ""}, "spec.image: Invalid value"),
        ({"image": "a b"}, "spec.image: Invalid value"),
        ({"project": {}}, "spec.project: .*: exactly one of image, git, archive and volume is required"),
        (
            {"project": {"image": {"path": "/dbt"}, "git": {"url": "https://git.example.com/x"}}},
            "spec.project: .*: exactly one of image, git, archive and volume is required",
        ),
        ({"project": {"git": {"url": "/x.git"}}}, "spec.project.git.url: Invalid value"),
        ({"project": {"git": {"url": "https://me:x@git.example.com/x"}}}, "url has a user or a password in it: name a"),
        ({"project": {"git": {"url": "git@git.example.com:x"}}}, "secretRef is required: ssh needs the keys ssh-priv"),
        (
            {"project": {"git": {"url": "http://git.example.com/x", "secretRef": {"name": "a"}}}},
            "everybody could read what is in secretRef: take https://",
        ),
        (
            {"project": {"git": {"url": "https://git.example.com/x", "ref": {"branch": "a", "tag": "b"}}}},
            "spec.project.git.ref: .*: exactly one of branch, tag and commit is required",
        ),
        ({"project": {"archive": {"url": "https://example.com/x"}}}, "url and sha256 belong together"),
        ({"project": {"archive": {}}}, "exactly one of configMapRef, secretRef and url is required"),
        ({"project": {"volume": {"source": {}}}}, "spec.project.volume.source: Invalid value"),
        ({"project": {"image": {"path": "dbt"}}}, "spec.project.image.path: Invalid value"),
        (
            {"command": "deps"},
            'spec.command: Unsupported value: "deps": supported values: "build", "run", "test", "seed"',
        ),
        ({"command": "test", "fullRefresh": True}, "spec.fullRefresh: .*: fullRefresh is no option of dbt test"),
        ({"command": "parse", "select": ["a"]}, "spec.select: .*: select is no option of dbt parse"),
        ({"command": "docs", "sample": "3 days"}, "spec.sample: .*: sample is no option of dbt docs"),
        ({"command": "run", "storeFailures": True}, "spec.storeFailures: .*: storeFailures is no option of dbt run"),
        ({"command": "seed", "defer": True}, "spec.defer: .*: defer is no option of dbt seed"),
        ({"command": "parse", "state": {"runRef": {"name": "a"}}}, "spec.state: .*: state is of no use to dbt parse"),
        ({"supersedes": {}}, "spec.supersedes.label: Required value"),
        ({"supersedes": {"label": "a b"}}, "spec.supersedes.label: Invalid value"),
        ({"state": {}}, "spec.state: .*: exactly one of runRef and artifactsFrom is required"),
        ({"state": {"runRef": {}}}, "spec.state.runRef: .*: exactly one of name and selector is required"),
        (
            {"state": {"runRef": {"name": "a", "last": "Ended"}}},
            "spec.state.runRef: .*: last says which of the runs that selector matches: it cannot be combined with name",
        ),
        (
            {"state": {"artifactsFrom": {"configMapRef": {"name": "a"}, "volume": {"source": {"emptyDir": {}}}}}},
            "spec.state.artifactsFrom: .*: exactly one of configMapRef, volume and archive is required",
        ),
        ({"command": "test", "tests": "AfterAll"}, "spec.tests: .*: tests cannot be AfterAll for dbt test"),
        ({"tests": "Never"}, 'spec.tests: Unsupported value: "Never": supported values: "Build", "AfterAll", "None"'),
        ({"command": "ls", "threads": 1}, "spec.threads: .*: threads is no option of dbt ls"),
        (
            {"command": "test", "sourceFreshness": "Warn"},
            "spec.sourceFreshness: .*: sourceFreshness is for the commands build, run and snapshot",
        ),
        ({"sourceFreshness": "Skip"}, 'spec.sourceFreshness: Unsupported value: "Skip": supported values: "Ignore"'),
        (
            {"sourceFreshness": "Warn", "staleParents": "All"},
            "spec.staleParents: .*: staleParents is for sourceFreshness: SkipStale",
        ),
        ({"mode": "Producer", "async": {"maxInFlight": 5}}, "spec.async: .*: async is for mode: Async"),
        (
            {"mode": "Threads"},
            'spec.mode: Unsupported value: "Threads": supported values: "Producer", "PerNode", "Async"',
        ),
        ({"command": "docs", "mode": "PerNode"}, "spec.mode: .*: mode cannot be PerNode for dbt docs"),
        ({"perNode": {"parallelism": 0}}, "spec.perNode.parallelism: .* greater than or equal to 1"),
        ({"perNode": {"group": "Folder"}}, 'spec.perNode.group: Unsupported value: "Folder"'),
        ({"mode": "Async", "async": {"priority": "batch"}}, 'spec.async.priority: Unsupported value: "batch"'),
        ({"mode": "Async", "async": {"maxInFlight": 0}}, "spec.async.maxInFlight: .* greater than or equal to 1"),
        (
            {"mode": "Async", "async": {"compiledSql": {"objectStorage": "https://audit"}}},
            'spec.async.compiledSql.objectStorage: Invalid value: "https://audit"',
        ),
        ({"command": "run-operation"}, "spec.runOperation: .*: runOperation is for the command run-operation"),
        ({"runOperation": {"macro": "a"}}, "spec.runOperation: .*: runOperation is for the command run-operation"),
        (
            {"warnError": True, "warnErrorOptions": {"error": ["all"]}},
            "spec.warnErrorOptions: .*: warnError cannot be combined with warnErrorOptions",
        ),
        ({"args": ["-x"]}, "spec.args\\[0\\]: .*: it has to be written as dbt's long option"),
        ({"indirectSelection": "Eager"}, "spec.indirectSelection: Unsupported value"),
        ({"threads": 0}, "spec.threads: Invalid value: 0: .* should be greater than or equal to 1"),
        ({"imagePullPolicy": "Sometimes"}, "spec.imagePullPolicy: Unsupported value"),
        (
            {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]},
            'imagePullSecrets\\[1\\]: Duplicate value: {"name":"a"}',
        ),
        ({"select": [""]}, "spec.select\\[0\\]: Invalid value"),
        ({"select": ["a", "-h"]}, "spec.select\\[1\\]: .*: it begins like an option of dbt, which a selection cannot"),
        (
            {"exclude": ["--empty"]},
            "spec.exclude\\[0\\]: .*: it begins like an option of dbt, which a selection cannot",
        ),
        ({"selector": "-h"}, "spec.selector: .*: it begins like an option of dbt, which the name of a selector cannot"),
        ({"profile": {"inProject": True, "profile": "-h"}}, "spec.profile.profile: .* begins like an option of dbt"),
        ({"profile": {"inProject": True, "target": "-h"}}, "spec.profile.target: .* begins like an option of dbt"),
        ({"pause": True}, 'unknown field "spec.pause"'),
        ({"suspend": "yes"}, 'spec.suspend: Invalid value: "string": .* must be of type boolean'),
        ({"producer": {"maxRestarts": -1}}, "spec.producer.maxRestarts: .* greater than or equal to 0"),
        ({"producer": {"maxRestarts": 101}}, "spec.producer.maxRestarts: .* less than or equal to 100"),
        ({"nodes": [{"select": [], "retry": {}}]}, "spec.nodes\\[0\\].select: .* at least 1 items"),
        ({"nodes": [{"select": [{}], "retry": {}}]}, "spec.nodes\\[0\\].select\\[0\\]: .* at least 1 properties"),
        ({"nodes": [{"select": [{"name": "a"}]}]}, "it says nothing about the nodes that it selects"),
        (
            {"nodes": [{"select": [{"resourceType": "table"}], "retry": {}}]},
            "spec.nodes\\[0\\].select\\[0\\].resourceType: Unsupported value",
        ),
        (
            {"nodes": [{"select": [{"name": "a"}], "activeDeadlineSeconds": 0}]},
            "spec.nodes\\[0\\].activeDeadlineSeconds: .* greater than or equal to 1",
        ),
        ({"retry": {"limit": -1}}, "spec.retry.limit: .* greater than or equal to 0"),
        ({"retry": {"limit": 21}}, "spec.retry.limit: .* less than or equal to 20"),
        (
            {"retry": {"reasons": ["Skipped"]}},
            'spec.retry.reasons\\[0\\]: Unsupported value: "Skipped": supported values: "Error"',
        ),
        ({"retry": {"reasons": ["Error", "Error"]}}, "spec.retry.reasons\\[1\\]: Duplicate value"),
        ({"retry": {"parallelism": 0}}, "spec.retry.parallelism: .* greater than or equal to 1"),
        ({"retry": {"parallelism": 21}}, "spec.retry.parallelism: .* less than or equal to 20"),
        ({"retry": {"together": 0}}, "spec.retry.together: .* greater than or equal to 1"),
        ({"retry": {"together": 1001}}, "spec.retry.together: .* less than or equal to 1000"),
        ({"retry": {"downstream": "Never"}}, 'spec.retry.downstream: .* supported values: "Together", "PerNode"'),
        ({"retry": {"concurrencyPolicy": "Replace"}}, 'spec.retry.concurrencyPolicy: .* "Auto", "Allow", "Forbid"'),
        ({"retry": {"backoff": {"factor": 0.5}}}, "spec.retry.backoff.factor: .* greater than or equal to 1"),
        ({"retry": {"backoff": {"factor": 10.5}}}, "spec.retry.backoff.factor: .* less than or equal to 10"),
        ({"retry": {"backoff": {"duration": ""}}}, "spec.retry.backoff.duration: .* at least 1 chars long"),
        ({"retry": {"backoff": {"duration": "5"}}}, "spec.retry.backoff.duration: .* should match"),
        ({"retry": {"backoff": {"duration": "24h1s"}}}, "spec.retry.backoff.duration: .*: it can be 24h at most"),
        ({"retry": {"backoff": {"max": "1m1h"}}}, "spec.retry.backoff.max: .* should match"),
        ({"retry": {"backoff": {"max": "1441m"}}}, "spec.retry.backoff.max: .*: it can be 24h at most"),
        ({"retry": {"backoff": {"max": f"{'9' * 15}h"}}}, "spec.retry.backoff.max: Invalid value"),
        ({"retry": {"backoff": {"max": f"{'0' * 16}s"}}}, "spec.retry.backoff.max: .* may not be more than 16"),
    ],
)
def test_a_bad_run_is_refused_with_words_that_name_the_field(runs: Kind, change: dict[str, Any], words: str) -> None:
    assert re.search(words, runs.refused(RUN_SPEC | change))


def test_what_defaults_may_give_is_neither_required_nor_filled_in(runs: Kind) -> None:
    own = {"command": "build", "fullRefresh": False, "suspend": False, "cancel": False}
    assert runs.made({})["spec"] == own
    given = {"retry": {"backoff": {}}, "producer": {}, "profile": {"secretRef": {"name": "dwh"}}}
    assert runs.made(given)["spec"] == own | given


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
        tests=tuple(
            ModelTest(unique_id=f"{text}{number}", name=text, depends_on=(text,) * 2) for number in range(1000)
        ),
    )
    models.create(namespace, "large", spec.to_dict())
    models.report(namespace, "large", {"phase": "Running"})
    large = {
        "vars": {f"v{number}": text * 10 for number in range(400)},
        "select": [text] * 1000,
        "exclude": [text] * 1000,
    }
    pod = {"podTemplate": {"spec": {"containers": [{"name": "dbt", "env": [{"name": text, "value": text}] * 2000}]}}}
    runs.create(namespace, "large", RUN_SPEC | large | pod)
    runs.report(namespace, "large", {"startTime": "2026-11-20T17:11:13Z"})
    runs.report(namespace, "large", {"phase": "Running"})
    runs.change(namespace, "large", {"spec": {"suspend": True}})
    answer = runs.change_refused(namespace, "large", {"vars": {"v1": "x"}})
    assert "spec.vars: Forbidden: this can no longer change" in answer


def test_before_the_operator_has_looked_a_model_is_pending_and_a_run_not_done(
    runs: Kind, models: Kind, namespace: str
) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    models.create(namespace, "nightly.orders", MODEL_SPEC.to_dict())
    assert runs.get(namespace, "nightly")["status"] == {"observedGeneration": -1}
    assert models.get(namespace, "nightly.orders")["status"] == {"phase": "Pending"}


def run_status() -> DbtRunStatus:
    """A status with every field set."""
    phase, reason, message = RunPhase.FAILED, RunReason.NODES_FAILED, "1 of 40 nodes failed: orders."
    return DbtRunStatus(
        phase=phase,
        reason=reason,
        message=message,
        conditions=run_conditions(phase=phase, reason=reason, now=START, generation=1, previous=()),
        observed_generation=1,
        start_time=START,
        defaults=RunDefaults(operator={"image": "a", "vars": {}}, namespace={"retry": {"limit": 0}}, problem="none"),
        completion_time=START + timedelta(seconds=92),
        duration="1m28s",
        nodes=NodeCounts(total=40, pending=20, running=3, succeeded=15, skipped=1, failed=1),
        tests=Counts(total=3, succeeded=3),
        failures=(
            RunFailure(
                unique_id="model.shop.orders", name="orders", message="no such column", first_message="deadlock"
            ),
        ),
        project=RunProject(revision="0a1b2c3", commit="0a1b2c3" + "4" * 33),
        dbt=DbtInfo(
            version="1.11.16",
            adapter="duckdb",
            adapter_version="1.10.1",
            target="prod",
            invocation_id="i",
            on_run_end_hooks=0,
            pod_database="/tmp/shop.duckdb",  # noqa: S108 - a path in a pod
        ),
        peak_memory_bytes=123456789,
        retries=1,
        handled_retry="1732122673",
        artifacts=RunArtifacts(config_map="nightly-artifacts", manifest=True),
        output=RunOutput(config_map="nightly-output", files=("catalog.json.gz",)),
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
            RunAttempt(name="nightly-retry-nodes-1", kind=AttemptKind.RETRY, state=AttemptPhase.LOST, nodes=3),
            RunAttempt(
                name="nightly-resume-1", kind=AttemptKind.RESUME, state=AttemptPhase.RUNNING, nodes=2, stage=Stage.TEST
            ),
        ),
    )


def failing_test() -> ListedTest:
    """A test of a model, with every field set."""
    return ListedTest(
        unique_id="test.shop.t",
        name="t",
        message="Got 3 results",
        failures=3,
        relation='"db"."audit"."t"',
        finished_at=START,
        job="nightly-producer-1",
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
        bytes_billed=2**40,
        slot_milliseconds=5,
        cache_hit=False,
        job_id="job",
        batches=ModelBatches(total=30, succeeded=28, failed=1),
        freshness=SourceFreshness(
            status="warn",
            max_loaded_at=START,
            snapshotted_at=START,
            age_seconds=86_400,
            warn_after="1 hour",
            error_after="2 days",
        ),
        tests=ModelTests(
            total=5,
            passed=4,
            warned=0,
            failed=1,
            errored=0,
            skipped=0,
            failing=(failing_test(),),
            warning=(failing_test(),),
        ),
        tries=2,
        handled_retry="1732122673",
        attempts=(
            ModelAttempt(
                kind=AttemptKind.PRODUCER,
                job="nightly-producer-1",
                phase=NodePhase.FAILED,
                message="m",
                started_at=START,
                finished_at=START,
            ),
            ModelAttempt(kind=AttemptKind.RETRY, job="nightly-retry-nodes-1", phase=NodePhase.FAILED),
        ),
    )


def test_every_field_of_a_status_is_stored_as_it_was_written(runs: Kind, models: Kind, namespace: str) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.report(namespace, "nightly", run_status().to_dict())
    assert runs.get(namespace, "nightly")["status"] == run_status().to_dict()
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
        tests=(
            ModelTest(
                unique_id="test.shop.t",
                name="t",
                severity=Severity.WARN,
                warn_if="> 1",
                error_if="> 10",
                depends_on=("model.shop.b",),
            ),
        ),
    )
    models.create(namespace, "nightly.orders", spec.to_dict())
    models.report(namespace, "nightly.orders", model_status().to_dict())
    stored = models.get(namespace, "nightly.orders")
    assert stored["spec"] == spec.to_dict()
    assert stored["status"] == model_status().to_dict()


def test_the_nodes_of_a_run_are_selected_by_its_name_however_long_that_is(models: Kind, namespace: str) -> None:
    spec = {"uniqueId": "model.shop.orders", "name": "orders", "resourceType": "model"}
    mine = "n" * 200  # a label's value has room for 63 characters
    for name, run in (("mine", mine), ("other", mine[:-1])):
        models.create(namespace, name, {**spec, "runName": run})
    found = models.api.get_at(f"{models.path(namespace)}?fieldSelector=spec.runName={mine}")["items"]
    assert [model["metadata"]["name"] for model in found] == ["mine"]


def columns(table: str) -> list[list[str]]:
    """The cells of kubectl's table, without the age."""
    return [re.split(r" {2,}", line.strip()) for line in table.splitlines()]


def test_kubectl_shows_the_columns(runs: Kind, models: Kind, kubectl: Kubectl, namespace: str) -> None:
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.report(namespace, "nightly", run_status().to_dict())
    header, row = columns(kubectl("get", "-n", namespace, runs.resource))
    assert header == ["NAME", "PHASE", "NODES", "FAILED", "RETRIES", "DURATION", "AGE"]
    assert row[:-1] == ["nightly", "Failed", "17/40", "1", "1", "1m28s"]
    header, row = columns(kubectl("get", "-n", namespace, runs.resource, "-o", "wide"))
    assert header[7:] == ["REASON", "MESSAGE", "ADAPTER", "TARGET", "REVISION"]
    assert row[7:] == ["NodesFailed", "1 of 40 nodes failed: orders.", "duckdb", "prod", "0a1b2c3"]

    spec = MODEL_SPEC.to_dict() | {"materialized": "table", "relation": '"dev"."main"."orders"'}
    models.create(namespace, "nightly.orders", spec)
    models.report(namespace, "nightly.orders", model_status().to_dict())
    header, row = columns(kubectl("get", "-n", namespace, models.resource))
    assert header == ["NAME", "RUN", "TYPE", "PHASE", "TESTS", "TRIES", "SECONDS", "ROWS", "AGE"]
    assert row[:-1] == ["nightly.orders", "nightly", "model", "Failed", "4/5", "2", "0.05", "99"]
    header, row = columns(kubectl("get", "-n", namespace, models.resource, "-o", "wide"))
    assert header[9:] == ["REASON", "MESSAGE", "BATCHES", "EXECUTOR", "MATERIALIZED", "RELATION"]
    assert row[9:] == ["TestsFailed", "INSERT 99", "28/30", "table", '"dev"."main"."orders"']


def test_kubectl_waits_for_the_end_of_a_run(runs: Kind, kubectl: Kubectl, namespace: str) -> None:
    wait = ("wait", "-n", namespace, f"{runs.resource}/nightly", "--timeout=3s")
    ended = "--for=jsonpath={.status.completionTime}"
    runs.create(namespace, "nightly", RUN_SPEC)
    kubectl.refused(*wait, ended)
    runs.report(namespace, "nightly", run_status().to_dict())
    kubectl(*wait, ended)
    kubectl(*wait, "--for=condition=Failed")
    kubectl.refused(*wait, "--for=condition=Complete")


def objects(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object below a schema that has fields, with its path as `kubectl explain` takes it."""
    schema = schema.get("items", schema)
    if "properties" in schema:
        yield path, schema["properties"]
    for name, each in schema.get("properties", {}).items():
        yield from objects(each, f"{path}.{name}")


def words(text: str) -> str:
    """Without its lines, which kubectl breaks as it likes."""
    return " ".join(text.split())


def test_kubectl_explains_every_field(runs: Kind, models: Kind, kubectl: Kubectl) -> None:
    # What kubectl explains is what the API server publishes: one answer with all fields, and what kubectl makes of it.
    answer = json.loads(kubectl("get", "--raw", f"/openapi/v3/apis/{runs.group}/v1alpha1"))
    published = answer["components"]["schemas"]
    for kind in (runs, models):
        (schema,) = (each for name, each in published.items() if name.endswith(f".{kind.kind}"))
        explained = dict(objects(schema, kind.plural))
        for path, fields in objects(kind.schema, kind.plural):
            for name, field in fields.items():
                text = explained[path][name].get("description", "")
                assert text == field.get("description", text), f"{path}.{name}"
        for path in (f"{kind.plural}.spec", f"{kind.plural}.status"):
            shown = words(kubectl("explain", path, f"--api-version={kind.group}/v1alpha1"))
            for name, field in explained[path].items():
                assert f" {name} <" in shown, f"{path}.{name}"
                assert words(field["description"]) in shown, f"{path}.{name}"
