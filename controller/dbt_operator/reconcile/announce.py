"""What a run's user is told besides its status: Kubernetes Events and lines of the operator's log.

An Event says what happened when. Why a run has ended and what dbt said of a node stay in the status, and no Event
repeats them: `kubectl describe` shows both, one below the other.
"""

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

import structlog

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reason_table import about
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.view import NodeView
from dbt_operator.kube.api_error import ApiError
from dbt_operator.kube.resources import Object
from dbt_operator.kube.writer import Problem
from dbt_operator.metrics import RUN_DURATION
from dbt_operator.plan.attempt import Decision, Refusal, Request
from dbt_operator.plan.observation import Plan
from dbt_operator.plan.run_text import about_to, ignored
from dbt_operator.reconcile.backend import Backend

_log = structlog.get_logger(__name__)

_NODE_EVENTS = 20
_ENDED = {
    RunPhase.SUCCEEDED: "The run has succeeded",
    RunPhase.FAILED: "The run has failed",
    RunPhase.CANCELLED: "The run was cancelled",
}


class Announcer:
    """Posts the Events of one run, in the background: it never matters if one fails."""

    def __init__(self, *, backend: Backend) -> None:
        self.shown: tuple[RunPhase, RunReason] | None = None  # the last transition
        self._backend = backend
        self._run: Object | None = None
        self._failed_nodes = 0
        self._ignored: set[str] = set()  # sentences about what is not done that were told
        self._unreadable: str | None = None
        self._waiting: set[Request] = set()  # requests that are known to wait
        self._background: set[asyncio.Task[None]] = set()

    def look(self, run: Object) -> None:
        """The run as it was seen last. What its status shows was announced by the controller that stored it."""
        if self._run is None:
            self.shown = _shown_of(run)
        self._run = run

    def moved(self, plan: Plan, *, now: datetime) -> None:
        """Post an Event and log a line at each transition."""
        shown = (plan.phase, plan.reason)
        if self.shown == shown:
            return
        before, self.shown = self.shown, shown
        bad = plan.phase is RunPhase.FAILED or about(plan.reason).obstacle
        _log.info("the run moved", phase=plan.phase.value, reason=plan.reason.value, message=plan.message)
        if bad or before is None or before[0] is not plan.phase or plan.reason is RunReason.EXECUTING:
            # The pod's own Events show the steps of its start.
            message = _end_of(plan) if plan.phase.terminal else plan.message
            self._post(kind="Warning" if bad else "Normal", reason=plan.reason.value, message=message)
        if plan.phase.terminal:
            RUN_DURATION.labels(status=plan.phase.value).observe(plan.worked(now=now).total_seconds())

    def decided(self, decision: Decision) -> None:
        """Another attempt was decided on. For the first one there is the Event of the run."""
        _log.info("decided on an attempt", job=decision.name, nodes=len(decision.nodes or ()))
        if decision.index > 1:
            message = f"{decision.name}: {about_to([decision])}"
            self._post(kind="Normal", reason="AttemptCreated", message=message)

    def nothing_to_retry(self, request: Request, *, model: str | None) -> None:
        """A person asked for a retry, and nothing came of it. `model`: the name of the node's DbtModel."""
        why = "it has succeeded, is under way, or waits for something else that failed"
        message = f"was asked for, but there is nothing that could be done: {why}"
        self._answer(request, model=model, reason="NothingToRetry", message=message)

    def retry_waits(self, request: Request, *, model: str | None, why: str) -> None:
        """A person asked for a retry, and a field of the spec holds it back."""
        if request not in self._waiting:
            self._waiting.add(request)
            self._answer(request, model=model, reason="RetryWaits", message=f"was asked for, and waits: {why}")

    def _answer(self, request: Request, *, model: str | None, reason: str, message: str) -> None:
        """Answer on the object where the person asked, and on the run. The key gives each request its own Event."""
        message = f"A retry of {request.unique_id or 'the run'} {message.rstrip('.')}."
        self._post(kind="Normal", reason=reason, message=message, key=request.token)
        if model is not None:
            self._later(self._post_about(model, reason=reason, message=message, key=request.token))

    async def _post_about(self, model: str, *, reason: str, message: str, key: str) -> None:
        try:
            found = await self._backend.find_model(model)
        except ApiError as error:
            _log.warning("could not post an event", reason=reason, error=str(error))
            return
        if found is not None:
            await self._backend.post_event(regarding=found, kind="Normal", reason=reason, message=message, key=key)

    def unreadable_record(self, message: str | None) -> None:
        """The record of an attempt cannot be read; None: all can. Until then nothing more is decided for the run."""
        if message is not None and message != self._unreadable:
            _log.warning("a record cannot be read", message=message)
            self._post(kind="Warning", reason="RecordUnreadable", message=message)
        self._unreadable = message

    def ignored(self, plan: Plan) -> None:
        """What the run asks for, and nothing is done about."""
        for message in ignored(plan.history):
            if message not in self._ignored:
                self._ignored.add(message)
                _log.warning("a setting is ignored", message=message)
                self._post(kind="Warning", reason="SettingIgnored", message=message)

    def unshown(self, message: str) -> None:
        """Of which nodes there is no DbtModel; "" where each has one."""
        if message and message not in self._ignored:
            self._ignored.add(message)
            _log.info("not all nodes are shown", message=message)
            self._post(kind="Normal", reason="NodesNotShown", message=message)

    def obstructed(self, obstacle: Refusal) -> None:
        """The API server does not do what the run needs, whether it has ended or not."""
        _log.warning("the run is obstructed", reason=obstacle.reason.value, message=obstacle.message)
        self._post(kind="Warning", reason=obstacle.reason.value, message=obstacle.message)

    def node_failed(self, view: NodeView) -> None:
        """A node has failed."""
        self._failed_nodes += 1
        _log.info("a node failed", node=view.unique_id, reason=view.reason)
        if self._failed_nodes <= _NODE_EVENTS:
            more = " (no Events for further nodes of this run)" if self._failed_nodes == _NODE_EVENTS else ""
            self._post(kind="Warning", reason="NodeFailed", message=f"{view.unique_id} failed ({view.reason}).{more}")

    def problem(self, problem: Problem) -> None:
        """The writer could not store something of this run: say so where its user looks."""
        what = f"{problem.resource.kind} {problem.name}"
        self._post(kind="Warning", reason="WriteFailed", message=f"The status of {what} is not stored: {problem.error}")

    def _post(self, *, kind: Any, reason: str, message: str, key: str = "") -> None:
        if self._run is not None:  # there is nothing to tell before the first look
            self._later(
                self._backend.post_event(regarding=self._run, kind=kind, reason=reason, message=message, key=key)
            )

    def _later(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _end_of(plan: Plan) -> str:
    """With the number of attempts in the text, the end after a requested retry has an Event of its own."""
    count = len(plan.assessments)
    took = f" after {count} attempt{'s' if count > 1 else ''}" if count else ""
    why = "" if plan.phase is RunPhase.SUCCEEDED else "; status.message says why"
    return f"{_ENDED[plan.phase]}{took}{why}."


def _shown_of(run: Object) -> tuple[RunPhase, RunReason] | None:
    status = run.get("status") or {}
    try:
        return RunPhase(status["phase"]), RunReason(status["reason"])
    except (KeyError, ValueError):
        return None
