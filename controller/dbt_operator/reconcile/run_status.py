"""The status of a DbtRun: what it said before, and what it is to say now. Pure: values in, values out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs

from dbt_operator.api import status
from dbt_operator.api.commands import Stage
from dbt_operator.api.conditions import Condition, run_conditions
from dbt_operator.api.phases import AttemptKind, AttemptPhase, NodePhase, RunPhase
from dbt_operator.api.reason_table import LOST
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.values import format_duration, format_time
from dbt_operator.dbt.error_texts import cause_of
from dbt_operator.dbt.found import COMMIT, DIGEST, STATE_CONFIG_MAP, STATE_DIGEST, STATE_RUN, found_by
from dbt_operator.dbt.history import History, pod_database
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import NodeView, Tally, node_view
from dbt_operator.plan.attempt import Assessment, Life, Refusal
from dbt_operator.plan.observation import Plan
from dbt_operator.plan.outcome import Outcome

_MOST_ATTEMPTS = 50  # that the CRD allows
_MOST_FAILURES = 20  # likewise


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the run's status said before: what has to be carried on."""

    start_time: datetime | None
    defaults: status.RunDefaults | None
    conditions: tuple[Condition, ...]
    completion_time: datetime | None
    attempts: Mapping[str, status.RunAttempt]  # those whose Job was created, by its name
    handled_retry: str | None
    project: status.RunProject | None
    state: status.RunState | None
    dbt: status.DbtInfo | None
    artifacts: status.RunArtifacts | None
    output: status.RunOutput | None
    ended: Outcome | None


def run_record(run: Mapping[str, Any]) -> RunRecord:
    """The record in a DbtRun."""
    before = status.DbtRunStatus.parse(run.get("status") or {}) or status.DbtRunStatus()
    return RunRecord(
        start_time=before.start_time,
        defaults=before.defaults,
        conditions=before.conditions,
        completion_time=before.completion_time,
        attempts={attempt.name: attempt for attempt in before.attempts},
        handled_retry=before.handled_retry,
        project=before.project,
        state=before.state,
        dbt=before.dbt,
        artifacts=before.artifacts,
        output=before.output,
        ended=_ended_as(before),
    )


def _ended_as(before: status.DbtRunStatus) -> Outcome | None:
    if before.phase is None or not before.ended:
        return None
    # A reason that this version does not know is no success, and is kept as it is.
    phase = before.phase if before.phase.known else RunPhase.FAILED
    # A status without a reason was not written by us; the phase is what everybody else goes by.
    reason = before.reason or RunReason.DBT_ERROR
    return Outcome(phase=phase, reason=reason, message=before.message or "")


def run_status(
    *,
    plan: Plan,
    record: RunRecord,
    conditions: tuple[Condition, ...],
    tally: Tally,
    artifacts: status.RunArtifacts | None,
    output: status.RunOutput | None,
    unshown: str = "",
    handled_retry: str | None,
    generation: int,
    now: datetime,
) -> status.DbtRunStatus:
    """The status of a DbtRun.

    `unshown`: a sentence that says of which nodes there is no DbtModel, "" where each has one.
    `artifacts`, `output`: None where this controller has stored none: what the record says stands.
    """
    terminal = plan.phase.terminal
    states = plan.history.attempts
    found = found_by(states)
    message = plan.message if terminal else _progress_message(plan=plan, tally=tally)
    return status.DbtRunStatus(
        phase=plan.phase,
        reason=plan.reason,
        message=f"{message} {unshown}".rstrip(),
        conditions=run_conditions(
            phase=plan.phase,
            reason=plan.reason,
            now=now,
            generation=generation,
            previous=conditions,
        ),
        observed_generation=generation,
        start_time=record.start_time,
        defaults=record.defaults,
        completion_time=(record.completion_time or now) if terminal else None,
        duration=format_duration(plan.worked(now=now).total_seconds()) if terminal else None,
        nodes=tally.nodes,
        tests=tally.tests,
        failures=_failures(tally.failed.values(), history=plan.history),
        project=_project(found) or record.project,
        state=_state(found) or record.state,
        dbt=dbt_info(states),
        peak_memory_bytes=max((state.peak_memory_bytes or 0 for state in states), default=0) or None,
        retries=_retries(plan.assessments),
        handled_retry=handled_retry,
        artifacts=artifacts or record.artifacts,
        output=output or record.output,
        attempts=_attempts(plan.assessments, record=record),
    )


def _retries(assessments: Sequence[Assessment]) -> int:
    """How many attempts there were besides those that were the first at something: the whole, a stage, a node."""
    first = {each.attempt.stage for each in assessments if each.attempt.kind is AttemptKind.PRODUCER}
    return sum(each.attempt.kind is not AttemptKind.NODE for each in assessments) - len(first)


def obstructed_status(
    shown: status.DbtRunStatus, obstacle: Refusal, *, now: datetime, generation: int
) -> status.DbtRunStatus:
    """The status of a live run, with what the API server does not do in the place of its reason and message."""
    phase = shown.phase or RunPhase.PENDING
    return structs.replace(
        shown,
        phase=phase,
        reason=obstacle.reason,
        message=obstacle.message,
        conditions=run_conditions(
            phase=phase,
            reason=obstacle.reason,
            now=now,
            generation=generation,
            previous=shown.conditions,
        ),
    )


