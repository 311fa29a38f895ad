"""How to reach a warehouse: an adapter of dbt and its fields, of a run (`spec.profile.connection`) or a DbtConnection.

A place is where a secret goes: the name of a field, or a path into a field that has others in it, such as
`keyfile_json/private_key` or `secrets/0/secret`.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, StringConstraints, ValidationError, model_validator

from dbt_operator.api.problems import InvalidSpec, sentence_of
from dbt_operator.api.strict import Meant, Name, SecretKeyName, StrictModel

PLACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
PLACE_LIMIT = 253
# What dbt puts in the place of a secret, and takes away again; a text with it in would not arrive.
_DBTS_OWN = "DBT_ENV_SECRET"

Place = Annotated[
    str,
    StringConstraints(min_length=1, max_length=PLACE_LIMIT, pattern=PLACE),
    Meant("the name of a field, or a path into one such as keyfile_json/private_key"),
]


class SecretFormat(StrEnum):
    """What the value of a Secret is to dbt."""

    TEXT = "Text"
    JSON = "JSON"


class SecretField(StrictModel):
    """A field whose value is in a Secret."""

    name: Name
    key: SecretKeyName
    format: Annotated[SecretFormat, Field(strict=False)] = SecretFormat.TEXT


class SecretFile(StrictModel):
    """A field whose value is the path of a file that is in a Secret."""

    name: Name
    key: SecretKeyName


class Connection(StrictModel):
    """The CRD says what each field means."""

    type: Annotated[
        str,
        StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z][a-z0-9_]*$"),
        Meant("the name of an adapter, such as postgres"),
    ]
    fields: Annotated[dict[str, JsonValue], Field(max_length=200)] = Field(default_factory=dict)
    secret_fields: Annotated[dict[Place, SecretField], Field(max_length=50)] = Field(default_factory=dict)
    secret_files: Annotated[dict[Place, SecretFile], Field(max_length=50)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "type" in self.fields:
            raise ValueError("fields has type, which is a field beside fields")
        for place, text in texts_of(self.fields):
            if _DBTS_OWN in text:
                raise ValueError(f"fields has {_DBTS_OWN} in {place}: values stand for themselves; use secretFields")
        given: Any = dict(self.fields)
        for kind, places in (("secretFields", self.secret_fields), ("secretFiles", self.secret_files)):
            for place in places:
                try:
                    given = with_value(given, place.split("/"), None)
                except _NoPlaceError as error:
                    raise ValueError(f"{kind} has {place}, {error}") from error
        return self


class _NoPlaceError(ValueError):
    """Nothing can be put there; the text is the end of a sentence."""


def with_value(parent: Any, path: list[str], value: JsonValue) -> Any:
    """The fields with one more value, at this path.

    Raises: ValueError where something is there already, or nothing can be.
    """
    first, *rest = path
    if isinstance(parent, list):
        if not first.isdecimal() or int(first) >= len(parent):
            raise _NoPlaceError(f"and the list that it leads to has no item {first} (the first is 0)")
        at = int(first)
        if not rest:
            raise _NoPlaceError("which has a value already")
        return [*parent[:at], with_value(parent[at], rest, value), *parent[at + 1 :]]
    if not isinstance(parent, Mapping):
        raise _NoPlaceError("which leads into a value that is no object")
    if not rest and first in parent:
        raise _NoPlaceError("which has a value already")
    return {**parent, first: with_value(parent.get(first, {}), rest, value) if rest else value}


def texts_of(value: JsonValue, *, place: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a value, each with its place."""
    if isinstance(value, str):
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from texts_of(item, place=f"{place}/{key}" if place else str(key))


def parse_connection(found: Mapping[str, Any]) -> Connection:
    """What a DbtConnection says.

    Raises: InvalidSpec with one sentence that names the object and the field.
    """
    try:
        return Connection.model_validate(found["spec"], by_name=False)
    except ValidationError as error:
        raise InvalidSpec(f"DbtConnection {found['metadata']['name']}: {sentence_of(error)}") from error
