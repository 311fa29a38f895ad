"""Objects as kubectl shows them: the columns are those of the CRDs. No input or output."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

import msgspec
import yaml

from dbt_operator.kube.resources import DBT_CONNECTIONS, DBT_MODELS, DBT_RUNS, Object, Resource

_GAP = "   "
_RESOURCES = {each.plural: each for each in (DBT_RUNS, DBT_MODELS, DBT_CONNECTIONS)}
# .a.b, and .a['b','c'], of which the first counts that is there.
_STEP = re.compile(r"\.([A-Za-z0-9_]+)|\[((?:'[^']*',?)+)\]")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    type: str
    path: str
    wide: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects, with what is shown of it."""

    group: str
    names: Mapping[str, Any]
    columns: tuple[Column, ...]

    @property
    def resource(self) -> Resource:
        """What the store knows it by."""
        return _RESOURCES[self.names["plural"]]

    @property
    def prefix(self) -> str:
        """What kubectl puts before a name where several kinds are shown."""
        return f"{self.names['singular']}.{self.group}/"

    def called(self, word: str) -> bool:
        """Whether a person means this kind."""
        known = (self.names["plural"], self.names["singular"], *self.names["shortNames"])
        return word.lower() in (*known, *(f"{one}.{self.group}" for one in known[:2]))


def kinds() -> tuple[Kind, ...]:
    """All kinds."""
    packed = resources.files("dbt_operator.local").joinpath("columns.json").read_bytes()
    return msgspec.json.decode(packed, type=tuple[Kind, ...])


def kind_of(word: str) -> Kind | None:
    """The kind that a person means by a word, as kubectl understands it."""
    return next((kind for kind in kinds() if kind.called(word)), None)


def head(kind: Kind, *, wide: bool) -> list[str]:
    """The first line of a table."""
    return ["NAME", *(column.name.upper() for column in _shown(kind, wide=wide))]


def row(kind: Kind, obj: Object, *, wide: bool, now: datetime, prefix: bool = False) -> list[str]:
    """The line of an object."""
    name = f"{kind.prefix if prefix else ''}{obj['metadata']['name']}"
    return [name, *(_cell(column, obj, now=now) for column in _shown(kind, wide=wide))]


def _shown(kind: Kind, *, wide: bool) -> Iterator[Column]:
    return (column for column in kind.columns if wide or not column.wide)


def _cell(column: Column, obj: Object, *, now: datetime) -> str:
    value = _at(obj, column.path)
    if value is None:
        return ""
    if column.type == "date":
        return age((now - datetime.fromisoformat(value)).total_seconds())
    return str(value).replace("\n", "\\n")


def _at(value: Any, path: str) -> Any:
    for name, several in _STEP.findall(path):
        if not isinstance(value, Mapping):
            return None
        keys = [name] if name else re.findall(r"'([^']*)'", several)
        value = next((value[key] for key in keys if key in value), None)
    return value


def age(seconds: float) -> str:
    """A duration as kubectl shows ages: with two units where the larger one is small."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    return _two(days, "d", hours % 24, "h") if hours < 192 else f"{days}d"


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large}{unit}{small}{smaller}" if small else f"{large}{unit}"


def widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """How wide each column has to be."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def line(cells: Sequence[str], *, widths: Sequence[int]) -> str:
    """One line of a table."""
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_yaml(objects: Sequence[Object], *, one: bool) -> str:
    """The objects as `-o yaml` shows them."""
    return str(yaml.dump(_listed(objects, one=one), Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=1000))


def as_json(objects: Sequence[Object], *, one: bool) -> str:
    """The objects as `-o json` shows them."""
    return msgspec.json.format(msgspec.json.encode(_listed(objects, one=one)), indent=4).decode() + "\n"


def _listed(objects: Sequence[Object], *, one: bool) -> Object:
    return objects[0] if one else {"apiVersion": "v1", "kind": "List", "items": list(objects)}


class _Dumper(yaml.SafeDumper):
    """Long texts as they are, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def describe(obj: Object, *, events: Iterable[Object]) -> str:
    """An object with what has happened to it, as `kubectl describe` shows them."""
    metadata = obj["metadata"]
    lines = [f"Name:         {metadata['name']}"]
    lines += _pairs("Labels:       ", metadata.get("labels") or {}, "=")
    lines += _pairs("Annotations:  ", metadata.get("annotations") or {}, ": ")
    lines += [f"API Version:  {obj['apiVersion']}", f"Kind:         {obj['kind']}"]
    for part in ("spec", "status"):
        lines += [f"{part.capitalize()}:", *_nested(obj.get(part) or {}, indent=2)]
    shown = [["Type", "Reason", "Age", "Message"], ["----", "------", "----", "-------"]]
    now = datetime.now(UTC)
    for event in events:
        ago = age((now - datetime.fromisoformat(event["lastTimestamp"])).total_seconds())
        shown.append([event["type"], event["reason"], ago, event["message"].strip()])
    if len(shown) == 2:
        return "\n".join([*lines, "Events:  <none>", ""])
    wide = widths(shown)
    return "\n".join([*lines, "Events:", *(f"  {line(cells, widths=wide)}" for cells in shown), ""])


def _pairs(head: str, pairs: Mapping[str, str], sign: str) -> list[str]:
    texts = [f"{key}{sign}{value}" for key, value in sorted(pairs.items())] or ["<none>"]
    return [f"{head if not index else ' ' * len(head)}{text}" for index, text in enumerate(texts)]


def _nested(value: Any, *, indent: int) -> Iterator[str]:
    space = " " * indent
    items = value.items() if isinstance(value, Mapping) else ((None, one) for one in value)
    for key, item in items:
        name = f"{_title(key)}:" if key is not None else ""
        if isinstance(item, Mapping | list) and item:
            if name:
                yield f"{space}{name}"
            yield from _nested(item, indent=indent + 2 if name else indent)
        elif item is not None:
            text = str(item).replace("\n", f"\n{space}  ")
            yield f"{space}{name}  {text}" if name else f"{space}{text}"


def _title(key: str) -> str:
    """A name of a field as words: startTime is Start Time."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return words[:1].upper() + words[1:]
