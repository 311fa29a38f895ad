"""Retries that a person asks for with the annotation: which of them can be answered now, and how."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from dbt_operator.api.phases import RunPhase
from dbt_operator.dbt.graph import is_test
from dbt_operator.plan.attempt import Decision, Request
from dbt_operator.plan.decisions import SEVERAL, first_part, new_producer, new_retry
from dbt_operator.plan.groups import attempts_by_group
from dbt_operator.plan.ledger import Ledger, Standing
from dbt_operator.plan.overrides import pod_of, resumes_by_pod
from dbt_operator.plan.retries import build_of, retry_of
from dbt_operator.plan.situation import Situation


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of the requests. `handled`: those that a decision answers, and those with nothing to be done."""

    decisions: tuple[Decision, ...] = ()
    handled: tuple[Request, ...] = ()
    due: datetime | None = None  # when the others can be answered; None: not by waiting for the clock


NO_ANSWER = Answer()


def answer(situation: Situation, requests: Sequence[Request], *, run_ends: bool) -> Answer:
    """Answer the requests. `run_ends`: without them the run ends now, or has ended."""
    asked = _unanswered(situation, requests)
    if asked and run_ends and situation.lingering:
        return Answer(due=max(situation.lingering.values()))
    if situation.pod_database:
        return _from_the_start(situation, asked) if run_ends else NO_ANSWER
    everything = [request for request in asked if request.unique_id is None]
    if everything:
        # This includes the requests for single nodes. A live run first does by itself what it can.
        return _all(situation, asked) if run_ends else NO_ANSWER
    return _nodes(situation, asked, run_ends=run_ends) if asked else NO_ANSWER


def _unanswered(situation: Situation, requests: Sequence[Request]) -> tuple[Request, ...]:
    answered = {request for each in situation.assessments for request in each.attempt.decision.requests}
    return tuple(request for request in requests if request not in answered)


def _all(situation: Situation, asked: tuple[Request, ...]) -> Answer:
    ledger = situation.ledger
    if ledger is None:
        return _from_the_start(situation, asked)
    left = {one for one, standing in ledger.standings.items() if standing is not Standing.DONE}
    for unique_id in ledger.failures:
        left |= retry_of(ledger, unique_id)[1]
    if ledger.passed_over:
        left |= ledger.too_old  # looked at anew, before what was passed over for them
    nodes = first_part(situation, ledger.ready(left))
    if not nodes:
        return Answer(handled=asked)
    by_group = attempts_by_group(situation, ledger, nodes, coming=nodes) if situation.rules.per_node else []
    first, *others = by_group or resumes_by_pod(situation, ledger, nodes)
    # What is left for want of room follows by itself: with the first one an episode begins in which it is all due.
    return Answer((replace(first, requests=asked), *others[: max(0, situation.room - 1)]), asked)


def _from_the_start(situation: Situation, asked: tuple[Request, ...]) -> Answer:
    """Run the whole command, as nothing else can answer the requests; unless all that they name is done."""
    due = tuple(request for request in asked if _undone(situation, request.unique_id))
    if not due:
        return Answer(handled=asked)
    return Answer((replace(new_producer(situation), requests=due),), asked)


def _undone(situation: Situation, unique_id: str | None) -> bool:
    """Whether something of the node or one of its tests is not done; None: of the run."""
    ledger, last = situation.ledger, situation.last_whole
    if ledger is None:
        succeeded = last is not None and not last.live and last.end.phase is RunPhase.SUCCEEDED
        return not succeeded or len(situation.rules.stages) > 1
    tests = (test.unique_id for test in ledger.graph.tests_of(unique_id or ""))
    nodes = ledger.standings if unique_id is None else (unique_id, *tests)
    return any(ledger.standings.get(one, Standing.DONE) is not Standing.DONE for one in nodes)


