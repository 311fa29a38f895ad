"""Writes what of the CRDs is not written by hand: the rules about changes of a DbtRun, and the chart's copies.

    python -m dev.crds           write the rules into crds/dbtruns.yaml, copy crds/, write the columns
    python -m dev.crds --check   say what is out of date, and fail if anything is

A field of the spec can no longer change once the run has started, unless `CHANGES` says otherwise. A new field of the
CRD needs nothing here: its rule follows from its schema.

The chart has copies, because `helm package` takes only what lies in the chart's folder and follows no links out of it.
The columns of kubectl lie in the package, for `dbt-operator local get`.
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any

import yaml

from dbt_operator.api.commands import Command
from dbt_operator.api.flags import FLAGS

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "crds"
COPY = CHECKOUT / "charts" / "dbt-operator" / "files" / "crds"
COLUMNS = CHECKOUT / "controller" / "dbt_operator" / "local" / "columns.json"

Schema = Mapping[str, Any]


class When(Enum):
    """When a field of a DbtRun's spec may change after the run has started."""

    NEVER = auto()
    ENDED = auto()  # while the run has ended, for the retry that is asked for then
    ALWAYS = auto()


CHANGES: Mapping[str, When] = {
    "suspend": When.ALWAYS,
    "cancel": When.ALWAYS,
    "ttlSecondsAfterFinished": When.ALWAYS,
    "image": When.ENDED,
    "imagePullPolicy": When.ENDED,
}

_NOT_STARTED = "!has(oldSelf.status) || !has(oldSelf.status.startTime)"
_HAS_ENDED = "(has(oldSelf.status.phase) && oldSelf.status.phase in ['Succeeded', 'Failed', 'Cancelled'])"
_MESSAGES = {
    When.NEVER: "this can no longer change, as the run has started",
    When.ENDED: (
        "the run has started; this can only change again once it has ended (status.phase is Succeeded, Failed or"
        " Cancelled), for a retry that is asked for then"
    ),
}


def rules(spec: Schema) -> Iterator[dict[str, str]]:
    """The rules about changes, for the schema of a DbtRun's spec.

    The first refuses every change that is not one of a field that may change at some time, so that nothing slips
    through; those that follow, one for each field that may not change at all times, name the field.

    Raises: ValueError for a field of CHANGES that the schema does not have.
    """
    fields: Mapping[str, Schema] = spec["properties"]
    if unknown := CHANGES.keys() - fields.keys():
        raise ValueError(f"dev/crds.py: CHANGES has fields that the CRD does not have: {', '.join(sorted(unknown))}")
    changed = (_changed(name, fields[name], required=name in spec.get("required", ())) for name in CHANGES)
    yield _rule(".spec", " || ".join((_NOT_STARTED, "self.spec == oldSelf.spec", *changed)), _message_of_all())
    for name, field in fields.items():
        when = CHANGES.get(name, When.NEVER)
        if when is not When.ALWAYS:
            allowed = [_NOT_STARTED, *([_HAS_ENDED] if when is When.ENDED else []), *_without_types(field)]
            same = _same(name, field, required=name in spec.get("required", ()))
            yield _rule(f".spec.{name}", " || ".join((*allowed, same)), _MESSAGES[when])


def _rule(path: str, rule: str, message: str) -> dict[str, str]:
    return {"rule": rule, "message": message, "fieldPath": path, "reason": "FieldValueForbidden"}


def _message_of_all() -> str:
    always, ended = (
        _listed([name for name, when in CHANGES.items() if when is one]) for one in (When.ALWAYS, When.ENDED)
    )
    return (
        "the run has started (status.startTime is set), so its spec can no longer change, except"
        f" {always}, and, once it has ended, {ended}; create another DbtRun instead"
    )


