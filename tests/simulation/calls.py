"""The calls of the API that an operator makes, and what comes between."""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NoReturn, TypeVar

from tests.simulation.checks import Checks
from tests.simulation.cluster import Cluster

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

_T = TypeVar("_T")

# Milliseconds. The longest is what a call takes that times out as often as it is tried: a look may last for minutes.
_STALLS = (300, 300, 2000, 2000, 8000, 8000, 65_000)


class ApiError(Exception):
    """A call failed; whether it was done is not known."""


class Died(Exception):  # noqa: N818 - an event
    """The operator died between two steps."""


class Calls:
    """Makes the calls of one operator."""

    def __init__(self, *, operator: "Operator", cluster: Cluster, checks: Checks) -> None:
        self._operator, self._cluster, self._checks = operator, cluster, checks

    def __call__(self, what: str, call: Callable[[], _T]) -> Generator[int, None, _T]:
        """One call: it takes its time, may fail before or after it was done, and the operator may die. Raises: both."""
        scenario, chance = self._cluster.scenario, self._operator.chance
        self._checks.called(what)
        if not self._cluster.calm and chance.random() < scenario.stalls:
            yield chance.choice(_STALLS)
        if self._cluster.calm:
            return call()
        if chance.random() < scenario.crashes:
            raise Died
        failing = chance.random() < scenario.api_errors
        if failing and chance.random() < 0.5:
            self._fail(what, "failed")
        answer = call()
        if chance.random() < scenario.crashes:
            raise Died
        if failing:
            self._fail(what, "was done, but failed")
        return answer

    def _fail(self, what: str, how: str) -> NoReturn:
        if self._operator.world.tracing:
            self._operator.say(f"{what} {how}")
        self._checks.failed(what)
        raise ApiError
