"""How a run ends: by the worst reason for which something is not done, else by its last hooks, else with success.

| why something is not done, the worst first | how the run ends |
|---|---|
| pods were lost more often than the run may take up the work again | as the last loss |
| an attempt ended by itself without it, or failed in something that is no node | as the newest such attempt |
| nodes, tests or hooks failed | by them |
| the attempt that had it was lost or stopped, and may not be followed by another one | as that attempt |
| nothing: but the last attempt was interrupted, maybe before the hooks at its end | as that attempt |
| nothing | with success |
"""

from collections.abc import Sequence
from dataclasses import replace

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reason_table import BY_NODES, LOST, RESTING, STOPPED
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.error_texts import THE_CONNECTION
from dbt_operator.dbt.graph import is_test
from dbt_operator.dbt.statuses import STALE
from dbt_operator.plan import run_text
from dbt_operator.plan.attempt import Assessment
from dbt_operator.plan.ledger import Ledger, Standing, node_cause
from dbt_operator.plan.outcome import Outcome, conclude_history
from dbt_operator.plan.situation import Situation


def conclude_run(situation: Situation, *, withheld: bool = False) -> Outcome:
    """The outcome of a run none of whose attempts lives, and for which nothing more is to be attempted.

    withheld: more would be, if what it needs were not gone with the database of a pod.
    """
    outcome = _concluded(situation)
    missed = _not_asked_for(situation) if outcome.phase is RunPhase.SUCCEEDED else []
    if missed:
        tests = all(map(is_test, missed))
        what = f"{len(missed)} {'test' if tests else 'node'}{' was' if len(missed) == 1 else 's were'}"
        reason = RunReason.TESTS_FAILED if tests else RunReason.NODES_FAILED
        outcome = Outcome(phase=RunPhase.FAILED, reason=reason, message=f"{what} not executed.")
    if not situation.rules.repeats and outcome.reason in LOST | RESTING:
        reason = outcome.reason if outcome.reason in LOST else RunReason.POD_LOST
        message = f"{outcome.message} {run_text.NOT_REPEATED}"
        outcome = Outcome(phase=RunPhase.FAILED, reason=reason, message=message)
    added = [run_text.withheld(situation.pod_database)] if withheld else []
    return replace(outcome, message=" ".join((outcome.message, *added, *run_text.ignored(situation.history))))


def _concluded(situation: Situation) -> Outcome:
    ledger, whole = situation.ledger, situation.last_whole
    if ledger is None and whole is not None and whole.end.phase is RunPhase.SUCCEEDED:
        return _without_later_stages(situation) if len(situation.rules.stages) > 1 else whole.end
    if situation.restarts_used_up and (
        ledger is None or any(ledger.standings[one] in _LEFT for one in ledger.undone())
    ):
        return _after_restarts(situation.lost[-1].end, situation)
    if situation.unlisted and whole is not None:
        return _as(whole, situation)
    attempts = _leaving_something(situation, ledger)
    by_themselves = [each for each in attempts if each.end.reason not in LOST | STOPPED]
    if by_themselves:
        return _as(by_themselves[-1], situation)
    if ledger is None:
        # What the run selects is not known, so what its attempts report of their parts proves nothing.
        return (whole or situation.assessments[-1]).end
    given_up = [one for one in ledger.undone() if situation.given_up(one)]
    if given_up and not ledger.failures:
        return _after_losses(situation, given_up)
    if attempts and not ledger.failures:
        return _as(attempts[-1], situation)
    last = _last_ended(situation)
    only_listed = last.attempt.stage is Stage.LIST and bool(situation.history.later)
    if len(situation.assessments) == 1 and not only_listed and not _interrupted(last):
        return last.end
    outcome = conclude_history(situation.history)
    success = outcome.phase is RunPhase.SUCCEEDED
    return _if_hooks_have_run(outcome, last, situation, ledger) if success and _interrupted(last) else outcome


def _not_asked_for(situation: Situation) -> list[str]:
    """What a later stage executes, and no attempt was asked for."""
    ledger, later = situation.ledger, situation.history.later
    asked = [each.attempt for each in situation.assessments]
    done = ledger.standings if ledger is not None else {}
    return [
        one
        for one in later
        if done.get(one) not in (Standing.DONE, Standing.PASSED_OVER)
        and not any(attempt.covers(one) for attempt in asked)
    ]


def _without_later_stages(situation: Situation) -> Outcome:
    """The first stage has succeeded, and what belongs to the others is not known: that is no success of the run."""
    per_node = situation.rules.per_node is not None
    done, what = ("No node", "nodes") if per_node else ("Everything was built, and no test", "tests")
    message = (
        f"{done} was executed: the list of the {what} was lost with a part of the log. A retry that you ask for runs"
        " all of it again."
    )
    return Outcome(phase=RunPhase.FAILED, reason=RunReason.LOG_UNREADABLE, message=message)