def dbt_info(states: Sequence[AttemptState]) -> status.DbtInfo:
    """Each value from the first attempt that reported it: all run the same dbt, and each may be lost early."""
    return status.DbtInfo(
        version=next((each.dbt_version for each in states if each.dbt_version), None),
        adapter=next((each.adapter for each in states if each.adapter), None),
        adapter_version=next((each.adapter_version for each in states if each.adapter_version), None),
        target=next((each.target for each in states if each.target), None),
        invocation_id=next((each.invocation_id for each in states if each.invocation_id), None),
        on_run_end_hooks=next((each.end_hooks for each in states if each.end_hooks is not None), None),
        pod_database=pod_database(states) or None,
    )


_SHORT = 7  # characters of a commit, as git shortens it


def _project(found: Mapping[str, str]) -> status.RunProject | None:
    commit, digest = found.get(COMMIT), found.get(DIGEST)
    if commit is None and digest is None:
        return None
    revision = (commit or (digest or "").removeprefix("sha256:"))[:_SHORT]
    return status.RunProject(revision=revision, commit=commit, digest=digest)


def _state(found: Mapping[str, str]) -> status.RunState | None:
    run, config_map, digest = (found.get(name) for name in (STATE_RUN, STATE_CONFIG_MAP, STATE_DIGEST))
    if run is None and config_map is None and digest is None:
        return None
    return status.RunState(run=run, config_map=config_map, digest=digest)


def _progress_message(*, plan: Plan, tally: Tally) -> str:
    """While the command executes its nodes: how far it is, and what has failed so far."""
    if plan.phase is not RunPhase.RUNNING or plan.reason is not RunReason.EXECUTING:
        return plan.message
    testing = any(each.live and each.attempt.stage is Stage.TEST for each in plan.assessments)
    counts, what = (tally.tests, "test") if testing else (tally.nodes, "node")
    if not (tally.nodes.total or tally.tests.total):
        return plan.message
    failed = f", {counts.failed} failed" if counts.failed else ""
    done = counts.total - counts.pending - counts.running
    return f"{done} of {counts.total} {what}s are done, {counts.running} running{failed}."


def _failures(failed: Iterable[NodeView], *, history: History) -> tuple[status.RunFailure, ...]:
    # A node that failed through its tests comes after what really went wrong, and all in the order of time.
    in_order = sorted(failed, key=lambda view: (view.finished_at is None, view.finished_at, view.unique_id))
    return tuple(
        status.RunFailure(
            unique_id=view.unique_id,
            name=view.name,
            message=view.message,
            first_message=_first_message(view, history=history) if index < _MOST_FAILURES else None,
            relation=view.kept_rows or None,
        )
        for index, view in enumerate(in_order)
    )


def _first_message(failed: NodeView, *, history: History) -> str | None:
    """The text of the node's first failure, if it differs: it may be the real cause."""
    for state in history.attempts[:-1]:
        if failed.unique_id in state.nodes:
            view = node_view(state=state, unique_id=failed.unique_id)
            if view.phase is NodePhase.FAILED and view.reason is not NodeReason.LOST:
                same = view.message == failed.message or cause_of(view.message) == (cause_of(failed.message) or None)
                return None if same else view.message
    return None


def _attempts(assessments: Iterable[Assessment], *, record: RunRecord) -> tuple[status.RunAttempt, ...]:
    """The attempts whose Job was created, or that ended without one, in the order of their decisions.

    After a restart, a listed attempt without a Job is a lost one, as its Job had been created. So if not all can be
    kept, the oldest of the ended ones are left out.
    """
    listed = [each for each in assessments if each.attempt.existed or each.life is Life.ENDED]
    # Stable: within those that ended, and within those that live, the newest are last.
    kept = {each.attempt.name for each in sorted(listed, key=lambda each: each.live)[-_MOST_ATTEMPTS:]}
    shown = (each for each in listed if each.attempt.name in kept)
    return tuple(_attempt(each, before=record.attempts.get(each.attempt.name)) for each in shown)


_LIVE = {
    Life.ABSENT: AttemptPhase.PENDING,
    Life.QUEUED: AttemptPhase.PENDING,
    Life.STARTING: AttemptPhase.PENDING,
    Life.RUNNING: AttemptPhase.RUNNING,
    Life.DRAINING: AttemptPhase.RUNNING,
}
_ENDED = {RunPhase.SUCCEEDED: AttemptPhase.SUCCEEDED, RunPhase.CANCELLED: AttemptPhase.CANCELLED}


def _attempt(assessment: Assessment, *, before: status.RunAttempt | None) -> status.RunAttempt:
    attempt, outcome = assessment.attempt, assessment.outcome
    pod = attempt.shown.pod
    if outcome is None:
        state = _LIVE[assessment.life]
    else:
        state = AttemptPhase.LOST if outcome.reason in LOST else _ENDED.get(outcome.phase, AttemptPhase.FAILED)
    nodes = attempt.decision.nodes if attempt.decision is not None else None
    shown = status.RunAttempt(
        name=attempt.name,
        kind=attempt.kind,
        state=state,
        reason=assessment.reason,
        nodes=None if nodes is None else len(nodes),
        stage=attempt.stage,
        start_time=attempt.started,
        completion_time=pod.ended_at if pod else None,
        pod=pod.name if pod else None,
        exit_code=pod.terminated.exit_code if pod and pod.terminated else None,
        log_time=format_time(attempt.log.position) if attempt.log.position else None,
    )
    return shown if before is None else _filled(shown, before)


def _filled(shown: status.RunAttempt, before: status.RunAttempt) -> status.RunAttempt:
    """What was seen of a pod once stays true when the pod is gone."""
    fields = ("start_time", "completion_time", "pod", "exit_code", "log_time")
    kept = {name: getattr(before, name) for name in fields if getattr(shown, name) is None}
    return structs.replace(shown, **kept)
