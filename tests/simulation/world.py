"""Simulated time, chance and the trace: what makes a seed give the same story every time."""

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NoReturn

BEGINNING = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


class Violation(Exception):  # noqa: N818 - what is found is no error of the simulation
    """An invariant does not hold. `rule` is its name."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def broken(rule: str, message: str) -> NoReturn:
    """Say that an invariant does not hold. Raises: Violation."""
    raise Violation(rule, message)


class World:
    """A clock in milliseconds, and what is to happen when.

    Every part draws from a stream of chance of its own, so that a change in one part leaves the others as they were.
    """

    def __init__(self, *, seed: int, tracing: bool) -> None:
        self.seed = seed
        self.ms = 0
        self.tracing = tracing
        self.lines: list[str] = []
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def chance(self, stream: str) -> Random:
        """A stream of chance of this name."""
        return Random(f"{self.seed}/{stream}")  # noqa: S311 - a simulation, not a secret

    @property
    def now(self) -> datetime:
        """The present moment."""
        return self.moment(self.ms)

    @staticmethod
    def moment(ms: int) -> datetime:
        """The moment so many milliseconds after the beginning."""
        return BEGINNING + timedelta(milliseconds=ms)

    @staticmethod
    def ms_of(moment: datetime) -> int:
        """How many milliseconds after the beginning a moment is; rounded up, so that it has come by then."""
        return -((BEGINNING - moment) // timedelta(milliseconds=1))

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Have this done after so many milliseconds."""
        self._count += 1
        heapq.heappush(self._heap, (self.ms + max(0, delay), self._count, action))

    def step(self, *, until: int) -> bool:
        """Do what comes next; False when nothing is left before this time."""
        if not self._heap or self._heap[0][0] > until:
            return False
        self.ms, _, action = heapq.heappop(self._heap)
        action()
        return True

    def say(self, text: str) -> None:
        """Write a line of the trace; callers ask for `tracing` first, as most lines cost more than what they tell."""
        self.lines.append(f"{self.ms / 1000:9.3f}  {text}")
