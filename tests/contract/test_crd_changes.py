"""Which changes of a stored DbtRun or DbtModel a real apiserver accepts, and with which words it refuses others."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from dbt_operator.api.status import DbtModelSpec
from tests.api import Api
from tests.contract.crd_copies import RUN_SPEC, Kind, copy_of, install, remove, until

# What a started run is made with here, and for each field other values that it might be given.
NODES: dict[str, Any] = {
    "select": [{"name": "a*"}],
    "podTemplate": {"spec": {"nodeSelector": {"a": "b"}}},
    "activeDeadlineSeconds": 60,
}
FULL_SPEC: dict[str, Any] = RUN_SPEC | {
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "a"}],
    "serviceAccountName": "ana",
    "select": ["a"],
    "exclude": ["b"],
    "vars": {"a": {"b": [1]}, "n": 1},
    "fullRefresh": True,
    "threads": 4,
    "failFast": False,
    "resourceTypes": ["model"],
    "indirectSelection": "cautious",
    "warnErrorOptions": {"error": ["all"], "warn": ["Deprecations"]},
    "args": ["--no-partial-parse"],
    "podTemplate": {"spec": {"nodeSelector": {"a": "b"}}},
    "producer": {"startDeadlineSeconds": 60},
    "retry": {"limit": 2},
    "nodes": [NODES],
    "activeDeadlineSeconds": 60,
    "ttlSecondsAfterFinished": 60,
}
CLOSED: dict[str, tuple[Any, ...]] = {
    "project": ({"image": {"path": "/other"}}, None),
    "profile": ({"secretRef": {"name": "other"}}, {"secretRef": {"key": "p.yml"}}, {"target": "dev"}, None),
    "environment": ({"virtualenv": {"requirements": ["dbt-core"]}}, {}),
    "imagePullSecrets": ([], None),
    "deps": ("Never",),
    "parseCache": ({"persistentVolumeClaim": {"claimName": "parses"}},),
    "serviceAccountName": ("bob", None),
    "select": (["a", "b"], [], None),
    "exclude": (["c"], None),
    "selector": ("nightly",),
    # Free-form parts are the ones that CEL overlooks most easily: a new value, a renamed key, deep and shallow.
    "vars": (
        {"a": {"b": [2]}},
        {"a": {"b": None, "c": [1]}},
        {"a": None, "z": {"b": [1]}},
        {"n": "1"},
        {"x": 1},
        None,
    ),
    "fullRefresh": (False, None),
    "threads": (5, None),
    "failFast": (True, None),
    "resourceTypes": (["model", "seed"], None),
    "excludeResourceTypes": (["test"],),
    "indirectSelection": ("empty", None),
    "warnErrorOptions": ({"warn": ["NothingToDo"]}, {"silence": ["NothingToDo"]}, None),
    "warnError": (True,),
    "sample": ("3 days",),
    "empty": (True,),
    "eventTimeStart": ("2026-11-01",),
    "eventTimeEnd": ("2026-11-02",),
    "defer": (True,),
    "favorState": (True,),
    "state": ({"runRef": {"name": "prod"}}, {"artifactsFrom": {"configMapRef": {"name": "prod"}}}),
    "storeFailures": (True,),
    "tests": ("AfterAll", "None"),
    "mode": ("Async", "PerNode"),
    "perNode": ({"parallelism": 5}, {"group": "Tag"}),
    "async": ({"maxInFlight": 5}, {"compiledSql": {"objectStorage": "gs://audit"}}),
    "sourceFreshness": ("Warn", "SkipStale"),
    "staleParents": ("All",),
    "args": (["--no-introspect"], [], None),
    "podTemplate": (
        {"spec": {"nodeSelector": {"a": "c"}}},
        {"spec": {"nodeSelector": None, "tolerations": []}},
        {"spec": {"nodeSelector": {"a": None, "z": "b"}}},
        {"metadata": {"labels": {"a": "b"}}},
        None,
    ),
    "producer": (
        {"startDeadlineSeconds": 61},
        {"maxRestarts": 4},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}},
        None,
    ),
    "retry": (
        {"limit": 3},
        {"backoff": {"duration": "11s"}},
        {"reasons": ["Error", "TestsFailed"]},
        {"podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}},
        None,
    ),
    # A list is replaced as a whole.
    "nodes": (
        [],
        [NODES, NODES],
        [NODES | {"activeDeadlineSeconds": 61}],
        [NODES | {"select": [{"tag": "large"}]}],
        [NODES | {"podTemplate": {"spec": {"nodeSelector": {"a": "c"}}}}],
        [NODES | {"podTemplate": {"spec": {"nodeSelector": {"z": "b"}}}}],
        None,
    ),
    "activeDeadlineSeconds": (61, None),
    "supersedes": ({"label": "ci/pull-request"},),
}
LATE: dict[str, tuple[Any, ...]] = {"image": ("registry/dbt:2", None), "imagePullPolicy": ("Never", None)}
OPEN: dict[str, tuple[Any, ...]] = {
    "suspend": (True, False),
    "cancel": (True, False),
    "ttlSecondsAfterFinished": (5, None, 0),
}
# What goes where the field is set for the first time.
APART: dict[str, dict[str, Any]] = {
    "selector": {"select": None, "exclude": None},
    "warnError": {"warnErrorOptions": None},
}
# These change together, and other fields with them.
COMMAND = {"command", "runOperation"}


def cases(table: dict[str, tuple[Any, ...]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


@pytest.fixture(scope="module")
def runs(api: Api) -> Iterator[Kind]:
    kind = install(api, copy_of("dbtruns", group=f"t{uuid.uuid4().hex[:8]}.dbt-operator.io", kind="ChangedRun"))
    yield kind
    remove(kind)


@pytest.fixture
def models(api: Api) -> Iterator[Kind]:
    kind = install(api, copy_of("dbtmodels", group=f"t{uuid.uuid4().hex[:8]}.dbt-operator.io", kind="ChangedModel"))
    yield kind
    remove(kind)


def start(runs: Kind, namespace: str, *, phase: str) -> None:
    """Make a run that has started, or ended, with every field that can be given."""
    runs.create(namespace, "nightly", FULL_SPEC)
    runs.report(namespace, "nightly", {"startTime": "2026-11-20T17:11:13.219457Z", "phase": phase})


def test_every_field_of_the_spec_is_open_late_or_closed(runs: Kind) -> None:
    fields = set(runs.schema["properties"]["spec"]["properties"])
    assert fields == {*CLOSED, *LATE, *OPEN, *COMMAND}
    ruled = {rule["fieldPath"] for rule in runs.schema["x-kubernetes-validations"]}
    assert ruled == {".spec", *(f".spec.{field}" for field in {*CLOSED, *LATE, *COMMAND})}


def test_until_the_run_has_started_everything_may_change(runs: Kind, namespace: str) -> None:
    runs.create(namespace, "nightly", FULL_SPEC)
    runs.report(namespace, "nightly", {"phase": "Pending"})
    for field, value in cases(CLOSED | LATE | OPEN):
        change = {field: value} | APART.get(field, {})
        runs.change_accepted(namespace, "nightly", change)


@pytest.mark.parametrize("phase", ["Running", "Failed"])
def test_what_is_closed_by_the_start_stays_closed_also_after_the_end(runs: Kind, namespace: str, phase: str) -> None:
    start(runs, namespace, phase=phase)
    for field, value in cases(CLOSED):
        answer = runs.change_refused(namespace, "nightly", {field: value})
        assert f"spec.{field}: Forbidden: this can no longer change, as the run has started" in answer, (field, value)
        assert "spec: Forbidden: the run has started (status.startTime is set), so its spec can no longer" in answer
        assert "except suspend, cancel and ttlSecondsAfterFinished, and, once it has ended, image and" in answer


def test_a_connection_is_closed_with_all_that_is_in_it(runs: Kind, namespace: str) -> None:
    key = {"name": "s", "key": "k"}
    fields = {"host": "h", "port": 1, "keyfile_json": {"a": "b", "c": ["d"]}, "on": True}
    connection = {"type": "x", "fields": fields, "secretFields": {"p": key}, "secretFiles": {"f": key}}
    runs.create(namespace, "nightly", RUN_SPEC | {"profile": {"connection": connection}})
    runs.report(namespace, "nightly", {"startTime": "2026-11-20T17:11:13.219457Z", "phase": "Running"})
    changes: tuple[dict[str, Any], ...] = (
        {"type": "y"},
        {"fields": {"host": "i"}},
        {"fields": {"port": "1"}},
        {"fields": {"port": None, "q": 1}},
        {"fields": {"keyfile_json": {"a": "B"}}},
        {"fields": {"keyfile_json": {"a": None, "z": "b"}}},
        {"fields": {"keyfile_json": {"c": ["D"]}}},
        {"fields": None},
        {"secretFields": {"p": {"key": "l"}}},
        {"secretFields": {"p": {"format": "JSON"}}},
        {"secretFields": {"p": None, "q": key}},
        {"secretFiles": {"f": {"name": "t"}}},
    )
    for change in changes:
        answer = runs.change_refused(namespace, "nightly", {"profile": {"connection": change}})
        assert "spec.profile: Forbidden: this can no longer change, as the run has started" in answer, change


@pytest.mark.parametrize("phase", ["Running", "Failed"])
def test_nothing_slips_through_beside_a_change_that_is_allowed(runs: Kind, namespace: str, phase: str) -> None:
    start(runs, namespace, phase=phase)
    allowed = {"suspend": True, "ttlSecondsAfterFinished": 5} | ({"image": "x"} if phase == "Failed" else {})
    for field, value in cases(CLOSED):
        answer = runs.change_refused(namespace, "nightly", allowed | {field: value})
        assert f"spec.{field}: Forbidden: this can no longer change, as the run has started" in answer, (field, value)
    runs.change_accepted(namespace, "nightly", allowed)


@pytest.mark.parametrize("phase", ["Pending", "Running", "Retrying", "Suspended", "Succeeded", "Failed", "Cancelled"])
def test_wishes_may_change_at_any_time_and_the_image_after_the_end(runs: Kind, namespace: str, phase: str) -> None:
    start(runs, namespace, phase=phase)
    for field, value in cases(OPEN):
        runs.change(namespace, "nightly", {"spec": {field: value}})
    for field, value in cases(LATE):
        if phase in ("Succeeded", "Failed", "Cancelled"):
            runs.change_accepted(namespace, "nightly", {field: value})
            continue
        answer = runs.change_refused(namespace, "nightly", {field: value})
        assert f"spec.{field}: Forbidden: the run has started; this can only change again once it has ended" in answer
    runs.change(namespace, "nightly", {"metadata": {"annotations": {"dbt-operator.io/retry": "1"}}})


def test_the_image_is_closed_again_while_an_ended_run_is_retried(runs: Kind, namespace: str) -> None:
    start(runs, namespace, phase="Failed")
    runs.change(namespace, "nightly", {"spec": {"image": "registry/dbt:2"}})
    runs.report(namespace, "nightly", {"phase": "Retrying"})
    runs.change_refused(namespace, "nightly", {"image": "registry/dbt:3"})


def test_the_command_and_what_it_calls_are_closed_by_the_start(runs: Kind, namespace: str) -> None:
    spec = RUN_SPEC | {"command": "run-operation", "runOperation": {"macro": "grant", "args": {"role": "a"}}}
    runs.create(namespace, "nightly", spec)
    runs.report(namespace, "nightly", {"startTime": "2026-11-20T17:11:13Z", "phase": "Failed"})
    for change in ({"macro": "revoke"}, {"args": {"role": "b"}}, {"args": {"role": None, "user": "a"}}, {"args": None}):
        answer = runs.change_refused(namespace, "nightly", {"runOperation": change})
        assert "spec.runOperation: Forbidden: this can no longer change, as the run has started" in answer, change
    answer = runs.change_refused(namespace, "nightly", {"command": "parse", "runOperation": None})
    assert "spec.command: Forbidden: this can no longer change, as the run has started" in answer


@pytest.fixture
def upgraded(api: Api) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """DbtRuns as a CRD stored them that knew neither retries nor suspension, and the CRD that knows them."""
    crd = copy_of("dbtruns", group=f"t{uuid.uuid4().hex[:8]}.dbt-operator.io", kind="UpgradedRun")
    old = json.loads(json.dumps(crd))
    schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    del schema["x-kubernetes-validations"]
    fields = schema["properties"]["spec"]["properties"]
    del fields["retry"], fields["suspend"]
    kind = install(api, old)
    yield kind, crd
    remove(kind)


def test_a_run_from_before_an_upgrade_of_the_crds_lives_on(
    upgraded: tuple[Kind, dict[str, Any]], api: Api, namespace: str
) -> None:
    runs, crd = upgraded
    runs.create(namespace, "nightly", RUN_SPEC)
    runs.report(namespace, "nightly", {"startTime": "2026-11-20T17:11:13Z", "phase": "Running"})
    install(api, crd)

    def known() -> bool:
        return "suspend" in runs.get(namespace, "nightly")["spec"]

    until("the apiserver uses the new CRD", known)
    runs.report(namespace, "nightly", {"message": "still there"})
    runs.change(namespace, "nightly", {"spec": {"suspend": True}})
    answer = runs.change_refused(namespace, "nightly", {"retry": {"limit": 9}})
    assert "spec.retry: Forbidden: this can no longer change" in answer


def test_a_model_never_changes_what_it_is(models: Kind, namespace: str) -> None:
    spec = DbtModelSpec(run_name="nightly", unique_id="model.shop.orders", name="orders", resource_type="model")
    models.create(namespace, "nightly.orders", spec.to_dict())
    for change in ({"name": "x"}, {"dependsOn": ["model.shop.a"]}, {"tags": ["a"]}):
        answer = models.change_refused(namespace, "nightly.orders", change)
        assert "the spec of a DbtModel says what dbt selected when the run began; it can never change" in answer
    models.report(namespace, "nightly.orders", {"phase": "Running"})
