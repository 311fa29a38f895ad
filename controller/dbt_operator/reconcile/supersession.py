"""Which runs take the place of which: `spec.supersedes`.

A run that supersedes others is newer than they are, and has the same value of a label. What is newer is told by the
time of creation and, within its second, by the name: so every controller finds the same, at any time.

The older runs are told by the watch, and stop. The newer one does not rely on that: it lists the runs, and waits until
each older one has ended.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dbt_operator.api.status import DbtRunStatus
from dbt_operator.reconcile.run_key import RunKey, key_of


class _Group(NamedTuple):
    """Runs with the same value of a label."""

    namespace: str
    label: str
    value: str


class _Age(NamedTuple):
    """The newer one is the greater one."""

    created: str  # as the API server writes it: in UTC, and whole seconds
    name: str


@dataclass(slots=True)
class Supersession:
    """Knows the runs that supersede others, and the labels of those that live. `wake` wakes the loop of a run."""

    wake: Callable[[RunKey], None] = lambda _: None
    _superseding: dict[_Group, dict[RunKey, _Age]] = field(default_factory=dict)
    _group_of: dict[RunKey, _Group] = field(default_factory=dict)  # of those that supersede
    _living: dict[RunKey, frozenset[_Group]] = field(default_factory=dict)  # their labels

    def observed(self, run: Mapping[str, Any], status: DbtRunStatus) -> None:
        """The watch has shown a run."""
        key, group = key_of(run), _superseded_by(run)
        going = "deletionTimestamp" in run["metadata"]
        before = self._group_of.get(key)
        if before != (None if going else group):
            self._leave(key)
        if group is not None and not going and before != group:
            self._group_of[key] = group
            self._superseding.setdefault(group, {})[key] = _age(run)
            self._wake(other for other, labels in self._living.items() if group in labels)
        if status.ended:
            self._has_ended(key)
        else:
            self._living[key] = frozenset(_groups(run))

    def forget(self, key: RunKey) -> None:
        """The run is gone."""
        self._leave(key)
        self._has_ended(key)

    def newer(self, run: Mapping[str, Any]) -> str:
        """The name of the newest run that supersedes this one; "" where none does."""
        ages = [age for group in _groups(run) for age in self._superseding.get(group, {}).values()]
        newest = max(ages, default=None)
        return newest.name if newest is not None and newest > _age(run) else ""

    def _leave(self, key: RunKey) -> None:
        group = self._group_of.pop(key, None)
        if group is not None:
            others = self._superseding[group]
            del others[key]
            if not others:
                del self._superseding[group]

    def _has_ended(self, key: RunKey) -> None:
        labels = self._living.pop(key, frozenset())
        waiting = (other for group in labels for other in self._superseding.get(group, {}))
        self._wake(other for other in waiting if other in self._living)

    def _wake(self, keys: Iterable[RunKey]) -> None:
        for key in list(keys):
            self.wake(key)


class Rivals(NamedTuple):
    """The other runs of a run that has not begun. older: those that live; newer: one that supersedes it, or ""."""

    older: tuple[str, ...] = ()
    newer: str = ""


def rivals(run: Mapping[str, Any], runs: Iterable[Mapping[str, Any]]) -> Rivals:
    """Of all runs with its value of its label."""
    own, mine = _age(run), _superseded_by(run)
    others = [each for each in runs if each["metadata"]["uid"] != run["metadata"]["uid"]]
    older = (_age(each) for each in others if _age(each) < own and not _has_ended(each))
    newer = (
        _age(each)
        for each in others
        if _age(each) > own and _superseded_by(each) == mine and "deletionTimestamp" not in each["metadata"]
    )
    newest = max(newer, default=None)
    return Rivals(older=tuple(age.name for age in sorted(older)), newer="" if newest is None else newest.name)


def label_of(run: Mapping[str, Any]) -> Mapping[str, str]:
    """The label, with its value, by which the run supersedes others; empty where it supersedes none."""
    group = _superseded_by(run)
    return {} if group is None else {group.label: group.value}


def _superseded_by(run: Mapping[str, Any]) -> _Group | None:
    """Whom the run supersedes; None: nobody. Of a spec that is invalid it may be anything."""
    asked = run["spec"].get("supersedes")
    label = asked.get("label") if isinstance(asked, Mapping) else None
    value = (run["metadata"].get("labels") or {}).get(label)
    return None if value is None else _Group(run["metadata"]["namespace"], str(label), value)


def _groups(run: Mapping[str, Any]) -> Iterator[_Group]:
    metadata = run["metadata"]
    for label, value in (metadata.get("labels") or {}).items():
        yield _Group(metadata["namespace"], label, value)


def _age(run: Mapping[str, Any]) -> _Age:
    metadata = run["metadata"]
    return _Age(metadata["creationTimestamp"], metadata["name"])


def _has_ended(run: Mapping[str, Any]) -> bool:
    status = DbtRunStatus.parse(run.get("status") or {})
    return status is not None and status.ended
