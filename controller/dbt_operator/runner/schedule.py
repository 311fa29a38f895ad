"""Which nodes can be executed now: those that wait for nothing, and for dbt also what only waits for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dbt_operator.runner.waits import below

FAILURES = frozenset(("error", "fail", "runtime error", "partial success", "skipped"))


class Schedule:
    """The nodes that have not ended. A node that fails takes with it all that waits for it, and nothing else."""

    def __init__(self, *, waits: Mapping[str, Iterable[str]], by_dbt: Iterable[str]) -> None:
        self._open = {one: set(parents) for one, parents in waits.items()}
        self._below = below(waits)
        self._by_dbt = set(by_dbt)
        self._waiting = list(_in_order(waits))  # parents first
        self._skipped: set[str] = set()

    @property
    def left(self) -> list[str]:
        """What has not begun."""
        return list(self._waiting)

    def ready(self, *, most: int) -> list[str]:
        """Nodes to execute now without dbt, of which there may be so many; they have begun."""
        found = [one for one in self._waiting if one not in self._by_dbt and not self._open[one]][: max(most, 0)]
        self._begin(found)
        return found

    def batch(self) -> list[str]:
        """Nodes for one dbt to execute now: each waits for nothing but others among them. They have begun."""
        found: dict[str, None] = {}
        for one in self._waiting:
            if one in self._by_dbt and all(parent in found for parent in self._open[one]):
                found[one] = None
        self._begin(found)
        return list(found)

    def give_to_dbt(self, unique_id: str) -> None:
        """A node that has begun is to be executed by dbt after all."""
        self._by_dbt.add(unique_id)
        self._waiting.insert(0, unique_id)

    def ended(self, unique_id: str, status: str) -> list[str]:
        """A node has ended; returns those that are skipped for it, which have ended too."""
        if status not in FAILURES:
            for one in self._below[unique_id]:
                self._open[one].discard(unique_id)
            return []
        skipped: list[str] = []
        stack = [unique_id]
        while stack:
            for one in self._below[stack.pop()]:
                if one not in self._skipped:
                    self._skipped.add(one)
                    stack.append(one)
                    skipped.append(one)
        # Of a batch dbt says itself what it skips.
        waiting = set(self._waiting)
        skipped = [one for one in skipped if one in waiting]
        self._begin(skipped)
        return skipped

    def _begin(self, nodes: Iterable[str]) -> None:
        begun = set(nodes)
        if begun:
            self._waiting = [one for one in self._waiting if one not in begun]


def _in_order(waits: Mapping[str, Iterable[str]]) -> Iterable[str]:
    """The nodes, each after those that it waits for. What waits for itself by others is at the end."""
    open_ = {one: set(parents) for one, parents in waits.items()}
    children = below(waits)
    ready = [one for one in waits if not open_[one]]
    found: dict[str, None] = {}
    while ready:
        found.update(dict.fromkeys(ready))
        following = []
        for one in ready:
            for child in children[one]:
                open_[child].discard(one)
                if not open_[child]:
                    following.append(child)
        ready = following
    return [*found, *(one for one in waits if one not in found)]
