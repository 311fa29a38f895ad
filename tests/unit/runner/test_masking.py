"""Secrets are recognised wherever they are and however they are written."""

import base64
import json
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.runner.masking import REPLACEMENT, Masker, secret_values


def _values(tmp_path: Path, profile: str) -> list[str]:
    file = tmp_path / "profiles.yml"
    file.write_text(profile)
    return secret_values(names=[], files=[str(file)], environ={})


def test_named_variables_and_those_dbt_calls_secret() -> None:
    environ = {"A": "value of a", "DBT_ENV_SECRET_B": "value of b", "C": "value of c"}
    assert sorted(secret_values(names=["A"], files=[], environ=environ)) == ["value of a", "value of b"]


def test_directory_of_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "user").write_text("scott")
    (tmp_path / "password").write_text("tiger\n")
    assert secret_values(names=[], files=[str(tmp_path), str(tmp_path / "missing")], environ={}) == ["tiger\n", "scott"]


@pytest.mark.parametrize(
    "line",
    [
        "password: {}",
        "pass: '{}'",
        'token: "{}"  # a comment',
        "client_secret: {} # a comment",
        "'private_key_passphrase': {}",
        "aws_secret_access_key: {}",
        "- password: {}",
    ],
)
def test_value_of_a_secret_key_of_a_profile(tmp_path: Path, line: str) -> None:
    values = _values(tmp_path, f"p:\n  outputs:\n    dev:\n      {line.format('sw0rd#fish')}\n      schema: public\n")
    assert values == ["sw0rd#fish"]


def test_private_key_of_several_lines_is_masked_line_by_line(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\n      MIIEvQIBADANBgkq\n      hkiG9w0BAQEFAASC\n      -----END KEY-----"
    masker = Masker(values=_values(tmp_path, f"dev:\n  private_key: |\n      {key}\n  schema: public\n"))
    assert masker.text("at hkiG9w0BAQEFAASC in schema public") == f"at {REPLACEMENT} in schema public"


def test_service_account_inside_a_profile(tmp_path: Path) -> None:
    account = '    type: service_account\n    private_key: "-----\\nMIIEvQIBADANBgkq\\n"\n'
    profile = f"dev:\n  keyfile_json:\n{account}  schema: public\n"
    assert "MIIEvQIBADANBgkq" not in Masker(values=_values(tmp_path, profile)).text("MIIEvQIBADANBgkq")


def test_variable_that_a_profile_refers_to_is_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "profiles.yml"
    file.write_text("dev:\n  user: \"{{ env_var('PGUSER') }}\"\n  password: \"{{ env_var('PGPASSWORD') }}\"\n")
    environ = {"PGUSER": "scott", "PGPASSWORD": "tiger"}
    assert [value for value in secret_values(names=[], files=[str(file)], environ=environ) if value] == ["tiger"]


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4 and "*" not in text))
def test_every_written_form_is_masked(secret: str) -> None:
    secret = secret.encode("utf-8", "replace").decode()
    masker = Masker(values=[secret])
    forms = [
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        base64.b64encode(secret.encode()).decode().rstrip("="),
    ]
    for form in forms:
        assert masker.text(form) == REPLACEMENT


def test_of_two_secrets_with_one_beginning_the_whole_longer_one_goes() -> None:
    assert Masker(values=["abcd", "abcdefgh"]).text("abcdefgh abcd") == "***** *****"


def test_very_short_values_are_left_alone() -> None:
    assert Masker(values=["dev", " x \n"]).text("dev x") == "dev x"


def test_password_named_like_a_node_does_not_break_the_node() -> None:
    event = {
        "unique_id": "model.shop.orders",
        "message": "orders failed",
        "node_info": {"node_name": "orders"},
        "rows": 1,
    }
    masked = Masker(values=["orders"]).value(event)
    assert masked == {
        "unique_id": "model.shop.orders",
        "message": "***** failed",
        "node_info": {"node_name": "orders"},
        "rows": 1,
    }


def test_what_is_secret_inside_a_value() -> None:
    environ = {
        "ACCOUNT": json.dumps(
            {"type": "service_account", "project_id": "warehouse", "private_key": "-----\nMIIEvQIB\n"}
        ),
        "URL": "postgres://scott:tig%2Fer@db.example.com/shop",
    }
    masker = Masker(values=secret_values(names=environ, files=[], environ=environ))
    assert masker.text("MIIEvQIB and tig/er in warehouse") == "***** and ***** in warehouse"


def test_unreadable_files_are_no_reason_to_stop() -> None:
    assert secret_values(names=[], files=["/proc/self/mem", "\0", "/no/such/file"], environ={}) == []