def _listed(names: list[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _same(name: str, field: Schema, *, required: bool) -> str:
    """That a field has not changed.

    Written with has(), as the same with optional fields (.?) is far over the API server's budget for rules; and without
    has() where there is always a value, which is cheaper still.
    """
    new, old = _places(name, field)
    if required or "default" in field:
        return f"{new} == {old}"
    return f"(has({new}) == has({old}) && (!has({new}) || {new} == {old}))"


def _changed(name: str, field: Schema, *, required: bool) -> str:
    new, old = _places(name, field)
    if required or "default" in field:
        return f"{new} != {old}"
    return f"has({new}) != has({old}) || (has({new}) && {new} != {old})"


def _places(name: str, field: Schema) -> tuple[str, str]:
    # CEL knows a field only by way of dyn() where its schema does not give the type of its values.
    spec = "dyn({}.spec)" if _untyped(field) else "{}.spec"
    return f"{spec.format('self')}.{name}", f"{spec.format('oldSelf')}.{name}"


def _without_types(field: Schema) -> tuple[str, ...]:
    """Before a comparison by way of dyn(): no status is ever refused for what CEL makes of that."""
    return ("self.spec == oldSelf.spec",) if _untyped(field) else ()


def _untyped(field: Schema) -> bool:
    return "type" not in field.get("additionalProperties", {"type": "any"})


def flag_rules(spec: Schema) -> Iterator[dict[str, str]]:
    """The rules about fields that are flags which not every command of dbt has, for the schema of a DbtRun's spec."""
    for flag in (each for each in FLAGS if set(Command) - each.commands):
        field = spec["properties"][flag.field]
        unset = f"!self.{flag.field}" if "default" in field else f"!has(self.{flag.field})"
        if field["type"] == "array":
            unset += f" || size(self.{flag.field}) == 0"
        if field["type"] == "boolean" and "default" not in field and not flag.negative:
            unset += f" || !self.{flag.field}"
        commands = ", ".join(f"'{command.value}'" for command in Command if command in flag.commands)
        yield {
            "rule": f"self.command in [{commands}] || {unset}",
            "messageExpression": f"'{flag.field} is no option of dbt ' + self.command",
            "fieldPath": f".{flag.field}",
        }
    looking = [command.value for command in Command if command.rules.looks_at_sources]
    yield {
        "rule": f"self.command in {looking} || !has(self.sourceFreshness) || self.sourceFreshness == 'Ignore'",
        "message": f"sourceFreshness is for the commands {_listed(looking)}",
        "fieldPath": ".sourceFreshness",
    }


BEGIN = "          # What may change after the start: made by python -m dev.crds, from here to the properties.\n"
END = "          properties:\n"


FLAGS_BEGIN = " " * 16 + "# Which commands have a flag: made by python -m dev.crds, from here to the properties.\n"
FLAGS_END = " " * 14 + "properties:\n"


def with_rules(text: str) -> str:
    """The text of crds/dbtruns.yaml with the rules that belong to its schema, in the place of those that it has."""
    spec = yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    changes = "".join(_yaml(rule, indent=12) for rule in rules(spec))
    text = _replaced(text, begin=BEGIN, end=END, lines=f"          x-kubernetes-validations:\n{changes}")
    flags = "".join(_yaml(rule, indent=16) for rule in flag_rules(spec))
    return _replaced(text, begin=FLAGS_BEGIN, end=FLAGS_END, lines=flags)


def _replaced(text: str, *, begin: str, end: str, lines: str) -> str:
    before, found, after = text.partition(begin)
    _, ends, rest = after.partition(end)
    if not (found and ends):
        raise ValueError(f"crds/dbtruns.yaml has no line {begin.strip()!r}")
    return f"{before}{begin}{lines}{end}{rest}"


def _yaml(rule: Mapping[str, str], *, indent: int) -> str:
    """A rule as an item of a list, its long texts folded as those that are written by hand."""
    item, indent_of_key = " " * indent + "- ", " " * (indent + 2)
    fields = []
    for key, value in rule.items():
        line = f"{key}: {value}\n"
        if key in ("rule", "messageExpression") or len(indent_of_key + line) > 120:
            folded = textwrap.wrap(
                value, width=120 - len(indent_of_key) - 2, break_long_words=False, break_on_hyphens=False
            )
            line = f"{key}: >-\n" + "".join(f"{indent_of_key}  {part}\n" for part in folded)
        fields.append(line)
    return item + indent_of_key.join(fields)


def wanted(*, source: Path = SOURCE) -> dict[str, str]:
    """What the files of the CRDs are to be, by name."""
    texts = {path.name: path.read_text() for path in source.glob("*.yaml")}
    return texts | {"dbtruns.yaml": with_rules(texts["dbtruns.yaml"])}


def columns(*, source: Path = SOURCE) -> str:
    """What `kubectl get` shows of each kind, as JSON."""
    kinds = [yaml.safe_load(path.read_text())["spec"] for path in sorted(source.glob("*.yaml"))]
    shown = [
        {
            "group": kind["group"],
            "names": {name: kind["names"][name] for name in ("kind", "plural", "singular", "shortNames")},
            "columns": [
                {"name": one["name"], "type": one["type"], "path": one["jsonPath"], "wide": bool(one.get("priority"))}
                for one in kind["versions"][0]["additionalPrinterColumns"]
            ],
        }
        for kind in kinds
    ]
    return json.dumps(shown, indent=1) + "\n"


def stale(*, source: Path = SOURCE, copy: Path = COPY) -> tuple[Path, ...]:
    """The files that are missing, too many, or of another content."""
    files = wanted(source=source)
    paths = {folder / name for folder in (source, copy) for name in files} | set(copy.glob("*"))
    return tuple(sorted(path for path in paths if not path.exists() or path.read_text() != files.get(path.name)))


def write(*, source: Path = SOURCE, copy: Path = COPY) -> None:
    """Bring the CRDs and their copies up to date."""
    files = wanted(source=source)
    copy.mkdir(parents=True, exist_ok=True)
    for path in stale(source=source, copy=copy):
        if path.name in files:
            path.write_text(files[path.name])
        else:
            path.unlink()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.crds", description="Write what is made of crds/.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if anything is out of date")
    if not parser.parse_args().check:
        write()
        COLUMNS.write_text(columns())
        return 0
    outdated = [*stale(), *([COLUMNS] if COLUMNS.read_text() != columns() else [])]
    files = ", ".join(str(path.relative_to(CHECKOUT)) for path in outdated)
    if files:
        print(f"Out of date: {files}; run python -m dev.crds", file=sys.stderr)
    return 1 if files else 0


if __name__ == "__main__":
    sys.exit(main())
