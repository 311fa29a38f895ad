"""Values of the API as JSON: the base class of everything that the operator writes into a spec or status.

Every limit of the CRD is an annotation of the field, and is kept when the value is written: one character too many
would make the apiserver refuse the whole status, and what dbt reported would be lost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from dbt_operator.api.open_enum import OpenEnum


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An immutable value with the field names of the API. Optional fields that are None or empty are unset."""

    KEEP_LAST: ClassVar[frozenset[str]] = frozenset()
    """Lists that lose their oldest entries when they are full; all others lose the newest."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self | None:
        """The value from the object's JSON, as far as this version of the operator can read it.

        What another version has written may differ in a part: a field, or an entry of a list, that cannot be read is
        left out, and the rest stands. None where a field without a default cannot be read.
        """
        try:
            return msgspec.convert(raw, type=cls)
        except msgspec.ValidationError:
            read = {field.name: _read(field.type, raw[field.key]) for field in _fields(cls) if field.key in raw}
        try:
            return cls(**{name: value for name, value in read.items() if value is not msgspec.UNSET})
        except TypeError:
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
    type: Any  # what its annotation says
    optional: bool
    text_limit: int | None  # of the text, or of each text of a list
    list_limit: int | None
    keep_last: bool


@cache
def _fields(kind: type[Value]) -> tuple[_Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)  # noqa: S101 - for the type checker: a Value is a Struct
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_field(kind, field, hint=hints[field.name]) for field in info.fields)


def _field(kind: type[Value], field: inspect.Field, *, hint: Any) -> _Field:
    options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
    lists = [option for option in options if isinstance(option, inspect.VarTupleType)]
    candidates = (*options, *(each.item_type for each in lists))
    texts = [option for option in candidates if isinstance(option, inspect.StrType)]
    return _Field(
        name=field.name,
        key=field.encode_name,
        type=hint,
        optional=field.default is None or field.default == (),
        text_limit=next((text.max_length for text in texts), None),
        list_limit=next((each.max_length for each in lists), None),
        keep_last=field.name in kind.KEEP_LAST,
    )


def _read(hint: Any, raw: object) -> Any:
    """What can be read of a field's JSON; UNSET where that is nothing."""
    try:
        return msgspec.convert(raw, type=hint)
    except msgspec.ValidationError:
        pass
    plain = _plain_type(hint)
    if isinstance(raw, list) and get_origin(plain) is tuple:
        entries = (_read(get_args(plain)[0], entry) for entry in raw)
        return tuple(entry for entry in entries if entry is not msgspec.UNSET)
    if isinstance(raw, dict) and isinstance(plain, type) and issubclass(plain, Value):
        value = plain.parse(raw)
        return msgspec.UNSET if value is None else value
    # A text over the limit: another version may allow more.
    return raw if plain is str and isinstance(raw, str) else msgspec.UNSET


def _plain_type(hint: Any) -> Any:
    """The type without its limits, and without None."""
    if get_origin(hint) is Annotated:
        return _plain_type(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return _plain_type(next(option for option in get_args(hint) if option is not type(None)))
    return hint


def _struct(value: Value) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for field in _fields(type(value)):
        item = getattr(value, field.name)
        if not (field.optional and (item is None or item in ("", ()) or _unknown(item))):
            result[field.key] = _plain(item, field=field)
    return result


def _unknown(item: object) -> bool:
    return isinstance(item, OpenEnum) and not item.known


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
