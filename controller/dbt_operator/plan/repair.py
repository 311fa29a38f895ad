"""Which attempts a run needs next: retries of what failed, and attempts that go on with what is left.

Every attempt that is asked for here uses up something that is finite: a retry one of the node's tries, a resume after
a lost pod one of the restarts, a resume of what was blocked the success of what had blocked it. So a run comes to an
end whatever happens to its attempts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dbt_operator.api import names
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reason_table import LOST, RESTING
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.dbt.found import found_by
from dbt_operator.dbt.history import BEGUN
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.ledger import Failure, Ledger, Standing, rebuilt
from dbt_operator.plan.microbatch import end_of, left_of
from dbt_operator.plan.situation import RetryRules, Situation, after

__all__ = ["SEVERAL", "Next", "RetryRules", "decision", "next_attempts", "producer", "room"]

SEVERAL = "nodes"  # in the name of a retry of more than one node


@dataclass(frozen=True, slots=True)
class Next:
    """What is to come. Without decisions and without `due` nothing more is to be attempted."""

    decisions: tuple[Decision, ...] = ()
    due: datetime | None = None  # when there is more to decide by the clock alone
    waiting: tuple[str, ...] = ()  # the nodes whose retry is waited for
    withheld: bool = False  # there would be more, but what it needs is gone with the database of a pod
    resumed: frozenset[str] = frozenset()  # what an attempt to come will execute of what is open or was blocked

    @property
    def nothing_more(self) -> bool:
        """Whether nothing is to come any more, once the live attempts have ended."""
        return not self.decisions and self.due is None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A failed node that is to be tried again."""

    key: str  # the node that the retry is called after
    nodes: frozenset[str]
    due: datetime
    cause: str


def next_attempts(situation: Situation) -> Next:
    """What the run needs next, given that none of its ended attempts is unsealed."""
    upcoming = _wished(situation)
    not_before = _after_losses(situation)
    if upcoming.decisions and not_before > situation.now:
        return replace(upcoming, decisions=(), due=not_before)
    return upcoming


def _after_losses(situation: Situation) -> datetime:
    """When work may be taken up again after a pod was lost: at once the first time, then after a growing pause."""
    if situation.losses <= 1:
        return situation.now
    return after(situation.lost[-1].ended_at, situation.rules.wait(situation.losses - 1), now=situation.now)


def _wished(situation: Situation) -> Next:
    """What is to be attempted, whether or not something is still in the way."""
    if not situation.assessments:
        return Next(decisions=(producer(situation, number=1),))
    if situation.restarts_used_up:
        return Next()
    if situation.ledger is None:
        return _again_from_the_start(situation)
    wanted = _wanted(situation, situation.ledger)
    if situation.rules.fail_fast and not _new_failures(situation.ledger) <= wanted.keys():
        return Next()  # a failure that stays: the user wants nothing more to be executed after it
    upcoming = _repair(situation, situation.ledger, wanted)
    return _without_a_database(situation) if situation.pod_database and not upcoming.nothing_more else upcoming


def _without_a_database(situation: Situation) -> Next:
    """What is to come where retries and resumes would find nothing of what was built: all of it was in the pod.

    The whole command can do without. It is run again where that executes nothing that had been done, and after a rest:
    whoever asked for that wants the run to go on.
    """
    last = situation.assessments[-1]
    rested = last.outcome is not None and last.outcome.reason in RESTING
    begun_nothing = last.attempt.whole and all(node.phase not in BEGUN for node in last.state.nodes.values())
    again = _again_from_the_start(situation) if rested or begun_nothing else Next()
    return replace(again, withheld=again.nothing_more)


def _again_from_the_start(situation: Situation) -> Next:
    """No attempt is known to have said what the run selects: only the whole command can."""
    if situation.live:
        return Next()
    last = situation.last_whole
    outcome = last.outcome if last is not None else None
    number = 1 + sum(each.attempt.kind is AttemptKind.PRODUCER for each in situation.assessments)
    if last is not None and outcome is not None and outcome.reason is RunReason.CONNECTION_FAILED:
        count = sum(e.outcome is not None and e.outcome.reason is outcome.reason for e in situation.recent)
        allowed = RetryReason.CONNECTION_FAILED in situation.rules.reasons and count <= situation.rules.limit
        due = after(last.ended_at, situation.rules.wait(count), now=situation.now)
    else:
        allowed = outcome is None or outcome.reason in LOST | RESTING
        due = situation.now
    if not allowed:
        return Next()
    due = max(due, *situation.lingering.values(), situation.now)
    if due > situation.now:
        return Next(due=due)
    return Next(decisions=(producer(situation, number=number),))


