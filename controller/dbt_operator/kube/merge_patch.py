"""JSON merge patches (RFC 7386) between two states of an object. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from dbt_operator.kube.resources import Object


class _Unknown:
    """Stands for a stored value that is not known: it differs from every value."""

    __slots__ = ()


UNKNOWN: Final = _Unknown()


def without_nulls(value: Mapping[str, Any]) -> Object:
    """A deep copy without the keys whose value is null: a merge patch cannot store those."""
    return {key: _copy(item) for key, item in value.items() if item is not None}


def _copy(value: Any) -> Any:
    if isinstance(value, str | int | float):  # most values, and asking for a Mapping takes ten times as long
        return value
    if isinstance(value, Mapping):
        return without_nulls(value)
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def difference(*, old: Mapping[str, Any], new: Mapping[str, Any]) -> Object:
    """The merge patch that makes `new` of `old`; empty where they are equal."""
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif isinstance(value, Mapping) and isinstance(old[key], Mapping):
            if nested := difference(old=old[key], new=value):
                patch[key] = nested
        elif value != old[key]:
            patch[key] = value
    return patch


def applied(*, old: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    """The object that a merge patch makes of `old`."""
    new: Object = dict(old)
    for key, value in patch.items():
        if isinstance(value, Mapping):
            below = new.get(key)
            new[key] = applied(old=below if isinstance(below, Mapping) else {}, patch=value)
        elif value is None:
            new.pop(key, None)
        else:
            new[key] = value
    return new


def uncertain(*, old: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    """What is known of an object after a patch of which nobody knows whether it arrived: all but what it touched."""
    base: Object = dict(old)
    for key, value in patch.items():
        known = base.get(key)
        if isinstance(value, Mapping) and value:
            base[key] = uncertain(old=known if isinstance(known, Mapping) else {}, patch=value)
        else:
            base[key] = _unknown(known)
    return base


def _unknown(value: Any) -> Any:
    # Down to the leaves: should the object be wanted with other keys, these have to be cleared if they are there.
    if isinstance(value, Mapping) and value:
        return {key: _unknown(item) for key, item in value.items()}
    return UNKNOWN
