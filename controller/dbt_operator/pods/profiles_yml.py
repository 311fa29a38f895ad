"""A profiles.yml made of a connection. No secret is in it: dbt puts them in from variables and files of the pod.

dbt renders each text of a profile with Jinja. What stands for itself is written so that it comes out as it was.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from dbt_operator.api.connection import Connection, SecretField, SecretFormat, with_value
from dbt_operator.pods.variables import yaml_text

FILES_DIRECTORY = "/dbt-operator/connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVariable:
    """A variable of the container of dbt whose value is in a Secret."""

    variable: str
    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedFile:
    """A file of a Secret. path: below FILES_DIRECTORY."""

    path: str
    secret: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedProfile:
    """The text of a profiles.yml, and what of Secrets has to be in the pod for it."""

    text: str
    variables: tuple[SecretVariable, ...] = ()
    files: tuple[MountedFile, ...] = ()


def render_profile(connection: Connection, *, profile: str, target: str, schema: str | None = None) -> RenderedProfile:
    """The profiles.yml with one profile that has one target. schema: in the place of the connection's own."""
    fields: Any = {name: _literal(value) for name, value in connection.fields.items()}
    replaced = None if schema is None else _schema_field(connection)
    if replaced is not None:
        fields[replaced] = _literal(schema)
    variables: list[SecretVariable] = []
    files: list[MountedFile] = []
    for place, field in connection.secret_fields.items():
        if place == replaced:
            continue
        variable = _variable(place, field, taken=[each.variable for each in variables])
        variables.append(SecretVariable(variable=variable, secret=field.name, key=field.key))
        fields = with_value(fields, place.split("/"), _reference(variable, field))
    for place, file in connection.secret_files.items():
        path = f"{place}/{file.key}"
        files.append(MountedFile(path=path, secret=file.name, key=file.key))
        fields = with_value(fields, place.split("/"), f"{FILES_DIRECTORY}/{path}")
    output = {"type": connection.type, **fields}
    lines = [f"      {yaml_text(name)}: {yaml_text(value)}" for name, value in output.items()]
    head = [
        f"{yaml_text(profile)}:",
        f"  target: {yaml_text(_literal(target))}",
        "  outputs:",
        f"    {yaml_text(target)}:",
    ]
    return RenderedProfile(text="\n".join((*head, *lines, "")), variables=tuple(variables), files=tuple(files))


def _schema_field(connection: Connection) -> str:
    """The field of the schema: an adapter's own name for it where that is used, as dbt refuses two names at once."""
    given = {*connection.fields, *connection.secret_fields}
    return next((name for name in _SCHEMAS if name in given), "schema")


# Of BigQuery and of Dremio.
_SCHEMAS = ("dataset", "dremio_space_folder")


def _variable(place: str, field: SecretField, *, taken: list[str]) -> str:
    """A variable of this place's own.

    dbt masks the values of those with its prefix, and lets nothing be done with them. So what it is to read as JSON
    has another one; the runner masks both.
    """
    prefix = "DBT_ENV_SECRET_" if field.format is SecretFormat.TEXT else "DBT_OPERATOR_"
    name = f"{prefix}CONNECTION_{re.sub(r'[^A-Z0-9]', '_', place.upper())}"
    return next(each for each in _numbered(name) if each not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        number += 1
        yield f"{name}_{number}"


def _reference(variable: str, field: SecretField) -> str:
    value = f"env_var('{variable}')"
    return f"{{{{ {value} }}}}" if field.format is SecretFormat.TEXT else f"{{{{ fromjson({value}) }}}}"


def _literal(value: JsonValue) -> JsonValue:
    """The value, such that it is the same again once dbt has rendered its texts. Keys are not rendered."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else f'{{{{ "{_NOT_PLAIN.sub(_escape, value)}" }}}}'
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value


# Jinja begins with a brace, and makes one line end out of another, or none.
_PLAIN = re.compile(r"[^{}\r\n]*")
# All that means something in a text of Jinja, which Python's escapes stand for.
_NOT_PLAIN = re.compile(r"[^ !#-\[\]-z|~]")


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number <= 0xFF else f"\\U{number:08x}"
