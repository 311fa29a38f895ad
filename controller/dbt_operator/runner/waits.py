"""What each node waits for, by dbt's own rules: what it reads, and in a build the tests of what it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dbt_operator.runner.arguments import TESTS
from dbt_operator.runner.output import Line


def waits(*, known: Mapping[str, Line], chosen: Iterable[str], tests_first: bool) -> dict[str, frozenset[str]]:
    """Of each chosen node the chosen ones that have to be done before it.

    What lies between two of them without being chosen connects them.
    tests_first: a node waits for each test of which it reads, directly or not, all that the test reads.
    """
    chosen = sorted(chosen)
    above = _Above(known)
    bits = {one: 1 << at for at, one in enumerate(above.order)}
    among = sum(bits[one] for one in chosen)
    tests = [(bits[one], above.reads(one)) for one in chosen if known[one]["resource_type"] in TESTS]
    found: dict[str, frozenset[str]] = {}
    for one in chosen:
        mask = above.of(one)
        wanted = mask & among
        if tests_first and known[one]["resource_type"] not in TESTS:
            for test, read in tests:
                if read and read & ~mask == 0:
                    wanted |= test
        found[one] = frozenset(above.named(wanted))
    return found


def below(waits: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Of each node those that wait for it."""
    found: dict[str, list[str]] = {one: [] for one in waits}
    for one, parents in waits.items():
        for parent in parents:
            found[parent].append(one)
    return found


class _Above:
    """All that lies above each node, as the bits of a number: graphs have thousands of nodes."""

    def __init__(self, known: Mapping[str, Line]) -> None:
        self.order = list(known)
        self._known = known
        self._place = {one: at for at, one in enumerate(self.order)}
        self._masks: dict[str, int] = {}

    def reads(self, unique_id: str) -> int:
        """What the node reads directly."""
        return sum(1 << self._place[one] for one in set(self._parents(unique_id)))

    def of(self, unique_id: str) -> int:
        """All that is above the node. Without recursion, as a chain may be longer than Python's stack."""
        stack = [unique_id]
        while stack:
            one = stack[-1]
            missing = [parent for parent in self._parents(one) if parent not in self._masks]
            if missing:
                stack += missing
                continue
            stack.pop()
            mask = 0
            for parent in self._parents(one):
                mask |= self._masks[parent] | (1 << self._place[parent])
            self._masks[one] = mask
        return self._masks[unique_id]

    def named(self, mask: int) -> Iterable[str]:
        """The nodes whose bits are set."""
        while mask:
            lowest = mask & -mask
            yield self.order[lowest.bit_length() - 1]
            mask ^= lowest

    def _parents(self, unique_id: str) -> list[str]:
        return [one for one in self._known[unique_id]["depends_on"] if one in self._place]
