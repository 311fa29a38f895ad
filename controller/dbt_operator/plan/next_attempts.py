"""Which attempts a run needs next: retries of what failed, and attempts that go on with what is left.

Every attempt that is asked for here uses up something that is finite: a retry one of the node's tries, a resume after
a lost pod one of the restarts, a resume of what was blocked the success of what had blocked it. So a run comes to an
end whatever happens to its attempts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reason_table import BY_NODES, LOST, RESTING, STOPPED
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import Downstream, RetryReason
from dbt_operator.dbt.history import BEGUN
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.decisions import new_producer, new_retry, new_tests, stage_of
from dbt_operator.plan.groups import attempts_by_group
from dbt_operator.plan.ledger import Ledger, Standing
from dbt_operator.plan.overrides import resumes_by_pod
from dbt_operator.plan.retries import Wanted, all_in_one, batches, new_failures, wanted_retries
from dbt_operator.plan.situation import Situation, after


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What is to be attempted. Without decisions and without `due` nothing more is."""

    decisions: tuple[Decision, ...] = ()
    due: datetime | None = None  # when there is more to decide by the clock alone
    waiting: tuple[str, ...] = ()  # the nodes whose retry is waited for
    withheld: bool = False  # there would be more, but what it needs is gone with the database of a pod
    resumed: frozenset[str] = frozenset()  # what an attempt to come will execute of what is open or was blocked

    @property
    def nothing_more(self) -> bool:
        """Whether nothing more is to be attempted, once the live attempts have ended."""
        return not self.decisions and self.due is None


NOTHING = Upcoming()


def next_attempts(situation: Situation) -> Upcoming:
    """What the run needs next, given that none of its ended attempts is unsealed."""
    upcoming = _needed(situation)
    not_before = _after_losses(situation)
    if upcoming.decisions and not_before > situation.now:
        return replace(upcoming, decisions=(), due=not_before)
    return upcoming


def _after_losses(situation: Situation) -> datetime:
    """When work may be taken up again after a pod was lost: at once the first time, then after a growing pause."""
    if situation.losses <= 1:
        return situation.now
    pause = situation.rules.retry.backoff.pause(situation.losses - 1)
    return after(situation.lost[-1].ended_at, pause, now=situation.now)


def _needed(situation: Situation) -> Upcoming:
    """What is to be attempted, whether or not a pause is still to pass."""
    if not situation.assessments:
        return Upcoming(decisions=(new_producer(situation),))
    if situation.restarts_used_up:
        return NOTHING
    ledger = situation.ledger
    if ledger is None or situation.unlisted:
        return replace(_from_the_start(situation), resumed=frozenset(_waiting(ledger) if ledger is not None else ()))
    retries = wanted_retries(situation, ledger)
    if situation.rules.fail_fast and not new_failures(ledger) <= retries.keys():
        return NOTHING  # a failure that stays: the user wants nothing more to be executed after it
    stages = situation.rules.executing
    work = list(retries.values())
    upcoming = _by_stage(situation, ledger, work) if stages else _repair(situation, ledger, work)
    return _without_a_database(situation) if situation.pod_database and not upcoming.nothing_more else upcoming


# the whole command again


def _without_a_database(situation: Situation) -> Upcoming:
    """What is to come where the database is gone with its pod, so that retries and resumes would find nothing.

    Only the whole command can do without the database. It is run again if nothing had been built before, and after a
    suspension: who ends that wants the run to go on.
    """
    last = situation.assessments[-1]
    begun_nothing = last.attempt.whole and all(node.phase not in BEGUN for node in last.state.nodes.values())
    again = _from_the_start(situation) if last.ended_as(RESTING) or begun_nothing else NOTHING
    return replace(again, withheld=again.nothing_more)


def _from_the_start(situation: Situation) -> Upcoming:
    """What the run selects is not known. Only an attempt at the whole command can report that."""
    if situation.live:
        return NOTHING
    last, due = situation.last_whole, situation.now
    # Whoever has suspended the run lets it go on.
    if not situation.rules.repeats and last is not None and not last.ended_as({RunReason.SUSPENDED}):
        return NOTHING
    if last is not None and last.ended_as({RunReason.CONNECTION_FAILED}):
        rules = situation.rules.retry
        count = sum(each.ended_as({RunReason.CONNECTION_FAILED}) for each in situation.recent)
        allowed = RetryReason.CONNECTION_FAILED in rules.reasons and count <= rules.limit
        due = after(last.ended_at, rules.backoff.pause(count), now=situation.now)
    else:
        allowed = last is None or last.ended_as(LOST | RESTING)
    if not allowed:
        return NOTHING
    due = max(due, *situation.lingering.values(), situation.now)
    return Upcoming(due=due) if due > situation.now else Upcoming(decisions=(new_producer(situation),))


