"""A spec that cannot be used is explained in one sentence that names the field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.api.spec import InvalidSpec, parse_run_spec

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
        ({"image": None}, "spec.image is wrong: input should be a valid string, not None."),
        ({"profile": {}}, "spec.profile: exactly one of inProject (true) and secretRef is required."),
        (
            {"profile": {"inProject": True, "secretRef": {"name": "a"}}},
            "spec.profile: exactly one of inProject (true) and secretRef is required.",
        ),
        ({"selector": "nightly", "select": ["a"]}, "spec: selector cannot be combined with select or exclude."),
        ({"threads": 0}, "spec.threads is wrong: input should be greater than or equal to 1, not 0."),
        ({"threads": "8"}, "spec.threads is wrong: input should be a valid integer, not '8'."),
        ({"command": "run"}, "spec.command is wrong: input should be 'build', not 'run'."),
        ({"suspend": True}, "spec.suspend is not a field that this version of the operator knows."),
        ({"select": ["a", ""]}, "spec.select[1] is wrong: string should have at least 1 character, not ''."),
        ({"project": {"git": {}}}, "spec.project.image is required. Wrong as well: spec.project.git."),
    ],
)
def test_a_sentence_names_the_field(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSpec) as failure:
        parse_run_spec(SMALLEST | change)
    assert str(failure.value) == sentence


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*SMALLEST, "select", "vars", "threads", "podTemplate", "x"]), json))
def test_whatever_stands_in_a_spec_it_is_read_or_explained(raw: dict[str, Any]) -> None:
    try:
        parse_run_spec(SMALLEST | raw)
        return
    except InvalidSpec as failure:
        sentence = str(failure)
    assert sentence.startswith("spec")
    assert sentence.endswith(".")