_LEFT = frozenset({Standing.OPEN, Standing.BUSY, Standing.BLOCKED})


def _as(assessment: Assessment, situation: Situation) -> Outcome:
    outcome = assessment.end
    if len(situation.assessments) == 1:
        return outcome
    return replace(outcome, message=run_text.at_the_end(assessment.attempt.name, outcome.message, situation))


def _after_restarts(lost: Outcome, situation: Situation) -> Outcome:
    allowed = situation.rules.max_restarts
    if not allowed:
        return lost
    times = f"{run_text.losses(situation)}, and spec.producer.maxRestarts ({allowed}) allows no further attempt."
    return replace(lost, message=f"{run_text.stopped(times, situation)} The last one: {lost.message}")


def _after_losses(situation: Situation, nodes: Sequence[str]) -> Outcome:
    """Nodes were lost, each with its own pod, more often than they may be taken up again."""
    lost = situation.lost_with(nodes[0])
    allowed = situation.rules.max_restarts
    what = run_text.named([situation.history.graph.nodes[one].name for one in nodes] if situation.history.graph else [])
    limit = f"spec.producer.maxRestarts ({allowed}) allows no further one"
    times = f"The pod of {what} was lost {len(lost)} times, and {limit}."
    return replace(lost[-1].end, message=f"{run_text.stopped(times, situation)} The last one: {lost[-1].end.message}")


def _leaving_something(situation: Situation, ledger: Ledger | None) -> list[Assessment]:
    """The attempts because of which something is not done, oldest first; not those whose nodes failed by themselves."""
    recent = situation.recent
    if ledger is None:
        return [each for each in recent if each.end.reason not in BY_NODES or _failed_in_no_node(each)]
    had: set[int] = set()
    for unique_id in ledger.undone():
        last = next((index for index in reversed(range(len(recent))) if recent[index].attempt.covers(unique_id)), None)
        if last is not None and not _failed_by_itself(unique_id, recent[last]):
            had.add(last)
    return [
        each
        for index, each in enumerate(recent)
        if (index in had and each.end.reason not in BY_NODES) or _failed_in_no_node(each)
    ]


def _failed_in_no_node(assessment: Assessment) -> bool:
    """Whether dbt calls the attempt a failure although all of its nodes succeeded."""
    outcome = assessment.end
    return outcome.phase is RunPhase.FAILED and not _interrupted(assessment) and _all_succeeded(assessment)


def _failed_by_itself(unique_id: str, assessment: Assessment) -> bool:
    node = assessment.state.nodes.get(unique_id)
    failed = node is not None and node.phase is NodePhase.FAILED and not node.stopped
    return failed and (node_cause(node) if node is not None else "") != THE_CONNECTION


def _all_succeeded(assessment: Assessment) -> bool:
    nodes = [node for node in assessment.state.nodes.values() if node.status != STALE]
    return bool(nodes) and all(node.phase is NodePhase.SUCCEEDED for node in nodes)


def _interrupted(assessment: Assessment) -> bool:
    """Whether dbt did not come to its end; or lost the warehouse after its last node, all of which had succeeded."""
    reason = assessment.end.reason
    return reason in LOST | STOPPED or (reason is RunReason.CONNECTION_FAILED and _all_succeeded(assessment))


def _last_ended(situation: Situation) -> Assessment:
    """The attempt that ended last, which need not be the one that was decided on last."""
    return max(situation.assessments, key=lambda each: each.ended_at or situation.now)


def _if_hooks_have_run(success: Outcome, last: Assessment, situation: Situation, ledger: Ledger) -> Outcome:
    """A success, unless the hooks at the project's end may not have run in the last attempt.

    Without such hooks nothing was left to do. Some adapters connect once more, and dbt ends with an error if it cannot.
    If nothing was to be executed, ephemeral models alone, no node proves that dbt passed the hooks at its start.
    """
    hooks = next((each.state.end_hooks for each in reversed(situation.assessments) if each.state.graph), None)
    finished = last.state.finished
    if (hooks == 0 and ledger.standings) or (finished is not None and finished.success):
        what = "warehouse" if last.end.reason is RunReason.CONNECTION_FAILED else "pod"
        return replace(success, message=f"{success.message} The {what} was lost after that.")
    done, which = ("All nodes succeeded", "on-run-end hooks") if ledger.standings else ("No node was to run", "hooks")
    unproven = f"{done}, but dbt did not come to say that the project's {which} have run."
    wished = last.end.reason in RESTING | {RunReason.CANCELLED, RunReason.SUPERSEDED}  # which is no reason of a failure
    reason = RunReason.HOOK_FAILED if wished else last.end.reason
    return Outcome(phase=RunPhase.FAILED, reason=reason, message=f"{unproven} {last.end.message}")
