"""The commands that only look: get, describe, logs."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TextIO

import msgspec

from dbt_operator.dbt.lines import LineSplitter
from dbt_operator.kube.resources import DBT_MODELS, DBT_RUNS, EVENTS, Object
from dbt_operator.local import table
from dbt_operator.local.attempts import LocalAttempt
from dbt_operator.local.commands import SUCCEEDED, CommandError, Session, now
from dbt_operator.local.lock import holder
from dbt_operator.local.runs import status_of

Form = Literal["", "wide", "yaml", "json", "name"]
_LOOK_SECONDS = 0.2
_PIECE = 64 * 1024


def get(words: str, names: Sequence[str], *, run: str | None, form: Form, watch: bool, at: Session) -> int:
    """Show objects in a table, or whole."""
    kinds = [_kind(word) for word in words.split(",") if word]
    found = [(kind, _objects(kind, names, run=run, at=at)) for kind in kinds]
    if form in ("yaml", "json"):
        objects = [obj for _, several in found for obj in several]
        show = table.as_yaml if form == "yaml" else table.as_json
        sys.stdout.write(show(objects, one=len(names) == 1 and len(objects) == 1))
        return SUCCEEDED
    shown = 0
    for kind, objects in found:
        if form == "name":
            for obj in objects:
                print(f"{kind.prefix}{obj['metadata']['name']}")
        elif objects or watch:
            if shown:
                print()
            _print_table(kind, objects, wide=form == "wide", prefix=len(kinds) > 1)
            shown += 1
    if not shown and form != "name":
        at.say(f"There are no {words} in {at.place.root}.")
    _tell_of_idle(at)
    if watch:
        _watch(kinds[0], names, run=run, wide=form == "wide", at=at)
    return SUCCEEDED


def _kind(word: str) -> table.Kind:
    kind = table.kind_of(word)
    if kind is None:
        known = ", ".join(one.names["plural"] for one in table.kinds())
        raise CommandError(f"There is no kind {word}: there are {known}.")
    return kind


def _objects(kind: table.Kind, names: Sequence[str], *, run: str | None, at: Session, since: int = 0) -> list[Object]:
    uid = at.find(run)["metadata"]["uid"] if run is not None else None
    of_run = kind.resource is DBT_MODELS
    objects = at.store.all(kind.resource, run=uid if of_run else None, since=since)
    if run is not None and kind.resource is DBT_RUNS:
        objects = [obj for obj in objects if obj["metadata"]["uid"] == uid]
    if not names:
        return objects
    known = {obj["metadata"]["name"]: obj for obj in objects}
    missing = [name for name in names if name not in known]
    if missing and not since:
        raise CommandError(f"There is no {kind.names['singular']} {missing[0]} in {at.place.root}.")
    return [known[name] for name in names if name in known]


def _print_table(kind: table.Kind, objects: Sequence[Object], *, wide: bool, prefix: bool) -> None:
    rows = [table.head(kind, wide=wide)]
    rows += [table.row(kind, obj, wide=wide, now=now(), prefix=prefix) for obj in objects]
    widths = table.widths(rows)
    for each in rows:
        print(table.line(each, widths=widths), flush=True)


def _watch(kind: table.Kind, names: Sequence[str], *, run: str | None, wide: bool, at: Session) -> None:
    """A line for each object that changes, for ever."""
    version = at.store.version
    widths = table.widths([table.head(kind, wide=wide)])
    while True:
        time.sleep(_LOOK_SECONDS)
        newer = at.store.version
        if newer == version:
            continue
        for obj in _objects(kind, names, run=run, at=at, since=version):
            cells = table.row(kind, obj, wide=wide, now=now())
            widths = [max(pair) for pair in zip(widths, map(len, cells), strict=True)]
            print(table.line(cells, widths=widths), flush=True)
        version = newer


def _tell_of_idle(at: Session) -> None:
    """What a status says is true as of the moment when somebody executed the run."""
    for run in at.store.all(DBT_RUNS):
        name, status = run["metadata"]["name"], status_of(run)
        if not status.ended and holder(at.place.lock(name)) is None:
            at.say(f"No process executes the run {name}: the command that has begun it goes on with what is left.")


def describe(word: str, name: str, *, at: Session) -> int:
    """Show an object with what has happened to it."""
    kind = _kind(word)
    [obj] = _objects(kind, [name], run=None, at=at)
    events = [event for event in at.store.all(EVENTS) if event["involvedObject"]["uid"] == obj["metadata"]["uid"]]
    events.sort(key=lambda event: str(event["lastTimestamp"]))
    sys.stdout.write(table.describe(obj, events=events))
    return SUCCEEDED


def logs(name: str, *, attempt: str | None, raw: bool, follow: bool, at: Session) -> int:
    """Print what dbt has said: its messages, or its lines as they are."""
    at.find(name)
    chosen = _chosen(name, attempt, at=at)
    for line in _lines(chosen, follow=follow):
        _print_line(line, raw=raw, out=sys.stdout)
    return SUCCEEDED


def _chosen(name: str, attempt: str | None, *, at: Session) -> LocalAttempt:
    folder = at.place.attempts(name)
    begun = [each for each in folder.iterdir() if (each / "log.jsonl").exists()] if folder.is_dir() else []
    begun.sort(key=lambda each: (each / "log.jsonl").stat().st_ctime)
    if attempt is not None:
        begun = [each for each in begun if attempt in (each.name, each.name.removeprefix(f"{name}-"))]
    if not begun:
        raise CommandError(f"The run {name} has no log{f' of an attempt {attempt}' if attempt else ' yet'}.")
    return LocalAttempt(Path(begun[-1]))


def _lines(attempt: LocalAttempt, *, follow: bool) -> Iterator[bytes]:
    splitter = LineSplitter()
    with attempt.log.open("rb") as file:
        while True:
            alive = attempt.alive
            while piece := file.read(_PIECE):
                yield from splitter.feed(piece)
            if not (follow and alive):
                break
            time.sleep(_LOOK_SECONDS)
    rest = splitter.flush()
    if rest is not None:
        yield rest


def _print_line(line: bytes, *, raw: bool, out: TextIO) -> None:
    text = line.decode(errors="replace")
    if not raw:
        try:
            info = msgspec.json.decode(line)["info"]
            if not info.get("msg") or info.get("level") == "debug":
                return
            text = f"{str(info.get('ts', ''))[11:19]}  {info['msg']}"
        except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
            pass  # a line that dbt has not written is shown as it is
    out.write(f"{text}\n")
    out.flush()