def producer(situation: Situation, *, number: int) -> Decision:
    """The decision for an attempt that runs the whole command."""
    name = names.producer_job_name(situation.run, number=number)
    end = end_of(situation.assessments)
    return Decision(
        index=situation.last_index + 1,
        kind=AttemptKind.PRODUCER,
        name=name,
        microbatch_end=end,
        found=_found(situation),
    )


def _found(situation: Situation) -> Mapping[str, str]:
    return found_by(each.state for each in situation.assessments)


# retries


def _wanted(situation: Situation, ledger: Ledger) -> dict[str, _Wanted]:
    """The failed nodes that are to be tried again, by the node that the retry is called after."""
    found: dict[str, _Wanted] = {}
    for unique_id, failure in ledger.failures.items():
        if not _may_be_retried(situation, unique_id, failure):
            continue
        key, nodes = rebuilt(ledger, unique_id)
        due = after(failure.at, _wait(situation.rules, failure), now=situation.now)
        wanted = _Wanted(key=key, nodes=nodes, due=due, cause=failure.cause)
        found[key] = _merged(found[key], wanted, ledger) if key in found else wanted
    return found


def _merged(one: _Wanted, other: _Wanted, ledger: Ledger) -> _Wanted:
    """Both in one retry, unless only one of them can be executed now: the other must not keep it from that."""
    able = [each for each in (one, other) if ledger.ready(each.nodes) == each.nodes]
    if len(able) == 1:
        return able[0]
    cause = one.cause if one.cause == other.cause else ""
    return replace(other, nodes=one.nodes | other.nodes, due=max(one.due, other.due), cause=cause)


def _wait(rules: RetryRules, failure: Failure) -> timedelta:
    return rules.wait(failure.count) if failure.count else timedelta()


def _may_be_retried(situation: Situation, unique_id: str, failure: Failure) -> bool:
    episode = situation.episode
    if failure.count == 0:  # it failed before a person asked for a retry
        return episode.roots is None or any(_stands_for(situation, unique_id, root) for root in episode.roots)
    return failure.kind in situation.rules.reasons and failure.count <= situation.rules.limit


def _stands_for(situation: Situation, unique_id: str, root: str) -> bool:
    """Whether the node is the one that a person pointed at, or a test by which that one failed."""
    graph = situation.ledger.graph if situation.ledger is not None else None
    return unique_id == root or (graph is not None and root in graph.tested_nodes(unique_id))


def _new_failures(ledger: Ledger) -> set[str]:
    """The failures of this episode, by the node that their retry would be called after."""
    return {rebuilt(ledger, unique_id)[0] for unique_id, failure in ledger.failures.items() if failure.count}


# putting it together


def _repair(situation: Situation, ledger: Ledger, wanted: Mapping[str, _Wanted]) -> Next:
    left = _left(situation, ledger)
    lost_work = any(ledger.standings[one] is Standing.OPEN for one in left)
    retries = list(wanted.values())
    taken = ledger.related(ledger.at_work)
    free = [each for each in retries if _free(each.nodes, ledger, taken)]
    places = room(situation)
    decisions: list[Decision] = []
    dues: list[datetime] = []
    together = _in_one(retries, rules=situation.rules)
    for nodes, key, due in _batches(free, ledger, together=together):
        if due > situation.now:
            dues.append(due)
        elif places > len(decisions):
            decisions.append(decision(situation, kind=AttemptKind.RETRY, key=key, nodes=nodes, ahead=decisions))
    quiet = not free and not _retrying(situation)
    if left and (lost_work or quiet):
        due = _left_due(situation)
        if due > situation.now:
            dues.append(due)
        elif not _resuming(situation) and places > len(decisions):
            # Skip nodes that a live attempt reads: we may have forgotten that they are done, with the end of a log.
            decisions += _resumes(situation, ledger, left - taken, ahead=decisions, places=places, whole=lost_work)
    if ledger.lingering or (situation.exclusive and (retries or left)):
        dues += situation.lingering.values()
    return Next(
        decisions=tuple(decisions),
        due=min(dues, default=None),
        waiting=tuple(each.key for each in retries),
        resumed=left,
    )


def _left(situation: Situation, ledger: Ledger) -> frozenset[str]:
    """What one attempt could go on with now."""
    candidates = [
        one
        for one, standing in ledger.standings.items()
        if standing in (Standing.OPEN, Standing.BLOCKED) and _has_a_chance(situation, ledger, one)
    ]
    roots = situation.episode.roots
    if roots is not None:
        below = roots | ledger.graph.descendants(*roots)
        candidates = [one for one in candidates if one in below]
    return ledger.ready(candidates)


def _has_a_chance(situation: Situation, ledger: Ledger, unique_id: str) -> bool:
    """Whether another attempt may do what those before it did not: come to the node at all."""
    if unique_id in ledger.not_reached:
        return False
    failures = ledger.connection_failures.get(unique_id, 0)
    rules = situation.rules
    return failures == 0 or (RetryReason.CONNECTION_FAILED in rules.reasons and failures <= rules.limit)


