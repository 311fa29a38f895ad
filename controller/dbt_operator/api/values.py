"""Values of the API as JSON: the base class of everything that the operator writes into a spec or status.

Every limit of the CRD is an annotation of the field, and is kept when the value is written: one character too many
would make the apiserver refuse the whole status, and what dbt reported would be lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
from msgspec import inspect


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An immutable value with the field names of the API. Optional fields that are None or empty are unset."""

    KEEP_LAST: ClassVar[frozenset[str]] = frozenset()
    """Lists that lose their oldest entries when they are full; all others lose the newest."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self | None:
        """The value from the object's JSON; None when it has what this version of the operator cannot read."""
        try:
            return msgspec.convert(raw, type=cls)
        except msgspec.ValidationError:
            return None

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON, without the fields that are unset."""
        return _struct(self)

    def _derive(self, name: str, value: object) -> None:
        """Set a field that follows from others. Only for `__post_init__`, before anybody has seen the value."""
        msgspec.structs.force_setattr(self, name, value)


class _Field(NamedTuple):
    name: str
    key: str
    optional: bool
    text_limit: int | None  # of the text, or of each text of a list
    list_limit: int | None
    keep_last: bool


@cache
def _fields(kind: type[Value]) -> tuple[_Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - for the type checker: a Value is a Struct
    return tuple(_field(kind, field) for field in info.fields)


def _field(kind: type[Value], field: inspect.Field) -> _Field:
    options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    lists = [option for option in options if isinstance(option, inspect.VarTupleType)]
    candidates = (*options, *(each.item_type for each in lists))
    texts = [option for option in candidates if isinstance(option, inspect.StrType)]
    return _Field(
        name=field.name,
        key=field.encode_name,
        optional=field.default is None or field.default == (),
        text_limit=next((text.max_length for text in texts), None),
        list_limit=next((each.max_length for each in lists), None),
        keep_last=field.name in kind.KEEP_LAST,
    )


def _struct(value: Value) -> dict[str, Any]:
    items = ((field, getattr(value, field.name)) for field in _fields(type(value)))
    return {
        field.key: _plain(item, field=field)
        for field, item in items
        if not (field.optional and (item is None or item in ("", ())))
    }


def _plain(item: object, *, field: _Field) -> object:
    match item:
        case Value():
            return _struct(item)
        case tuple():
            limit = field.list_limit or len(item)
            kept = item[-limit:] if field.keep_last else item[:limit]
            return [_plain(each, field=field) for each in kept]
        case StrEnum():
            return item.value
        case str():
            return item if field.text_limit is None else clip(item, limit=field.text_limit)
        case datetime():
            return format_time(item)
        case _:
            return item


def clip(text: str, *, limit: int) -> str:
    """The text, or its beginning with an ellipsis where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def format_time(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC, with microseconds where it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def format_duration(seconds: float) -> str:
    """A duration as a column shows it: 45s, 1m32s, 2h5m. Never negative, as clocks may disagree."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
