"""The rows of docs/connections.md, as dbt reads what is made of them, with the adapters' own credentials.

In `make test` those of the adapters that the runner's tests have; in `make test-adapters` all of them.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_operator.api.connection import Connection
from dbt_operator.pods.profiles_yml import FILES_DIRECTORY, RenderedProfile, render_profile
from dev import dbt_venv
from tests.conftest import CHECKOUT

ALL = "DBT_OPERATOR_TEST_ADAPTERS_PYTHON"
FEW = ("duckdb", "postgres")
COSMOS = 26
"""How many profile mappings Cosmos has."""
OUT_OF_REACH = "not tested"
SIGNS = 'a {{ env_var("HOME") }} {% if %} {# c #} \'q\' "d" \\ b\r\n $$$ é 😀 {%- raw -%}{% endraw %} }}\n'

# Of fields that are no text, or whose adapter takes certain values only.
VALUES: dict[str, Any] = {
    "attach": [{"path": "other.duckdb", "alias": "other", "read_only": True}],
    "backup_server_node": ["node-1", "node-2"],
    "client_session_keep_alive": True,
    "cluster": "c",
    "compression": True,
    "connect_timeout": 11,
    "connection_load_balance": False,
    "connection_timeout": 12,
    "custom_settings": {"max_threads": 3},
    "debug_query_state": True,
    "encrypt": True,
    "encryption": False,
    "extensions": ["httpfs"],
    "insecure_mode": True,
    "keepalives_idle": 13,
    "keyfile_json": {"type": "service_account", "client_email": "dbt@example.com"},
    "lf_tags_database": {"a": "b"},
    "maximum_bytes_billed": 1000,
    "num_retries": 7,
    "poll_interval": 2.5,
    "port": 1234,
    "retries": 3,
    "roles": {"a": "b"},
    "schemas_and_paths": {"main": "/data/main.db"},
    "secrets": [{"type": "s3", "key_id": "k"}],
    "secure": True,
    "seed_s3_upload_args": {"ACL": "private"},
    "server_side_parameters": {"spark.driver.memory": "4g"},
    "session_properties": {"query_max_run_time": "4h"},
    "settings": {"threads": 2},
    "socket_timeout": 14,
    "ssl": True,
    "timeout": 15,
    "token_endpoint": {"type": "entra", "request_url": "https://login.example.com", "request_data": "x"},
    "trust_cert": True,
    "use_ssl": True,
}
OF_TYPE: dict[tuple[str, str], Any] = {
    ("clickhouse", "client_cert"): "c",
    ("exasol", "dsn"): "exasol.example.com:8563",
    ("databricks", "host"): "dbc.cloud.databricks.com",
    ("sqlite", "extensions"): ["/opt/crypto.so"],
    ("duckdb", "path"): "/data/shop.duckdb",
    ("duckdb", "catalog"): "shop",
}

# What an adapter makes something else of before it keeps it: an object, or the class of the credentials.
CHANGED = frozenset({("duckdb", "attach"), ("spark", "server_side_parameters"), ("trino", "method")})


@dataclass(frozen=True)
class Row:
    """A row of the tables: what it is called, the adapter, and the names in each column with what is said of them."""

    name: str
    type: str
    fields: dict[str, Any]
    secrets: dict[str, Any]
    files: dict[str, Any]
    optional: frozenset[str]
    tested: bool

    def connection(self, *, complete: bool) -> tuple[Connection, dict[str, str]]:
        """The connection, and the values that its secrets have."""
        wanted = {*self.fields, *self.secrets, *self.files} - (frozenset() if complete else self.optional)
        fields = {name: self._value(name, said) for name, said in self.fields.items() if name in wanted}
        secrets = {name: said for name, said in self.secrets.items() if name in wanted}
        for place in secrets:
            fields = _without(fields, place)
        keys = {place: f"key-{index}" for index, place in enumerate(secrets)}
        connection = Connection.model_validate(
            {
                "type": self.type,
                "fields": fields,
                "secretFields": {
                    place: {"name": "s", "key": keys[place], **({"format": "JSON"} if said == "JSON" else {})}
                    for place, said in secrets.items()
                },
                "secretFiles": {name: {"name": "f", "key": "file"} for name in self.files if name in wanted},
            }
        )
        values = {
            keys[place]: json.dumps(VALUES[place]) if said == "JSON" else f"{SIGNS}{place}"
            for place, said in secrets.items()
        }
        return connection, values

    def _value(self, name: str, said: Any) -> Any:
        if said is not None:
            return said
        return OF_TYPE.get((self.type, name), VALUES.get(name, f"the {name}"))


def _without(fields: dict[str, Any], place: str) -> dict[str, Any]:
    first, _, rest = place.partition("/")
    inner = fields.get(first)
    if isinstance(inner, dict) and rest in inner:
        return fields | {first: {key: value for key, value in inner.items() if key != rest}}
    return fields


def rows() -> Iterator[Row]:
    """All rows of the tables whose second column is a type."""
    for line in (CHECKOUT / "docs" / "connections.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 5 and cells[1].startswith("`") and cells[1] != "`type`":
            fields, secrets, files = (_named(cell) for cell in cells[2:])
            optional = frozenset(
                name for cell in cells[2:] for part in re.findall(r"\[(.*?)\]$", cell) for name in _named(part)
            )
            kind = re.match(r"`(\w+)`", cells[1])
            assert kind is not None
            yield Row(
                name=cells[0].strip("`"), type=kind[1], fields=fields, secrets=secrets, files=files,
                optional=optional, tested=OUT_OF_REACH not in cells[1],
            )  # fmt: skip


def _named(cell: str) -> dict[str, Any]:
    """The names in backticks, each with the value that stands beside it."""
    found = (text.partition(": ") for text in re.findall(r"`([^`]+)`", cell))
    return {name: yaml.safe_load(value) if value else None for name, _, value in found}


def _cases() -> list[tuple[Row, bool]]:
    of_this = [row for row in rows() if row.tested and (os.environ.get(ALL) or row.type in FEW)]
    return [(row, complete) for row in of_this for complete in (False, True)]


def _rendered(row: Row, *, complete: bool) -> tuple[Connection, RenderedProfile, dict[str, str]]:
    connection, values = row.connection(complete=complete)
    rendered = render_profile(connection, profile="p", target="t")
    return connection, rendered, {each.variable: values[each.key] for each in rendered.variables}


@pytest.fixture(scope="session")
def loaded() -> dict[tuple[str, bool], dict[str, Any]]:
    """What dbt has made of each case, all of them in one process."""
    cases = _cases()
    found = load(_rendered(row, complete=complete)[1:] for row, complete in cases)
    return {(row.name, complete): each for (row, complete), each in zip(cases, found, strict=True)}


def load(profiles: Iterable[tuple[RenderedProfile, dict[str, str]]]) -> list[dict[str, Any]]:
    """What dbt makes of profiles, each with the variables of its environment."""
    asked = [{"text": text.text, "profile": "p", "target": "t", "environment": each} for text, each in profiles]
    python = os.environ.get(ALL) or os.environ.get("DBT_OPERATOR_TEST_DBT_PYTHON")
    argv = [python or str(dbt_venv.location() / "bin" / "python"), str(Path(__file__).with_name("load_profiles.py"))]
    done = subprocess.run(argv, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("row", "complete"),
    [
        pytest.param(row, whole, id=f"{row.name}, {'all fields' if whole else 'required ones'}")
        for row, whole in _cases()
    ],
)
def test_the_adapter_accepts_the_fields_and_gets_their_values(
    row: Row, complete: bool, loaded: dict[tuple[str, bool], dict[str, Any]]
) -> None:
    found = loaded[row.name, complete]
    assert "error" not in found, found["error"]
    connection, rendered, environment = _rendered(row, complete=complete)
    assert not any(value in rendered.text for value in environment.values())
    said = json.dumps(found["credentials"], sort_keys=True)
    for name, value in connection.fields.items():
        has_secrets = any(place.startswith(f"{name}/") for place in connection.secret_fields)
        if not has_secrets and (row.type, name) not in CHANGED:
            assert json.dumps(value, sort_keys=True) in said, (name, found["credentials"])
    for each in rendered.variables:
        value = environment[each.variable]
        as_json = connection.secret_fields[_place(connection, each.key)].format.value == "JSON"
        assert (json.dumps(json.loads(value), sort_keys=True) if as_json else json.dumps(value)) in said
    for file in rendered.files:
        assert f"{FILES_DIRECTORY}/{file.path}" in said


def _place(connection: Connection, key: str) -> str:
    return next(place for place, field in connection.secret_fields.items() if field.key == key)


def test_every_mapping_of_cosmos_has_a_row() -> None:
    page = (CHECKOUT / "docs" / "connections.md").read_text()
    table = page.partition("| Cosmos |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == COSMOS
    assert {row.name for row in rows()} >= {line.strip("| ").partition("`")[2].partition("`")[0] for line in table}
    assert sum(row.tested for row in rows()) == len(list(rows())) - 1


def test_whatever_a_value_has_in_it_dbt_gets_it_as_it_is() -> None:
    """Signs of Jinja and of YAML, ends of lines, and texts that look like numbers."""
    fields = {"host": SIGNS, "user": "0x10", "schema": "null", "role": " a: b # c", "search_path": "1_0"}
    connection = Connection.model_validate(
        {
            "type": "postgres",
            "fields": fields | {"dbname": "true", "port": 5432, "retries": 2},
            "secretFields": {"password": {"name": "s", "key": "k"}},
        }
    )
    rendered = render_profile(connection, profile="p", target="t", schema="{{ mine }}")
    (found,) = load([(rendered, {each.variable: SIGNS for each in rendered.variables})])
    got = found["credentials"]
    assert fields | {"schema": "{{ mine }}"} == {name: got[name] for name in fields}
    assert (got["database"], got["port"], got["retries"], got["password"]) == ("true", 5432, 2, SIGNS)