def _nodes(situation: Situation, asked: tuple[Request, ...], *, run_ends: bool) -> Answer:
    ledger = situation.ledger
    if ledger is None:
        return Answer(handled=asked if run_ends else ())
    wanted = {request: _cover(ledger, request.unique_id or "", run_ends=run_ends) for request in asked}
    # What is at work, or done, needs no retry. What waits for another node may still be executed without one.
    unneeded = tuple(request for request, nodes in wanted.items() if nodes is not None and not nodes)
    due = {request: nodes for request, nodes in wanted.items() if nodes}
    if not due or situation.room < 1:
        return Answer(handled=unneeded)
    # Those whose nodes want another pod are answered in a turn of their own.
    pods = {request: pod_of(situation.rules, ledger.graph, request.unique_id or "") for request in due}
    pod = next(iter(pods.values()))
    due = {request: nodes for request, nodes in due.items() if pods[request] == pod}
    asked_for = sorted({request.unique_id or "" for request in due})
    key = asked_for[0] if len(asked_for) == 1 else SEVERAL
    roots = tuple(sorted(_roots(ledger, asked_for)))
    nodes = first_part(situation, frozenset[str]().union(*due.values()))
    made = new_retry(situation, key=key, nodes=nodes, pod=pod)
    return Answer((replace(made, requests=tuple(due), roots=roots if run_ends else None),), (*unneeded, *due))


_LEFT = frozenset({Standing.OPEN, Standing.BLOCKED, Standing.UNREPORTED})


def _roots(ledger: Ledger, asked_for: Sequence[str]) -> frozenset[str]:
    """The nodes that are asked for, with what was passed over, or was held back by a source, together with them.

    And the sources that have to be looked at before.
    """
    held = (one for one, causes in ledger.causes.items() for each in causes if each in asked_for and _source(each))
    together = (_passed_over_with(ledger, one) for one in asked_for)
    return frozenset(asked_for).union(held, ledger.undecided, *together)


def _source(unique_id: str) -> bool:
    return unique_id.startswith("source.")


def _passed_over_with(ledger: Ledger, unique_id: str) -> frozenset[str]:
    """What to execute for a node that was passed over, or for a source that is stale: none where it is neither.

    The sources are looked at anew; what is between them and the node was passed over too, and what is below it follows,
    as far as nothing else had kept it from being executed.
    """
    graph, passed_over, held = ledger.graph, ledger.passed_over, ledger.passed_over | ledger.too_old
    if unique_id in ledger.too_old:
        wanted = passed_over & graph.descendants(unique_id)
    elif unique_id in passed_over:
        wanted = frozenset({unique_id})
    else:
        return frozenset()
    needed = wanted | {unique_id} | (held & graph.ancestors(*wanted))
    tests = (one for one in graph.descendants(*needed) if is_test(one))
    below = passed_over & graph.descendants(unique_id).union(tests)
    return needed.union(one for one in below if held & graph.ancestors(one) <= needed | below)


def _cover(ledger: Ledger, unique_id: str, *, run_ends: bool) -> frozenset[str] | None:
    """What to execute for the node. Empty: nothing has to be done. None: that is not known yet, ask again later."""
    if unique_id not in ledger.graph.nodes:
        return frozenset()
    standing = ledger.standings.get(unique_id)
    tests = [test.unique_id for test in ledger.graph.tests_of(unique_id)]
    together = _passed_over_with(ledger, unique_id)
    if together:
        nodes = ledger.ready(build_of(ledger, sorted(together)) | together)
        wanted = nodes if unique_id in nodes else frozenset[str]()
        return wanted if run_ends else None
    failing = [one for one in (unique_id, *tests) if one in ledger.failures]
    if failing:
        nodes = frozenset[str]().union(*(retry_of(ledger, one)[1] for one in failing))
    elif standing in _LEFT:
        nodes = build_of(ledger, [unique_id])
    elif standing is None:  # dbt does not execute it, only its tests
        nodes = frozenset(one for one in tests if ledger.standings.get(one) in _LEFT)
    else:
        nodes = frozenset()
    if not nodes:
        return nodes
    if run_ends:
        nodes |= ledger.undecided  # the run has ended before it had looked at them
    if any(ledger.standings.get(one) is Standing.BUSY for one in nodes):
        return frozenset() if not failing else None
    satisfied = all(ledger.satisfied(one, within=nodes) for one in nodes)
    if satisfied and (failing or run_ends) and nodes.isdisjoint(ledger.related(ledger.at_work)):
        return nodes
    return frozenset() if run_ends else None
