"""Retries of what failed: which nodes are tried again, when, with which others, and which together in one attempt."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dbt_operator.api.spec import Retry, RetryReason
from dbt_operator.dbt.graph import Graph, is_test
from dbt_operator.plan.attempt import PodChoice
from dbt_operator.plan.decisions import SEVERAL
from dbt_operator.plan.ledger import Failure, Ledger, Standing
from dbt_operator.plan.overrides import pod_of, retry_rules
from dbt_operator.plan.situation import Situation, after


@dataclass(frozen=True, slots=True)
class Wanted:
    """A retry that the rules allow. `due`: when its pause is over."""

    key: str  # the node that it is called after
    nodes: frozenset[str]
    due: datetime
    cause: str  # what its nodes failed for; "" where that is not known, or differs
    pod: PodChoice


def wanted_retries(situation: Situation, ledger: Ledger) -> dict[str, Wanted]:
    """The failed nodes that are to be tried again, by the node that the retry is called after."""
    found: dict[str, Wanted] = {}
    for unique_id, failure in ledger.failures.items():
        if not _may_be_retried(situation, ledger, unique_id, failure):
            continue
        key, nodes = retry_of(ledger, unique_id)
        if any(situation.given_up(one) for one in nodes if one == unique_id or not is_test(one)):
            continue
        rules = situation.rules
        pause = retry_rules(rules, ledger.graph, unique_id).backoff.pause(failure.count)
        due = after(failure.at, pause, now=situation.now)
        wanted = Wanted(key, nodes, due=due, cause=failure.cause, pod=pod_of(rules, ledger.graph, key))
        found[key] = _merged(found[key], wanted, ledger) if key in found else wanted
    return found


def new_failures(ledger: Ledger) -> set[str]:
    """The failures of this episode, by the node that their retry would be called after."""
    return {retry_of(ledger, unique_id)[0] for unique_id, failure in ledger.failures.items() if failure.count}


def batches(free: Sequence[Wanted], ledger: Ledger, *, together: bool) -> list[Wanted]:
    """One retry for each attempt. Those that one would read what another one builds wait for their turn."""
    found: list[Wanted] = []
    taken: set[str] = set()
    for each in _in_one(free) if together else free:
        if taken.isdisjoint(each.nodes):
            found.append(each)
            taken |= ledger.related(each.nodes)
    return found


def _in_one(free: Sequence[Wanted]) -> Iterator[Wanted]:
    """All retries as one, or as one for each kind of pod that they are to have."""
    for pod in dict.fromkeys(each.pod for each in free):
        alike = [each for each in free if each.pod == pod]
        nodes = frozenset[str]().union(*(each.nodes for each in alike))
        yield Wanted(SEVERAL, nodes, due=max(each.due for each in alike), cause="", pod=pod)


def all_in_one(retries: Sequence[Wanted], rules: Retry) -> bool:
    """Whether so much failed, or all for one and the same cause, that a Job for each would be a storm."""
    causes = {each.cause for each in retries}
    return len(retries) > rules.together or (len(retries) > 1 and len(causes) == 1 and "" not in causes)


def _merged(one: Wanted, other: Wanted, ledger: Ledger) -> Wanted:
    """Both in one retry, unless only one of them can be executed now: the other must not keep it from that."""
    able = [each for each in (one, other) if ledger.ready(each.nodes) == each.nodes]
    if len(able) == 1:
        return able[0]
    cause = one.cause if one.cause == other.cause else ""
    return replace(other, nodes=one.nodes | other.nodes, due=max(one.due, other.due), cause=cause)


def _may_be_retried(situation: Situation, ledger: Ledger, unique_id: str, failure: Failure) -> bool:
    if failure.count == 0:  # it failed before a person asked for a retry: is it what the person pointed at?
        roots = situation.episode.roots
        return roots is None or not roots.isdisjoint((unique_id, *ledger.graph.tested_nodes(unique_id)))
    rules = retry_rules(situation.rules, ledger.graph, unique_id)
    return failure.kind in rules.reasons and failure.count <= rules.limit


# what one attempt executes so that a node is built, or tried, again


def build_of(ledger: Ledger, unique_ids: Sequence[str]) -> frozenset[str]:
    """The nodes, their unit tests, and those of their tests that can run after them.

    Tests that passed run again as well: what they had found is about the build before. So do nodes below that are
    stale: what they were built from has changed since.
    """
    built = {one for one in unique_ids if one in ledger.standings}
    if ledger.stale:
        below = ledger.stale & ledger.graph.descendants(*unique_ids)
        built |= ledger.ready(built | below)
    tests = [test for one in built for test in ledger.graph.tests_about(one)]
    cover = built | {test for test in tests if test.startswith("unit_test.")}
    for test in tests:
        if _executed(ledger, test) and ledger.satisfied(test, within=cover):
            cover.add(test)
    return frozenset(one for one in cover if one in ledger.standings)


def retry_of(ledger: Ledger, unique_id: str) -> tuple[str, frozenset[str]]:
    """What to execute so that a failed node is tried again, and the node by which that is called.

    A test that found rows would find them again: the nodes that it tests are built again before it. One that did not
    come to a result (an error) is only run again; so is one whose nodes others were built from, which happens where a
    test reads what is below the node that it is listed on.
    """
    node = ledger.graph.nodes[unique_id]
    if not node.test:
        return unique_id, build_of(ledger, [unique_id])
    failure = ledger.failures.get(unique_id)
    again = node.resource_type == "unit_test" or (failure is not None and failure.kind is RetryReason.TESTS_FAILED)
    rebuildable = _rebuildable(ledger.graph, unique_id) if again else ()
    tested = [one for one in rebuildable if ledger.graph.nodes[one].type.built and _executed(ledger, one)]
    if not tested or _built_upon(ledger, tested):
        return unique_id, frozenset({unique_id})
    return tested[0], build_of(ledger, tested) | {unique_id}


def _executed(ledger: Ledger, unique_id: str) -> bool:
    """Whether the run executes it."""
    return ledger.standings.get(unique_id) not in (None, Standing.PASSED_OVER)


def _built_upon(ledger: Ledger, unique_ids: Iterable[str]) -> bool:
    """Whether something else that was built from these nodes is done, or at work.

    To build them again would leave that behind: on some warehouses the views among it are dropped with the table.
    What an attempt has not come to yet, and will skip when it does, is neither.
    """
    below = ledger.graph.built_from(*unique_ids)
    return any(ledger.standings.get(one) is Standing.DONE or one in ledger.at_work for one in below)


def _rebuildable(graph: Graph, test: str) -> tuple[str, ...]:
    """The nodes whose new build may change what the test finds. An ephemeral model is built with what reads it."""
    tested = graph.tested_nodes(test)
    return graph.subjects(test) if any(one in graph.nodes and graph.nodes[one].ephemeral for one in tested) else tested
