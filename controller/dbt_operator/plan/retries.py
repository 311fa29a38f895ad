"""Retries of what failed: which nodes are tried again, when, and which of them together in one attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dbt_operator.api.spec import Retry
from dbt_operator.plan.cover import retry_of
from dbt_operator.plan.decisions import SEVERAL
from dbt_operator.plan.ledger import Failure, Ledger
from dbt_operator.plan.situation import Situation, after


@dataclass(frozen=True, slots=True)
class Wanted:
    """A retry that the rules allow. `due`: when its pause is over."""

    key: str  # the node that it is called after
    nodes: frozenset[str]
    due: datetime
    cause: str  # what its nodes failed for; "" where nothing tells, or it differs


def wanted_retries(situation: Situation, ledger: Ledger) -> dict[str, Wanted]:
    """The failed nodes that are to be tried again, by the node that the retry is called after."""
    found: dict[str, Wanted] = {}
    for unique_id, failure in ledger.failures.items():
        if not _may_be_retried(situation, ledger, unique_id, failure):
            continue
        key, nodes = retry_of(ledger, unique_id)
        pause = situation.rules.retry.backoff.pause(failure.count)
        wanted = Wanted(key, nodes, due=after(failure.at, pause, now=situation.now), cause=failure.cause)
        found[key] = _merged(found[key], wanted, ledger) if key in found else wanted
    return found


def new_failures(ledger: Ledger) -> set[str]:
    """The failures of this episode, by the node that their retry would be called after."""
    return {retry_of(ledger, unique_id)[0] for unique_id, failure in ledger.failures.items() if failure.count}


def batches(free: Sequence[Wanted], ledger: Ledger, *, together: bool) -> list[Wanted]:
    """One retry for each attempt. Those that one would read what another one builds wait for their turn."""
    if together and free:
        nodes = frozenset[str]().union(*(each.nodes for each in free))
        return [Wanted(SEVERAL, nodes, due=max(each.due for each in free), cause="")]
    found: list[Wanted] = []
    taken: set[str] = set()
    for each in free:
        if taken.isdisjoint(each.nodes):
            found.append(each)
            taken |= ledger.related(each.nodes)
    return found


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
    return failure.kind in situation.rules.retry.reasons and failure.count <= situation.rules.retry.limit
