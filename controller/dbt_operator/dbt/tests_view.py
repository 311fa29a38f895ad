"""What the tests of a node mean for it: their counts, and how they change what is shown of the node."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.excerpts import without_excerpt
from dbt_operator.dbt.own_view import Verdict
from dbt_operator.dbt.state import NodeState
from dbt_operator.dbt.values import headline, shorten

FAILING_LIMIT = 20


class FailingTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test that failed, without those that warned. `attempt`: which one reported it, from 0."""

    unique_id: str
    name: str
    message: str
    failures: int | None
    finished_at: datetime | None
    attempt: int


class TestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The tests listed on a node. `failed`: rows were found; `errored`: no result came; `skipped`: it did not run."""

    __test__ = False

    total: int = 0
    passed: int = 0
    warned: int = 0
    failed: int = 0
    errored: int = 0
    skipped: int = 0
    failing: tuple[FailingTest, ...] = ()


class TestReport(NamedTuple):
    """A test, what is shown of it, and which attempt reported that, from 0."""

    node: NodeState
    verdict: Verdict
    attempt: int


def counts_of(tests: Iterable[TestReport]) -> TestCounts:
    """How many tests ended in which way, with the first of those that failed."""
    numbers = dict.fromkeys(("total", "passed", "warned", "failed", "errored", "skipped"), 0)
    failing: list[FailingTest] = []
    for test in tests:
        numbers["total"] += 1
        match test.verdict.phase:
            case NodePhase.SUCCEEDED:
                numbers["warned" if test.verdict.reason is NodeReason.WARNED else "passed"] += 1
            case NodePhase.SKIPPED | NodePhase.CANCELLED:
                numbers["skipped"] += 1
            case NodePhase.FAILED:
                numbers["failed" if test.node.status == "fail" else "errored"] += 1
                failing.append(_failing(test))
            case _:
                pass
    return TestCounts(**numbers, failing=tuple(failing[:FAILING_LIMIT]))


def _failing(test: TestReport) -> FailingTest:
    return FailingTest(
        unique_id=test.node.unique_id,
        name=test.node.name,
        message=shorten(without_excerpt(test.verdict.message)[0], limit=256),
        failures=test.node.num_failures,
        finished_at=test.node.finished_at or test.node.ended_ts,
        attempt=test.attempt,
    )


def verdict_by_tests(tests: Sequence[TestReport], *, good: Verdict) -> Verdict:
    """What is shown of a node that dbt does not execute itself, before `with_tests`: only its tests report on it."""
    verdicts = [test.verdict for test in tests]
    phases = {verdict.phase for verdict in verdicts}
    if NodePhase.FAILED not in phases and not phases.isdisjoint({NodePhase.PENDING, NodePhase.RUNNING}):
        return Verdict(phase=NodePhase.PENDING)
    if not phases.isdisjoint({NodePhase.FAILED, NodePhase.SUCCEEDED}):
        return good
    stopped = next((one for one in verdicts if one.phase is NodePhase.CANCELLED), verdicts[0])
    return msgspec.structs.replace(stopped, message=f"None of its tests ran. {stopped.message}".rstrip())


def with_tests(verdict: Verdict, tests: Sequence[TestReport], counts: TestCounts) -> Verdict:
    """A built node whose test failed is not fit for use, although its relation is there."""
    if verdict.phase is not NodePhase.SUCCEEDED:
        return verdict
    bad = counts.failed + counts.errored
    lost = sum(test.verdict.phase is NodePhase.FAILED and test.verdict.reason is NodeReason.LOST for test in tests)
    if bad and bad == lost:
        message = f"The outcome of {lost} of its {counts.total} tests is unknown."
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.LOST, message=message)
    if bad:
        first = counts.failing[0]
        detail = f"{first.name} ({headline(first.message)})" if first.message else first.name
        more = ", …" if bad > 1 else ""
        message = f"{bad} of {counts.total} tests failed: {detail}{more}"
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.TESTS_FAILED, message=message)
    if counts.warned and verdict.reason is not NodeReason.WARNED:
        message = f"{counts.warned} of {counts.total} tests warned."
        return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.WARNED, message=message)
    return verdict
