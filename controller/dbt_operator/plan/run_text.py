"""What a live run says of itself between its attempts."""

from collections.abc import Sequence

from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import executed_counts, node_views
from dbt_operator.plan.attempt import Assessment, Decision
from dbt_operator.plan.next_attempts import Upcoming
from dbt_operator.plan.situation import Situation

_NAMED = 3


def suspended(history: History) -> str:
    """About a run that rests because its spec says so."""
    counts, what = executed_counts(views=node_views(state=history) if history.attempts else {})
    if not counts.total:
        return "The run is suspended; nothing has been executed yet."
    return f"The run is suspended; {counts.good} of {counts.total} {what}s have succeeded."


def stopped(message: str, situation: Situation) -> str:
    """About a run that was stopped between two attempts."""
    progress = _progress(situation)
    return f"{message} {progress}." if progress else f"{message} dbt had not executed any node."


def at_the_end(name: str, message: str, situation: Situation) -> str:
    """What one of several attempts said, as the reason why the run ended: its counts are those of its own part."""
    progress = _progress(situation)
    return message if progress in message else f"{name}: {message} In the run as a whole {progress}."


def losses(situation: Situation) -> str:
    """How many pods of the run were lost. Of one that never started nothing was lost."""
    lost = situation.lost
    unstarted = sum(each.attempt.started is None for each in lost)
    if unstarted == len(lost):
        return f"{unstarted} pods did not start" if unstarted > 1 else "A pod did not start"
    never = f", {unstarted} of which had not started" if unstarted else ""
    return f"{len(lost)} pods were lost{never}"


def _progress(situation: Situation) -> str:
    history = situation.history
    counts, what = executed_counts(views=node_views(state=history) if history.attempts else {})
    if not counts.total:
        return ""
    failed = f", {counts.failed} had failed" if counts.failed else ""
    return f"{counts.good} of {counts.total} {what}s had succeeded{failed}"


def waiting(upcoming: Upcoming, situation: Situation) -> str:
    """About a run that waits for the clock."""
    when = f" at {upcoming.due:%H:%M:%S} UTC" if upcoming.due is not None else ""
    ledger = situation.ledger
    if upcoming.waiting and ledger is not None:
        failed = [ledger.graph.nodes[unique_id].name for unique_id in upcoming.waiting]
        verb = "is" if len(failed) == 1 else "are"
        return f"{named(failed)} failed and {verb} tried again{when}."
    return f"{_why_anew(situation)}The work is taken up again{when}."


def _why_anew(situation: Situation) -> str:
    """Why the work was not done by the attempt that ended last."""
    ended = [each for each in situation.recent if each.outcome is not None]
    last = max(ended, key=lambda each: each.ended_at or situation.now, default=None)
    outcome = last.outcome if last is not None else None
    if outcome is None or outcome.phase is not RunPhase.FAILED:
        return ""
    return f"{outcome.message.rstrip('.')}. "


def ignored(history: History) -> tuple[str, ...]:
    """What the run or the project asks for, and nothing is done about."""
    adapter = next((state.deadlines_ignored for state in history.attempts if state.deadlines_ignored), "")
    text = "Deadlines of nodes are not kept to, as dbt cannot cancel the queries of one node with the adapter"
    return (
        *([f"{text} {adapter}."] if adapter else []),
        *_own_job_ids(history),
        *_ignored_settings(history),
    )


def _own_job_ids(history: History) -> Sequence[str]:
    program = next((state.job_ids_of for state in history.attempts if state.job_ids_of), "")
    why = f"as it is not known where {program} makes the ids of BigQuery's jobs"
    return (f"What a lost pod has asked of BigQuery is not gone on with, {why}.",) if program else ()


def _ignored_settings(history: History) -> Sequence[str]:
    wrong = history.graph.wrongly_set if history.graph is not None else ()
    if not wrong:
        return ()
    others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    what = f"meta.dbt_operator of {wrong[0].unique_id}{others} is not honoured where it is wrong"
    return (f"{what}: {wrong[0].settings_ignored.rstrip('.')}.",)


def withheld(database: str) -> str:
    """Why nothing is tried again, although the rules would have it."""
    gone = f"the database file {database} is gone with the pod"
    if database == ":memory:":
        gone = "the database is in the memory of the pod (:memory:) and gone with it"
    return (
        f"Nothing is tried again, as {gone}: in a new run, keep it in one file on a volume that every pod mounts"
        " (spec.podTemplate); a retry that you ask for runs the whole command again."
    )


NOT_REPEATED = (
    "It is not run again by itself, as it is not known how much of it was done: a retry that you ask for runs it again."
)


NOTHING_TO_DO = "The selection matches no node: compared with the artifacts of spec.state, nothing is to be done."


def about_to(decisions: Sequence[Decision]) -> str:
    """About attempts that were just decided on."""
    return _doing([(each.kind, each.nodes) for each in decisions])


def repairing(live: Sequence[Assessment]) -> str:
    """About the attempts that are at work."""
    return _doing([(each.attempt.kind, each.attempt.nodes) for each in live])


def _doing(attempts: Sequence[tuple[AttemptKind, frozenset[str] | None]]) -> str:
    retried = [one for kind, nodes in attempts if kind is AttemptKind.RETRY for one in nodes or ()]
    resumed = [one for kind, nodes in attempts if kind is AttemptKind.RESUME for one in nodes or ()]
    first = (AttemptKind.PRODUCER, AttemptKind.NODE)
    begun = [one for kind, nodes in attempts if kind in first for one in nodes or ()]
    parts = []
    if retried:
        parts.append(f"tries {_what(retried)} again")
    if resumed:
        parts.append(f"goes on with {_what(resumed)}")
    if begun:
        parts.append(f"executes {_what(begun)}")
    return f"dbt {' and '.join(parts)}." if parts else "dbt runs the whole command again."


def _what(unique_ids: Sequence[str]) -> str:
    nodes = sorted(one.split(".")[-1] for one in unique_ids if not one.startswith(("test.", "unit_test.")))
    tests = len(unique_ids) - len(nodes)
    if not nodes:
        return f"{tests} test{'' if tests == 1 else 's'}"
    return named(nodes) if len(nodes) <= _NAMED else f"{len(nodes)} nodes"


def named(found: Sequence[str]) -> str:
    """The first of these names."""
    return ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
