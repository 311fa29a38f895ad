"""Simulated time, chance and the trace: what makes a seed give the same story every time."""

import asyncio
import selectors
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NoReturn

BEGINNING = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
# More than these steps without a moment between them: something goes round and round.
_STEPS_AT_ONCE = 5000


class Violation(Exception):  # noqa: N818 - what is found is no error of the simulation
    """An invariant does not hold. `rule` is its name."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def broken(rule: str, message: str) -> NoReturn:
    """Say that an invariant does not hold. Raises: Violation."""
    raise Violation(rule, message)


class _NoWaiting(selectors.SelectSelector):
    """Takes the time that an event loop wants to wait for as passed."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._at_once = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            broken("it comes to an end", "nothing will ever happen again")
        self._at_once = self._at_once + 1 if timeout <= 0 else 0
        if self._at_once > _STEPS_AT_ONCE:
            broken("no hot loop", f"more than {_STEPS_AT_ONCE} steps without a moment between them")
        self.seconds += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes as fast as nobody does anything. It has no input and no output."""

    def __init__(self) -> None:
        self._passed = _NoWaiting()
        super().__init__(self._passed)

    def time(self) -> float:
        """The seconds since the beginning."""
        return self._passed.seconds


class World:
    """A clock in milliseconds, and what is to happen when.

    Every part draws from a stream of chance of its own, so that a change in one part leaves the others as they were.
    """

    def __init__(self, *, seed: int, tracing: bool) -> None:
        self.seed = seed
        self.tracing = tracing
        self.lines: list[str] = []
        self.loop = VirtualLoop()
        self.failure: Exception | None = None  # the first

    def chance(self, stream: str) -> Random:
        """A stream of chance of this name."""
        return Random(f"{self.seed}/{stream}")  # noqa: S311 - a simulation, not a secret

    @property
    def ms(self) -> int:
        """The present moment in whole milliseconds since the beginning."""
        return int(self.loop.time() * 1000 + 1e-3)

    @property
    def now(self) -> datetime:
        """The present moment."""
        return BEGINNING + timedelta(seconds=self.loop.time())

    @staticmethod
    def moment(ms: int) -> datetime:
        """The moment so many milliseconds after the beginning."""
        return BEGINNING + timedelta(milliseconds=ms)

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Have this done after so many milliseconds."""
        self.loop.call_later(max(0, delay) / 1000, self._do, action)

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever it is ends the story, and is told
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Something went wrong that never may: the first such thing ends the story."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if self.failure is None:
            self.failure = error

    def say(self, text: str) -> None:
        """Write a line of the trace; callers ask for `tracing` first, as most lines cost more than what they tell."""
        self.lines.append(f"{self.ms / 1000:9.3f}  {text}")