# retries, and what is left


def _by_stage(situation: Situation, ledger: Ledger, retries: Sequence[Wanted]) -> Upcoming:
    """What is needed in the first stage that has work. But what is at work, of whatever stage, comes to its end first.

    What a retry executes of a later stage is executed there: the tests of a node that is built again.
    """
    stages = situation.rules.executing
    at_work = {each.attempt.stage for each in situation.live}
    for stage in sorted(stages, key=lambda one: one not in at_work):
        mine = [each for each in retries if stage_of(situation, each.nodes) is stage]
        parts = [replace(each, nodes=stage.rules.of(each.nodes)) for each in mine]
        upcoming = _repair(situation, ledger, parts, stage=stage)
        if stage in at_work or not upcoming.nothing_more:
            return replace(upcoming, resumed=upcoming.resumed | _not_begun(situation, ledger))
        if _broken_off(ledger, stage):
            break
    return NOTHING


def _broken_off(ledger: Ledger, stage: Stage) -> bool:
    """Whether dbt itself ended with an error before it came to nodes of the stage: the next stage would meet it too."""
    undone = (one for one in stage.rules.of(ledger.standings) if ledger.standings[one] is Standing.OPEN)
    # An attempt after that may have met the error no more.
    return any(reason not in _EXPLAINED for one in undone for reason in ledger.missed.get(one, ())[-1:])


# An attempt ended well, by its nodes, or by what others did to it.
_EXPLAINED = BY_NODES | LOST | STOPPED


def _not_begun(situation: Situation, ledger: Ledger) -> frozenset[str]:
    """What is executed in stages of which no attempt was decided on yet, if what it needs succeeds."""
    begun = {each.attempt.stage for each in situation.assessments}
    ahead = [stage for stage in situation.rules.executing if stage not in begun]
    return frozenset[str]().union(*(stage.rules.of(_waiting(ledger)) for stage in ahead))


_LEFT = (Standing.OPEN, Standing.BLOCKED)


def _waiting(ledger: Ledger) -> list[str]:
    """What has come to no end that stands, and may be executed yet."""
    return [one for one, standing in ledger.standings.items() if standing in _LEFT]


def _repair(situation: Situation, ledger: Ledger, retries: Sequence[Wanted], *, stage: Stage | None = None) -> Upcoming:
    candidates = _candidates(situation, ledger, stage)
    left, per_node = ledger.ready(candidates), situation.rules.per_node is not None
    coming = _coming(ledger, candidates) if per_node else left
    lost_work = any(ledger.standings[one] is Standing.OPEN for one in left)
    taken = ledger.related(ledger.at_work)
    free = [each for each in retries if _free(each.nodes, ledger, taken)]
    decisions: list[Decision] = []
    dues: list[datetime] = []
    for batch in batches(free, ledger, together=not per_node and all_in_one(retries, situation.rules.retry)):
        if batch.due > situation.now:
            dues.append(batch.due)
        elif situation.room > len(decisions):
            made = new_retry(situation, key=batch.key, nodes=batch.nodes, pod=batch.pod, ahead=decisions)
            decisions.append(made)
            taken |= ledger.related(batch.nodes)
    if left and (per_node or lost_work or not (free or _live(situation, AttemptKind.RETRY))):
        due = _left_due(situation)
        if due > situation.now:
            dues.append(due)
        elif per_node:
            late = {one: due for one in left if (due := _node_due(situation, one)) > situation.now}
            dues += late.values()
            now = ledger.ready(left - taken.union(late))
            decisions += attempts_by_group(situation, ledger, now, coming=coming, ahead=decisions)
        else:
            # Skip nodes that a live attempt reads: we may have forgotten that they are done, with the end of a log.
            free_left = left - taken
            if stage is Stage.TEST:
                decisions += _tests(situation, ledger, free_left, ahead=decisions)
            else:
                decisions += _resumes(situation, ledger, free_left, ahead=decisions, in_one=lost_work)
    if ledger.lingering or (situation.exclusive and (retries or left)):
        dues += situation.lingering.values()
    return Upcoming(
        decisions=tuple(decisions),
        due=min(dues, default=None),
        waiting=tuple(each.key for each in retries),
        resumed=left.union(coming),
    )


