"""What the tests of a node mean for it: their counts, and how they change what is shown of the node."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.excerpts import without_excerpt
from dbt_operator.dbt.node_types import TEST_TYPES
from dbt_operator.dbt.own_view import Verdict
from dbt_operator.dbt.state import NodeState
from dbt_operator.dbt.values import headline, shorten

LISTED_LIMIT = 20
_FOUND = frozenset({"fail", "warn"})  # dbt's statuses of tests that found something


class ListedTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test that failed or warned. `attempt`: which one reported it, from 0.

    relation: with the rows that it found; "" where they are not kept.
    """

    unique_id: str
    name: str
    message: str
    failures: int | None
    relation: str
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
    failing: tuple[ListedTest, ...] = ()
    warning: tuple[ListedTest, ...] = ()


class TestReport(NamedTuple):
    """A test, what is shown of it, and which attempt reported that, from 0."""

    node: NodeState
    verdict: Verdict
    attempt: int


def counts_of(tests: Iterable[TestReport]) -> TestCounts:
    """How many tests ended in which way, with the first of those that failed, and of those that warned."""
    numbers = dict.fromkeys(("total", "passed", "warned", "failed", "errored", "skipped"), 0)
    failing: list[ListedTest] = []
    warning: list[ListedTest] = []
    for test in tests:
        numbers["total"] += 1
        match test.verdict.phase:
            case NodePhase.SUCCEEDED if test.verdict.reason is NodeReason.WARNED:
                numbers["warned"] += 1
                warning.append(_listed(test))
            case NodePhase.SUCCEEDED:
                numbers["passed"] += 1
            case NodePhase.SKIPPED | NodePhase.CANCELLED:
                numbers["skipped"] += 1
            case NodePhase.FAILED:
                numbers["failed" if test.node.status == "fail" else "errored"] += 1
                failing.append(_listed(test))
            case _:
                pass
    return TestCounts(**numbers, failing=tuple(failing[:LISTED_LIMIT]), warning=tuple(warning[:LISTED_LIMIT]))


def kept_rows(node: NodeState) -> str:
    """The relation with the rows that a test has found; "" where it has found none, or does not keep them."""
    return node.relation if node.resource_type in TEST_TYPES and node.status in _FOUND else ""


def _listed(test: TestReport) -> ListedTest:
    return ListedTest(
        unique_id=test.node.unique_id,
        name=test.node.name,
        message=shorten(without_excerpt(test.verdict.message)[0], limit=256),
        failures=test.node.num_failures,
        relation=kept_rows(test.node),
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
        message = f"{bad} of {counts.total} tests failed: {_first(counts.failing, of=bad)}"
        return Verdict(phase=NodePhase.FAILED, reason=NodeReason.TESTS_FAILED, message=message)
    if counts.warned and verdict.reason is not NodeReason.WARNED:
        message = f"{counts.warned} of {counts.total} tests warned: {_first(counts.warning, of=counts.warned)}"
        return Verdict(phase=NodePhase.SUCCEEDED, reason=NodeReason.WARNED, message=message)
    return verdict


def _first(listed: Sequence[ListedTest], *, of: int) -> str:
    first = listed[0]
    detail = f"{first.name} ({headline(first.message)})" if first.message else first.name
    return f"{detail}, …" if of > 1 else detail
