"""A spec that cannot be used is explained in one sentence that names the field."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import ConcurrencyPolicy, Downstream, RetryReason, parse_run_spec

SMALLEST: dict[str, Any] = {"project": {"image": {"path": "/dbt"}}, "profile": {"inProject": True}, "image": "dbt:1"}


def test_the_smallest_spec_gets_the_documented_defaults() -> None:
    spec = parse_run_spec(SMALLEST)
    assert (spec.command, spec.full_refresh, spec.fail_fast, spec.threads) == ("build", False, None, None)
    secret = parse_run_spec(SMALLEST | {"profile": {"secretRef": {"name": "dwh"}}}).profile.secret_ref
    assert secret is not None
    assert secret.key == "profiles.yml"


def test_variables_and_the_pod_template_arrive_as_they_were_written() -> None:
    free = {"a": [1, 2.5, {"b": None}], "c": "true", "d": True}
    spec = parse_run_spec(SMALLEST | {"vars": free, "podTemplate": {"spec": free}})
    assert spec.vars == free
    assert spec.pod_template == {"spec": free}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"defer": True},
            "spec: defer needs state, which says whose artifacts dbt defers to.",
        ),
        (
            {"favorState": True, "state": {"runRef": {"name": "a"}}},
            "spec: favorState needs defer: it says what dbt prefers when it defers.",
        ),
        (
            {"command": "run-operation", "runOperation": {"macro": "a"}, "state": {"runRef": {"name": "a"}}},
            "spec: state is of no use to dbt run-operation.",
        ),
        (
            {"state": {"runRef": {"name": "a", "selector": {"matchLabels": {"a": "b"}}}}},
            "spec.state.runRef: exactly one of name and selector is required.",
        ),
        (
            {"state": {"artifactsFrom": {"volume": {"source": {"name": "x", "emptyDir": {}}}}}},
            "spec.state.artifactsFrom.volume: source has a name: the operator gives the volume its name.",
        ),
        ({"args": ["--state=/x"]}, "spec.args[0]: --state cannot be among them: take spec.state."),
        ({"image": None}, "spec: image is required, as no defaults give it and there is no environment."),
        (
            {"profile": {}},
            "spec.profile: exactly one of inProject (true), secretRef, connection and connectionRef is required.",
        ),
        (
            {"profile": {"inProject": True, "secretRef": {"name": "a"}}},
            "spec.profile: exactly one of inProject (true), secretRef, connection and connectionRef is required.",
        ),
        (
            {"profile": {"inProject": True, "schema": "mine"}},
            "spec.profile: schema goes with connection and connectionRef; here profiles.yml says it.",
        ),
        (
            {"profile": {"connection": {"type": "postgres", "fields": {"type": "x"}}}},
            "spec.profile.connection: fields has type, which is a field beside fields.",
        ),
        ({"selector": "nightly", "select": ["a"]}, "spec: selector cannot be combined with select or exclude."),
        ({"threads": 0}, "spec.threads is wrong: input should be greater than or equal to 1, not 0."),
        ({"threads": "8"}, "spec.threads is wrong: input should be a valid integer, not '8'."),
        (
            {"command": "deps"},
            "spec.command is wrong: input should be 'build', 'run', 'test', 'seed', 'snapshot', 'clone', "
            "'source-freshness', 'compile', 'docs', 'ls', 'parse', 'show' or 'run-operation', not 'deps'.",
        ),
        ({"command": "test", "fullRefresh": True}, "spec: fullRefresh is no option of dbt test."),
        ({"command": "docs", "sample": "3 days"}, "spec: sample is no option of dbt docs generate."),
        ({"command": "run", "tests": "AfterAll"}, "spec: tests cannot be AfterAll for dbt run."),
        ({"command": "docs", "tests": "None"}, "spec: tests cannot be None for dbt docs generate."),
        ({"command": "run-operation"}, "spec: runOperation is for the command run-operation, which needs it."),
        ({"runOperation": {"macro": "a"}}, "spec: runOperation is for the command run-operation, which needs it."),
        (
            {"warnError": True, "warnErrorOptions": {"error": ["all"]}},
            "spec: warnError cannot be combined with warnErrorOptions.",
        ),
        ({"args": ["--threads=4"]}, "spec.args[0]: --threads cannot be among them: take spec.threads."),
        (
            {"args": ["--static", "--target-path", "x"]},
            "spec.args[1]: --target-path cannot be among them: it belongs to the operator.",
        ),
        (
            {"args": ["-xs"]},
            "spec.args[0]: '-xs' has to be written as dbt's long option, such as --no-introspect.",
        ),
        (
            {"resourceTypes": ["Model"]},
            "spec.resourceTypes[0]: 'Model' is not a type of nodes, such as model or unit_test.",
        ),
        ({"pause": True}, "spec.pause is not a field that this version of the operator knows."),
        ({"retry": {"limit": 21}}, "spec.retry.limit is wrong: input should be less than or equal to 20, not 21."),
        (
            {"retry": {"reasons": ["Error", "Skipped"]}},
            "spec.retry.reasons[1] is wrong: input should be 'Error', 'TestsFailed', 'CompileError', 'PartialSuccess', "
            "'ConnectionFailed' or 'DeadlineExceeded', not 'Skipped'.",
        ),
        (
            {"retry": {"backoff": {"duration": "soon"}}},
            "spec.retry.backoff.duration: it has to be a duration such as 10s, 5m or 1h30m.",
        ),
        ({"retry": {"backoff": {"max": "24h1s"}}}, "spec.retry.backoff.max: it can be 24h at most."),
        (
            {"nodes": [{"select": [{}], "retry": {"limit": 1}}]},
            "spec.nodes[0].select[0]: it needs at least one of name, tag, package, path and resourceType.",
        ),
        ({"nodes": [{"select": [], "retry": {}}]}, "spec.nodes[0].select: it needs at least one criterion."),
        (
            {"nodes": [{"select": [{"name": "a"}]}]},
            "spec.nodes[0]: it says nothing about the nodes that it selects: give it podTemplate, retry or"
            " activeDeadlineSeconds.",
        ),
        (
            {"nodes": [{"select": [{"model": "a"}], "retry": {}}]},
            "spec.nodes[0].select[0].model is not a field that this version of the operator knows.",
        ),
        ({"select": ["a", ""]}, "spec.select[1] is wrong: string should have at least 1 character, not ''."),
        ({"project": {"git": {}}}, "spec.project.git.url is required."),
        ({"project": {}}, "spec.project: exactly one of image, git, archive and volume is required."),
        (
            {"project": {"git": {"url": "https://me@git.example.com/x"}}},
            "spec.project.git: url has a user or a password in it: name a Secret in secretRef instead.",
        ),
        (
            {"project": {"git": {"url": "https://git.example.com/x", "path": "a/../.."}}},
            "spec.project.git.path: it cannot lead out of the project's source by '..'.",
        ),
        (
            {"project": {"volume": {"source": {"name": "a", "emptyDir": {}}}}},
            "spec.project.volume: source has a name: the operator gives the volume its name.",
        ),
        ({"select": ["a", "-h"]}, "spec.select[1]: '-h' begins like an option of dbt, which it cannot."),
        ({"exclude": ["--empty"]}, "spec.exclude[0]: '--empty' begins like an option of dbt, which it cannot."),
        (
            {"selector": "--full-refresh"},
            "spec.selector: '--full-refresh' begins like an option of dbt, which it cannot.",
        ),
        (
            {"profile": {"inProject": True, "target": "-x"}},
            "spec.profile.target: '-x' begins like an option of dbt, which it cannot.",
        ),
    ],
)
def test_a_sentence_names_the_field(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSpec) as failure:
        parse_run_spec(SMALLEST | change)
    assert str(failure.value) == sentence


def test_the_retries_of_a_spec_that_does_not_speak_of_them() -> None:
    spec = parse_run_spec(SMALLEST)
    assert (spec.suspend, spec.producer.max_restarts) == (False, 3)
    retry = spec.retry
    assert (retry.limit, retry.reasons, retry.downstream) == (1, (RetryReason.ERROR,), Downstream.TOGETHER)
    assert (retry.parallelism, retry.together, retry.concurrency_policy) == (5, 20, ConcurrencyPolicy.AUTO)
    backoff = retry.backoff
    assert (backoff.duration, backoff.factor, backoff.max) == (timedelta(seconds=10), 2, timedelta(minutes=5))


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1h1s", timedelta(seconds=3601)),
        ("24h", timedelta(days=1)),
    ],
)
def test_a_duration_is_read_as_go_does(text: str, duration: timedelta) -> None:
    retry = parse_run_spec(SMALLEST | {"retry": {"backoff": {"duration": text}}}).retry
    assert retry.backoff.duration == duration


@pytest.mark.parametrize("text", ["", "10", "s", "1m1h", "-5s", "1.5h", "10s\n", "٣s", "1d", 10, None, f"{'9' * 15}h"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.retry\.backoff\.max: it (has to be a duration|can be 24h)"):
        parse_run_spec(SMALLEST | {"retry": {"backoff": {"max": text}}})


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([*SMALLEST, "select", "vars", "threads", "podTemplate", "retry", "suspend", "producer", "x"]),
        json,
    )
)
def test_whatever_stands_in_a_spec_it_is_read_or_explained(raw: dict[str, Any]) -> None:
    try:
        parse_run_spec(SMALLEST | raw)
        return
    except InvalidSpec as failure:
        sentence = str(failure)
    assert sentence.startswith("spec")
    assert sentence.endswith(".")