def _candidates(situation: Situation, ledger: Ledger, stage: Stage | None) -> list[str]:
    """What is not done, and may be reached by another attempt."""
    candidates = [
        one
        for one, standing in ledger.standings.items()
        if (standing in _LEFT or (standing is Standing.UNREPORTED and _asked_for(situation, one)))
        and _has_a_chance(situation, ledger, one)
    ]
    if stage is not None:
        candidates = list(stage.rules.of(candidates))
    roots = situation.episode.roots
    if roots is not None:
        # What is executed because of a source are roots themselves.
        below = roots | ledger.graph.descendants(*(one for one in roots if not one.startswith("source.")))
        candidates = [one for one in candidates if one in below]
    return candidates


def _coming(ledger: Ledger, candidates: Sequence[str]) -> frozenset[str]:
    """Those of the candidates that nothing holds back which stays as it is, or waits for a retry of its own."""
    known = {*candidates, *ledger.passed_over}
    fine = (Standing.DONE, Standing.BUSY)
    bad = [one for one, standing in ledger.standings.items() if standing not in fine and one not in known]
    return frozenset(candidates) - ledger.graph.order.needing(*bad)


def _node_due(situation: Situation, unique_id: str) -> datetime:
    """When a node may be taken up again that was lost with its own pod: at once the first time, then after a pause."""
    lost = situation.lost_with(unique_id)
    if len(lost) <= 1:
        return situation.now
    return after(lost[-1].ended_at, situation.rules.retry.backoff.pause(len(lost) - 1), now=situation.now)


def _asked_for(situation: Situation, unique_id: str) -> bool:
    """Whether a person has asked for the node, or for all that is not done, of which dbt had said nothing before."""
    report, episode = situation.history.report(unique_id), situation.episode
    if report is None or report.attempt >= episode.since:
        return False
    return episode.roots is None or any(each.attempt.covers(unique_id) for each in situation.recent)


def _has_a_chance(situation: Situation, ledger: Ledger, unique_id: str) -> bool:
    """Whether another attempt may reach the node, which those before it did not."""
    if situation.given_up(unique_id):
        return False
    reasons, rules = ledger.missed.get(unique_id, ()), situation.rules.retry
    if any(reason is not RunReason.CONNECTION_FAILED for reason in reasons):
        return False
    return not reasons or (RetryReason.CONNECTION_FAILED in rules.reasons and len(reasons) <= rules.limit)


def _free(nodes: frozenset[str], ledger: Ledger, taken: frozenset[str]) -> bool:
    """Whether the nodes can be executed: all that they need is done, and none of them is related to what is at work."""
    if any(ledger.standings[one] is Standing.BUSY or not ledger.satisfied(one, within=nodes) for one in nodes):
        return False
    return taken.isdisjoint(nodes)


def _live(situation: Situation, kind: AttemptKind) -> bool:
    return any(each.attempt.kind is kind for each in situation.live)


def _left_due(situation: Situation) -> datetime:
    """When what is left may be executed: after a pause when the last attempt did not reach the warehouse."""
    ended = [each for each in situation.recent if not each.live]
    unreachable = {RunReason.CONNECTION_FAILED}
    if not ended or not ended[-1].ended_as(unreachable):
        return situation.now
    pause = situation.rules.retry.backoff.pause(sum(each.ended_as(unreachable) for each in ended))
    return after(situation.recent[-1].ended_at, pause, now=situation.now)


def _tests(situation: Situation, ledger: Ledger, left: frozenset[str], *, ahead: Sequence[Decision]) -> list[Decision]:
    """The attempt at all tests that are left: that with which their stage begins, or those that go on with it."""
    room = situation.room - len(ahead)
    if not left or room < 1 or _live(situation, AttemptKind.RESUME):
        return []
    if any(each.attempt.stage is Stage.TEST for each in situation.assessments):
        return resumes_by_pod(situation, ledger, left, ahead=ahead)[:room]
    return [new_tests(situation, nodes=left, ahead=ahead)]


def _resumes(
    situation: Situation, ledger: Ledger, left: frozenset[str], *, ahead: Sequence[Decision], in_one: bool
) -> list[Decision]:
    """The attempts that go on with what is left: one, or one for each node where `downstream` is PerNode.

    in_one: one in any case, as it takes up the work of a lost attempt; or one for each kind of pod.
    """
    per_node, room = situation.rules.retry.downstream is Downstream.PER_NODE, situation.room - len(ahead)
    left = ledger.ready(left)
    if not left or room < 1 or (not per_node and _live(situation, AttemptKind.RESUME)):
        return []
    if in_one or not per_node:
        return resumes_by_pod(situation, ledger, left, ahead=ahead)[:room]
    return attempts_by_group(situation, ledger, left, coming=left, ahead=ahead)