def _free(nodes: frozenset[str], ledger: Ledger, taken: frozenset[str]) -> bool:
    """Whether the nodes can be executed: all that they need is done, and none of them is related to what is at work."""
    if any(ledger.standings[one] is Standing.BUSY or not ledger.satisfied(one, within=nodes) for one in nodes):
        return False
    return taken.isdisjoint(nodes)


def _in_one(retries: Sequence[_Wanted], *, rules: RetryRules) -> bool:
    """Whether so much failed, or all for one and the same cause, that a Job for each would be a storm."""
    causes = {each.cause for each in retries}
    return len(retries) > rules.together or (len(retries) > 1 and len(causes) == 1 and "" not in causes)


def _batches(free: Sequence[_Wanted], ledger: Ledger, *, together: bool) -> list[tuple[frozenset[str], str, datetime]]:
    if together and free:
        nodes = frozenset[str]().union(*(each.nodes for each in free))
        return [(nodes, SEVERAL, max(each.due for each in free))]
    batches: list[tuple[frozenset[str], str, datetime]] = []
    taken: set[str] = set()
    for each in free:
        if taken.isdisjoint(each.nodes):  # the others wait for their turn
            batches.append((each.nodes, each.key, each.due))
            taken |= ledger.related(each.nodes)
    return batches


def room(situation: Situation) -> int:
    """How many more attempts may be live, besides the one that runs the whole command."""
    live = situation.live
    if situation.exclusive:
        return 0 if live or situation.lingering else 1
    return situation.rules.parallelism - sum(each.attempt.kind is not AttemptKind.PRODUCER for each in live)


def _retrying(situation: Situation) -> bool:
    return any(each.attempt.kind is AttemptKind.RETRY for each in situation.live)


def _resuming(situation: Situation) -> bool:
    """Whether an attempt goes on with what is left already; where each node has its own there may be several."""
    resumes = [each for each in situation.live if each.attempt.kind is AttemptKind.RESUME]
    return bool(resumes) and not situation.rules.per_node


def _left_due(situation: Situation) -> datetime:
    """When what is left may be executed: after a pause when the last attempt did not reach the warehouse."""
    reasons = [each.outcome.reason for each in situation.recent if each.outcome is not None]
    if not reasons or reasons[-1] is not RunReason.CONNECTION_FAILED:
        return situation.now
    wait = situation.rules.wait(reasons.count(RunReason.CONNECTION_FAILED))
    return after(situation.recent[-1].ended_at, wait, now=situation.now)


def _resumes(
    situation: Situation,
    ledger: Ledger,
    left: frozenset[str],
    *,
    ahead: Sequence[Decision],
    places: int,
    whole: bool,
) -> list[Decision]:
    taken = frozenset[str]().union(*(each.nodes or () for each in ahead))
    left = ledger.ready(left - ledger.related(taken))
    if not left:
        return []
    if whole or not situation.rules.per_node:
        return [decision(situation, kind=AttemptKind.RESUME, key="", nodes=left, ahead=ahead)]
    decisions: list[Decision] = []
    for unique_id in (one for one in ledger.standings if one in left):
        if len(ahead) + len(decisions) >= places:
            break
        nodes = (ledger.build([unique_id]) if not ledger.graph.nodes[unique_id].test else {unique_id}) & left
        if nodes.isdisjoint(taken) and all(ledger.satisfied(one, within=nodes) for one in nodes):
            before = [*ahead, *decisions]
            decisions.append(decision(situation, kind=AttemptKind.RESUME, key="", nodes=frozenset(nodes), ahead=before))
            taken |= nodes
    return decisions


def decision(
    situation: Situation, *, kind: AttemptKind, key: str, nodes: frozenset[str], ahead: Sequence[Decision] = ()
) -> Decision:
    """The decision for a retry or resume of these nodes, as the next one after those `ahead` of it."""
    taken = {each.attempt.name for each in situation.assessments} | {each.name for each in ahead}
    number = 1
    while (name := _job_name(situation.run, kind=kind, key=key, number=number)) in taken:
        number += 1
    index = situation.last_index + len(ahead) + 1
    return Decision(
        index=index,
        kind=kind,
        name=name,
        nodes=nodes,
        microbatch_end=end_of(situation.assessments),
        left=left_of(situation.assessments, nodes),
        found=_found(situation),
    )


def _job_name(run: str, *, kind: AttemptKind, key: str, number: int) -> str:
    if kind is AttemptKind.RETRY:
        return names.retry_job_name(run, key=key, number=number)
    return names.resume_job_name(run, number=number)
