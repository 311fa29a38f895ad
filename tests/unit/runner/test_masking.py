"""Secrets are recognised wherever they are and however they are written."""

import base64
import itertools
import json
import urllib.parse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.dbt import statuses
from dbt_operator.dbt.state import AttemptState
from dbt_operator.runner import decided
from dbt_operator.runner.masking import REPLACEMENT, MaskedStream, Masker, secret_values
from tests.unit.dbt.logs import RECORDED, closed, recorded


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


# Of letters of which each occurs once, so that what is found of a secret was left of that secret.
_LETTERS = "".join(chr(0x4E00 + number) for number in range(200))


@st.composite
def _texts_with_secrets(draw: st.DrawFn) -> tuple[list[str], str]:
    """Secrets, of which some overlap and some have several lines, and a text that has all of them, and again."""
    length = draw(st.integers(8, len(_LETTERS)))
    breaks = draw(st.sets(st.integers(0, length - 1), max_size=3))
    text = "".join("\n" if at in breaks else letter for at, letter in enumerate(_LETTERS[:length]))
    starts = st.integers(0, length - 8)
    spans = draw(st.lists(starts.flatmap(lambda at: st.tuples(st.just(at), st.integers(at + 8, length))), min_size=1))
    between = draw(st.text(alphabet="x \n*", max_size=30))
    return [text[start:end] for start, end in spans], between + text + between + text


def _parts(secrets: Iterable[str]) -> set[str]:
    return {secret[at : at + 8] for secret in secrets for at in range(len(secret) - 7)}


@given(given=_texts_with_secrets(), limit=st.integers(0, 500))
def test_wherever_a_text_is_cut_no_part_of_a_secret_is_left(given: tuple[list[str], str], limit: int) -> None:
    secrets, text = given
    shown = Masker(values=secrets).cut(text, limit=limit)
    assert len(shown) <= max(limit, 1)
    assert [part for part in _parts(secrets) if part in shown] == []


@given(given=_texts_with_secrets(), splits=st.lists(st.integers(0, 500)), end=st.integers(0, 500))
def test_in_whatever_pieces_a_text_comes_it_is_masked_as_a_whole(
    given: tuple[list[str], str], splits: list[int], end: int
) -> None:
    secrets, text = given
    masker = Masker(values=secrets)
    places = [0, *sorted(min(split, len(text)) for split in splits), len(text)]
    stream = MaskedStream(masker)
    said = [stream.feed(text[start:stop]) for start, stop in itertools.pairwise(places)]
    assert "".join([*said, stream.end()]) == masker.text(text)
    # Whoever prints it may be stopped in the middle of a secret.
    stopped = MaskedStream(masker)
    shown = stopped.feed(text[:end]) + stopped.end()
    assert [part for part in _parts(secrets) if part in shown] == []


def test_a_variable_that_is_not_utf_8_is_masked_as_it_is_printed() -> None:
    raw = b"pass\xffword-of-bytes"
    masker = Masker(values=[raw.decode("utf-8", "surrogateescape")])
    for text in (raw.decode("utf-8", "replace"), urllib.parse.quote(raw), base64.b64encode(raw).decode()):
        assert masker.text(text) == REPLACEMENT


def test_a_text_with_quotes_of_both_kinds_around_a_secret_is_masked() -> None:
    assert REPLACEMENT in Masker(values=["it's secret"]).text(repr('he said "it\'s secret"'))


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("deep/er/password", "hunter2-hunter2", ["hunter2-hunter2"]),
        ("profiles.yml", "dev: {user: scott, password: 'hunter2-hunter2', threads: 4}", ["hunter2-hunter2"]),
        ("profiles.yml", "no mapping at all", ["no mapping at all"]),
        ("warehouse.env", "PGUSER=scott\nexport PGPASSWORD=hunter2-hunter2\n", ["hunter2-hunter2", "PGUSER=scott"]),
        ("dsn", "host=db user=scott password='hunter2-hunter2' port=5432", ["hunter2-hunter2"]),
        ("uri", "jdbc:postgresql://db/shop?user=scott&password=hunter2%2Fhunter2", ["hunter2/hunter2"]),
        ("account.json", '{"client": {"client_secret": "hunter2-hunter2"}}', ["hunter2-hunter2"]),
    ],
)
def test_what_is_secret_in_a_file_of_a_mounted_secret(tmp_path: Path, name: str, text: str, masked: list[str]) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    masker = Masker(values=secret_values(names=[], files=[str(tmp_path)], environ={}))
    for secret in masked:
        assert masker.text(f"<{secret}>") == f"<{REPLACEMENT}>"
    assert masker.text("of scott in db with 4 threads") == "of scott in db with 4 threads"


def test_a_file_that_is_mounted_by_itself_is_secret_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2-hunter2\n")
    assert secret_values(names=[], files=[str(file)], environ={}) == ["hunter2-hunter2\n"]


@pytest.mark.parametrize("value", ["duckdb", "Postgres", "success", "model", "error", "abc", "true", "*****", " \n"])
def test_words_that_stand_in_every_log_are_no_secrets(value: str) -> None:
    assert secret_values(names=["A"], files=[], environ={"A": value}) == []


def test_certificates_are_no_secrets() -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIB\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----\n"
    masker = Masker(values=secret_values(names=["A"], files=[], environ={"A": certificate + key}))
    assert masker.text("MIIDdzCCAl+gAwIB MIIEvQIBADANBgkq") == f"MIIDdzCCAl+gAwIB {REPLACEMENT}"


def test_every_status_that_the_operator_knows_is_kept() -> None:
    assert all(statuses.known(word) or statuses.undecided(word) for word in decided.STATUSES)
    assert set(statuses._ORDER) | statuses._UNDECIDED - {""} == decided.STATUSES


def _of_log(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in recorded(name)]


_LOGS = {name: _of_log(name) for name in RECORDED if not name.startswith("fusion")}


def _texts_of(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_of(item)


def _decided(state: AttemptState) -> object:
    """All that is known of an attempt but for texts, which people read, and the names of relations."""
    silent = {"message": "", "message_authority": 0, "message_ts": None, "relation": ""}
    nodes = {one: msgspec.structs.replace(node, **silent) for one, node in state.nodes.items()}
    graph = [] if state.graph is None else state.graph.nodes.values()
    listed = [msgspec.structs.replace(node, relation=None) for node in graph]
    # In a log without a runner only its text tells the kind of an error.
    kind = state.error.kind if state.error is not None and state.source == "runner" else ""
    bare = replace(state, nodes=nodes, graph=None, graph_parts={}, digest_parts={}, error=None)
    return replace(bare, complaints=(), unmatched=()), listed, kind


@given(data=st.data())
def test_whatever_is_secret_what_the_operator_decides_by_stays(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(_LOGS)))
    log = _LOGS[name]
    text = data.draw(st.sampled_from(sorted({text for event in log for text in _texts_of(event["data"])})))
    start = data.draw(st.integers(0, max(len(text) - 4, 0)))
    secret = text[start : data.draw(st.integers(start + 4, max(len(text), start + 4)))]
    masker = Masker(values=secret_values(names=["A"], files=[], environ={"A": secret}))
    lines = [json.dumps({**event, "data": masker.value(event["data"])}).encode() for event in log]
    assert _decided(closed(lines)) == _decided(closed(recorded(name)))
