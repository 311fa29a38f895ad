"""How a run ended, over all its attempts.

The outcome of a single attempt is that of the run. Several are concluded from the last report of each node.
"""

from collections.abc import Sequence
from dataclasses import replace

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reason_table import BY_NODES, LOST, RESTING, STOPPED
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.error_texts import THE_CONNECTION, cause_of
from dbt_operator.plan import run_text
from dbt_operator.plan.attempt import Assessment
from dbt_operator.plan.ledger import Ledger, Standing
from dbt_operator.plan.outcome import Outcome, conclude_history
from dbt_operator.plan.situation import Situation


def conclude_run(situation: Situation, *, withheld: bool = False) -> Outcome:
    """The outcome of a run none of whose attempts lives, and for which nothing more is to be attempted.

    withheld: more would be, if what it needs were not gone with the database of a pod.
    """
    outcome = _concluded(situation)
    if not withheld:
        return outcome
    return replace(outcome, message=f"{outcome.message} {run_text.withheld(situation.pod_database)}")


def _concluded(situation: Situation) -> Outcome:
    last = situation.assessments[-1]
    if last.outcome is None:
        raise ValueError("a run with a live attempt has no outcome")
    finished = _finished_although_lost(situation)
    if finished is not None:
        return finished
    if len(situation.assessments) == 1 and last.outcome.reason not in RESTING:
        return last.outcome  # a suspension is how an attempt ends, and never a run: what failed before it is its end
    unfinished = _unfinished(situation)
    if unfinished is not None:
        return unfinished
    if situation.ledger is None:
        # What the run selects is not known, so what its attempts say of their parts proves nothing.
        whole = situation.last_whole
        return whole.outcome if whole is not None and whole.outcome is not None else last.outcome
    return conclude_history(situation.history)


def _unfinished(situation: Situation) -> Outcome | None:
    """Work is left that no attempt will take up: the last attempt that left it there says why."""
    ledger = situation.ledger
    if situation.restarts_used_up and (
        ledger is None or any(one is not Standing.DONE for one in ledger.standings.values())
    ):
        return _after_restarts(situation.lost[-1], situation)
    later: list[Assessment] = []
    for each in reversed(situation.recent):
        outcome = each.outcome
        if outcome is not None and outcome.reason not in LOST | STOPPED:
            unexplained = outcome.phase is RunPhase.FAILED and _all_succeeded(each) and not _cut_off_at_the_end(each)
            if unexplained or (outcome.reason not in BY_NODES and _left_something(each, ledger, later=later)):
                message = run_text.at_the_end(each.attempt.name, outcome.message, situation)
                return replace(outcome, message=message)
        later.append(each)
    return None


def _all_succeeded(assessment: Assessment) -> bool:
    """Whether every node of the attempt succeeded: if dbt calls that a failure, there is one that nobody sees."""
    nodes = assessment.state.nodes.values()
    return bool(nodes) and all(node.phase is NodePhase.SUCCEEDED for node in nodes)


def _cut_off_at_the_end(assessment: Assessment) -> bool:
    """Whether dbt did not reach the warehouse any more after its last node, all of which had succeeded."""
    outcome = assessment.outcome
    return outcome is not None and outcome.reason is RunReason.CONNECTION_FAILED and _all_succeeded(assessment)


def _after_restarts(lost: Assessment, situation: Situation) -> Outcome:
    outcome = lost.outcome
    assert outcome is not None  # noqa: S101 - only ended attempts are lost
    allowed = situation.rules.max_restarts
    if not allowed:
        return outcome
    times = f"{run_text.losses(situation)}, and spec.producer.maxRestarts ({allowed}) allows no further attempt."
    return replace(outcome, message=f"{run_text.stopped(times, situation)} The last one: {outcome.message}")


def _left_something(assessment: Assessment, ledger: Ledger | None, *, later: Sequence[Assessment]) -> bool:
    """Whether this attempt is the last one that had an unfinished node.

    A node that failed by itself, or waits for one that failed, does not count.
    """
    if ledger is None:
        return True
    return any(
        standing is not Standing.DONE
        and assessment.attempt.covers(unique_id)
        and ledger.satisfied(unique_id)
        and not _failed_by_itself(unique_id, assessment)
        and not any(other.attempt.covers(unique_id) for other in later)
        for unique_id, standing in ledger.standings.items()
    )


def _failed_by_itself(unique_id: str, assessment: Assessment) -> bool:
    node = assessment.state.nodes.get(unique_id)
    if node is None or node.phase is not NodePhase.FAILED or node.stopped:
        return False
    return cause_of(node.message) != THE_CONNECTION


def _last_ended(situation: Situation) -> Assessment:
    """The attempt that ended last, which need not be the one that was decided on last."""
    return max(situation.assessments, key=lambda each: each.ended_at or situation.now)


def _finished_although_lost(situation: Situation) -> Outcome | None:
    """dbt had reported the end of every node before its pod or the warehouse was lost, or it was stopped.

    The nodes are as dbt reported them. Whether the project's on-run-end hooks ran is not known, so a project that has
    some is not called successful. Where there are none nothing was left to do: some adapters connect once more all the
    same, and a dbt that cannot ends with an error. Where dbt has selected nothing that is executed, ephemeral models
    alone, no node tells that it came beyond the hooks at its start.
    """
    ledger, last = situation.ledger, _last_ended(situation)
    if ledger is None or last.outcome is None:
        return None
    interrupted = last.outcome.reason in LOST | STOPPED or _cut_off_at_the_end(last)
    unfinished = (Standing.OPEN, Standing.BUSY)
    if not interrupted or any(standing in unfinished for standing in ledger.standings.values()):
        return None
    outcome = conclude_history(situation.history)
    if outcome.phase is not RunPhase.SUCCEEDED:
        return outcome if ledger.failures else None
    hooks = next((each.state.end_hooks for each in reversed(situation.assessments) if each.state.graph), None)
    finished = last.state.finished
    if (hooks == 0 and ledger.standings) or (finished is not None and finished.success):
        what = "warehouse" if _cut_off_at_the_end(last) else "pod"
        return replace(outcome, message=f"{outcome.message} The {what} was lost after that.")
    done, which = ("All nodes succeeded", "on-run-end hooks") if ledger.standings else ("No node was to run", "hooks")
    unproven = f"{done}, but dbt did not come to say that the project's {which} have run."
    wished = last.outcome.reason in RESTING | {RunReason.CANCELLED}  # which is no way to have failed
    reason = RunReason.HOOK_FAILED if wished else last.outcome.reason
    return Outcome(phase=RunPhase.FAILED, reason=reason, message=f"{unproven} {last.outcome.message}")
