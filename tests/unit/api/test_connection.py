"""What a connection may say; each wrong use is explained in one sentence that names the object and the field."""

from typing import Any

import pytest

from dbt_operator.api.connection import parse_connection
from dbt_operator.api.problems import InvalidSpec

KEY = {"name": "warehouse", "key": "password"}


def parsed(**spec: Any) -> None:
    parse_connection({"metadata": {"name": "dwh"}, "spec": {"type": "postgres", **spec}})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"type": "Postgres"}, "spec.type: 'Postgres' is not the name of an adapter, such as postgres."),
        ({"host": "h"}, "spec.host is not a field that this version of the operator knows."),
        ({"secretFields": {"password": {"name": "warehouse"}}}, "spec.secretFields.password.key is required."),
        (
            {"secretFields": {"port": KEY | {"format": "Number"}}},
            "spec.secretFields.port.format is wrong: input should be 'Text' or 'JSON', not 'Number'.",
        ),
        (
            {"fields": {"password": "x"}, "secretFields": {"password": KEY}},
            "spec: secretFields has password, which has a value already.",
        ),
        (
            {"secretFields": {"keyfile": KEY}, "secretFiles": {"keyfile": KEY}},
            "spec: secretFiles has keyfile, which has a value already.",
        ),
        (
            {"fields": {"host": "h"}, "secretFields": {"host/name": KEY}},
            "spec: secretFields has host/name, which leads into a value that is no object.",
        ),
        (
            {"fields": {"secrets": [{}]}, "secretFields": {"secrets/1/secret": KEY}},
            "spec: secretFields has secrets/1/secret, and the list that it leads to has no item 1 (the first is 0).",
        ),
        (
            {"fields": {"params": {"password": "{{ env_var('DBT_ENV_SECRET_X') }}"}}},
            "spec: fields has DBT_ENV_SECRET in params/password: values stand for themselves; use secretFields.",
        ),
    ],
)
def test_a_sentence_names_the_connection_and_the_field(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSpec) as failure:
        parsed(**spec)
    assert str(failure.value) == f"DbtConnection dwh: {sentence}"


def test_a_name_may_not_lead_out_of_the_folder_of_its_file() -> None:
    with pytest.raises(InvalidSpec, match="secretFiles"):
        parsed(secretFiles={"a/../../b": KEY})
