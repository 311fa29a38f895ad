"""How an attempt ended: from its facts to one phase and one reason, by the first rule that applies.

Success needs proof: dbt's own report that the command succeeded, and no node that failed. When two facts disagree the
worse one is believed, and the message says that they do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reason_table import OF_ERRORS, about
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.dbt.error_texts import failed_hook, kind_of
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.history import History, history_of
from dbt_operator.dbt.node_types import TEST_TYPES, node_type
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.statuses import STALE
from dbt_operator.dbt.view import NodeView, node_counts, node_views, test_counts
from dbt_operator.plan import outcome_text

_CLEAN_ENDS = frozenset({"", "Completed", "Error"})  # the container's own reasons for a process that exited by itself
_SIGNALLED = 128  # by the shell's convention, exit codes from here on are signals
KILLED = frozenset({137, 143})  # SIGKILL and SIGTERM come from outside; others may be the image's own fault
_DBT_EXIT_CODES = frozenset({0, 1, 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnd:
    """What the cluster says of a pod that has ended. `kind` is "Completed", "Error", "Lost", or a RunReason's value."""

    kind: str
    exit_code: int | None = None
    message: str = ""
    memory_limit: str | None = None  # of its container, as Kubernetes writes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended, or a run."""

    phase: RunPhase
    reason: RunReason
    message: str


def ending_of(*, state: AttemptState, pod: PodEnd | None) -> Ending:
    """How the process of an attempt ended, for closing its state."""
    if state.finished is not None:
        return Ending.CANCELLED if _cancelled(state) else Ending.COMPLETED
    if state.cancel_requested:
        return Ending.CANCELLED
    if state.dbt_ended or _plain_exit(state, pod):
        return Ending.COMPLETED
    return Ending.LOST


def conclude(*, state: AttemptState, pod: PodEnd | None) -> Outcome:
    """How an attempt ended, from its state and what the cluster says of the pod (None: nothing is known)."""
    if state.closed is None:
        state = close(state=state, ending=ending_of(state=state, pod=pod))
    facts = _Facts.of(state)
    return (
        _when_cancelled(state, facts)
        or _when_nothing_selected(state, facts)
        or _when_fatal(state, facts)
        or _when_without_nodes(state)
        or _when_lost(state, pod, facts)
        or _when_failed(state, facts)
        or _when_in_doubt(state, pod, facts)
        or _when_succeeded(facts)
    )


def conclude_history(history: History) -> Outcome:
    """How a run of several attempts ended, from what was reported last of each node."""
    facts = _Facts.of(history)
    if facts.failed:
        return _failed(
            _reason_of_failure(facts), outcome_text.failures(facts.nodes, facts.tests, facts.hooks, facts.views)
        )
    if facts.unproven:
        return _failed(RunReason.NODES_FAILED, outcome_text.unproven(facts.unproven))
    return _when_succeeded(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    nodes: Sequence[NodeView]  # that failed themselves
    tests: Sequence[NodeView]
    hooks: Sequence[NodeView]
    unproven: Sequence[NodeView]  # neither failed nor successful
    warned: bool
    views: outcome_text.Views

    @classmethod
    def of(cls, state: AttemptState | History) -> "_Facts":
        history = history_of(state)
        # Of an attempt by itself, without what a later stage of the run executes.
        later = history.later if isinstance(state, AttemptState) else frozenset[str]()
        views = {one: view for one, view in node_views(state=state).items() if one not in later}
        failed = [view for view in views.values() if view.phase is NodePhase.FAILED and not _built(history, view)]
        # A test that has a DbtModel of its own is named as the test that it is.
        nodes = {one: each for one, each in views.items() if each.resource_type not in TEST_TYPES}
        only_tests = not any(view.executed and view.shown for view in nodes.values())
        return cls(
            nodes=[view for view in failed if view.resource_type not in (*TEST_TYPES, "operation")],
            tests=[view for view in failed if view.resource_type in TEST_TYPES],
            hooks=[view for view in failed if view.resource_type == "operation"],
            unproven=[
                view
                for view in views.values()
                if view.executed
                and view.phase not in (NodePhase.SUCCEEDED, NodePhase.FAILED)
                and not _passed_over(view)
                and node_type(view.resource_type).needed
            ],
            warned=any(view.reason is NodeReason.WARNED for view in views.values()),
            views=outcome_text.Views(
                nodes=node_counts(views={} if only_tests else nodes),
                tests=test_counts(views=views),
                passed_over=[view for view in views.values() if _passed_over(view)],
                lost=sum(
                    view.reason is NodeReason.LOST
                    for view in failed
                    if only_tests or view.resource_type not in TEST_TYPES
                ),
            ),
        )

    @property
    def failed(self) -> int:
        return len(self.nodes) + len(self.tests) + len(self.hooks)


def _passed_over(view: NodeView) -> bool:
    """Whether the run does not execute it as a source is stale. Of an exposure there is nothing to execute anyway."""
    return view.phase is NodePhase.SKIPPED and view.status == STALE and node_type(view.resource_type).needed


def _built(history: History, view: NodeView) -> bool:
    """Whether dbt called the node itself successful: then only tests of it failed, and they are counted themselves."""
    report = history.report(view.unique_id)
    return report is None or report.node.phase is NodePhase.SUCCEEDED


def _cancelled(state: AttemptState) -> bool:
    """Whether the process ended because it was asked to, and not before the request reached it."""
    interrupted = state.error is not None and state.error.kind == "interrupted"
    if state.finished is not None:
        return state.finished.cancelled or (interrupted and not state.finished.success)
    closed_so = state.closed is not None and state.closed.ending is Ending.CANCELLED
    return state.cancel_requested or interrupted or closed_so


def _when_cancelled(state: AttemptState, facts: _Facts) -> Outcome | None:
    if not _cancelled(state):
        return None
    progress = f"; {facts.views.progress}" if facts.views.progress else " before dbt executed any node"
    return Outcome(phase=RunPhase.CANCELLED, reason=RunReason.CANCELLED, message=f"The run was cancelled{progress}.")


def _when_nothing_selected(state: AttemptState, facts: _Facts) -> Outcome | None:
    # A command without nodes says it where nothing at all is selected, and does not begin to execute.
    unmatched = state.dbt_ended and bool(state.unmatched) and not state.executing and state.error is None
    unmatched = unmatched and state.without_nodes is None
    later = state.graph is not None and bool(state.graph.later())
    nothing = (state.nothing_selected or unmatched) and not later
    if not nothing or facts.failed or any(node.phase is not NodePhase.PENDING for node in state.nodes.values()):
        return None
    return _failed(RunReason.NOTHING_SELECTED, outcome_text.nothing_selected(state))


def _when_fatal(state: AttemptState, facts: _Facts) -> Outcome | None:
    if state.error is None:
        return None
    reason = OF_ERRORS.get(state.error.kind, RunReason.DBT_ERROR)
    if failed_hook(state.error.message) is not None and reason is not RunReason.CONNECTION_FAILED:
        reason = RunReason.HOOK_FAILED
    if not state.error.message and facts.hooks:  # an error of dbt's own while it skips what the hook stopped
        return _when_failed(state, facts)
    message = outcome_text.fatal(state.error, reason, complaints=state.complaints)
    if facts.hooks and reason is RunReason.DBT_ERROR:
        reason, message = RunReason.HOOK_FAILED, f"{outcome_text.failures((), (), facts.hooks, facts.views)} {message}"
    elif facts.views.progress:
        message = f"{message} {facts.views.progress}."
    return _failed(reason, message)


def _when_without_nodes(state: AttemptState) -> Outcome | None:
    """About a command that executes no nodes: only its end can be reported."""
    command, finished = state.without_nodes, state.finished
    if command is None or finished is None:
        return None
    if finished.success:
        message = outcome_text.done(command, omitted=state.omitted)
        return Outcome(phase=RunPhase.SUCCEEDED, reason=RunReason.ALL_SUCCEEDED, message=message)
    return _failed(RunReason.DBT_ERROR, outcome_text.command_failed(command, complaints=state.complaints))


def _when_lost(state: AttemptState, pod: PodEnd | None, facts: _Facts) -> Outcome | None:
    ended = state.dbt_ended or _plain_exit(state, pod)
    if ended and (pod is None or pod.kind in _CLEAN_ENDS):
        return None
    reason = _pod_reason(state, pod)
    detail = f": {pod.message.rstrip('.')}" if pod is not None and pod.message else ""
    if pod is not None and pod.exit_code not in (None, 0):
        detail = f" (exit code {pod.exit_code}){detail}"
    tail = f"; {facts.views.progress}" if facts.views.progress else ""
    if ended:
        tail += ", and dbt had come to its end"
    what = about(reason).sentence or f"The pod ended with {reason.value}"
    if reason is RunReason.OOM_KILLED:
        what = outcome_text.out_of_memory(
            limit=pod.memory_limit if pod is not None else None, peak_bytes=state.peak_memory_bytes
        )
    if pod is None:
        what = "The log ends before dbt does" if state.source else "The log holds no event of dbt's"
    return _failed(reason, f"{what}{detail}{tail}.")


def _pod_reason(state: AttemptState, pod: PodEnd | None) -> RunReason:
    if pod is None or pod.kind == "Lost":
        return RunReason.POD_LOST
    if pod.kind in _CLEAN_ENDS:
        # The process exited by itself and left no record; a signal (128 and more) is a kill.
        signalled = pod.exit_code is not None and pod.exit_code >= _SIGNALLED and state.source is not None
        if signalled or pod.exit_code in KILLED:
            return RunReason.POD_LOST
        return RunReason.RUNNER_FAILED
    reason = RunReason(pod.kind)
    return reason if reason.known else RunReason.POD_LOST


def _plain_exit(state: AttemptState, pod: PodEnd | None) -> bool:
    """Whether a dbt without the runner ended by itself: commands such as run-operation print no last event."""
    return (
        state.source in ("core", "fusion")
        and pod is not None
        and pod.kind in _CLEAN_ENDS
        and pod.exit_code in _DBT_EXIT_CODES
    )


def _when_failed(state: AttemptState, facts: _Facts) -> Outcome | None:
    if not facts.failed:
        return None
    message = outcome_text.failures(facts.nodes, facts.tests, facts.hooks, facts.views)
    doubt = _contradiction_of_failure(state, facts)
    return _failed(_reason_of_failure(facts), f"{message} {doubt}" if doubt else message)


def _reason_of_failure(facts: _Facts) -> RunReason:
    stale = all(view.reason is NodeReason.STALE for view in facts.nodes)
    if facts.nodes and stale and not facts.tests and not facts.hooks:
        return RunReason.SOURCES_STALE
    if facts.nodes:
        return RunReason.NODES_FAILED
    return RunReason.TESTS_FAILED if facts.tests else RunReason.HOOK_FAILED


def _contradiction_of_failure(state: AttemptState, facts: _Facts) -> str:
    if state.stats is not None and state.stats.errors > facts.failed:
        return f"dbt itself counted {state.stats.errors} errors: the log is not complete."
    if _claims_success(state):
        return "Yet dbt ended as if all had succeeded."
    return ""


def _claims_success(state: AttemptState) -> bool:
    return (state.finished is not None and state.finished.success) or state.command_success is True


def _when_in_doubt(state: AttemptState, pod: PodEnd | None, facts: _Facts) -> Outcome | None:
    """No node is known to have failed: is there anything else that speaks against success?"""
    doubt = next(_doubts(state, pod), None)
    if doubt is not None:
        complaint = f" Its first error: {outcome_text.flattened(state.complaints[0])}." if state.complaints else ""
        return _failed(_doubtful_reason(state), doubt + complaint)
    if facts.unproven:
        return _failed(RunReason.NODES_FAILED, outcome_text.unproven(facts.unproven))
    if not _proven(state, pod):
        return _failed(RunReason.POD_LOST, "The log ends without a word of dbt about its success.")
    return None


def _doubts(state: AttemptState, pod: PodEnd | None) -> Iterator[str]:
    """What contradicts that nothing failed."""
    finished, stats = state.finished, state.stats
    if finished is not None and not finished.success:
        yield f"dbt ended with exit code {finished.exit_code} although no node is known to have failed."
    if finished is not None and finished.exit_code not in (None, 0):
        yield f"dbt called the command successful, yet its exit code is {finished.exit_code}."
    if finished is not None and finished.complete and not finished.results and state.graph is None:
        yield "dbt called the command successful, but it is not known which nodes it was asked for, nor any result."
    if stats is not None and stats.errors:
        yield f"dbt counted {stats.errors} errors, of which the log shows none."
    if state.command_success is False or state.summary_errors:
        yield "dbt ended without success although no node is known to have failed."
    if pod is not None and pod.exit_code not in (None, 0):
        yield f"dbt reported no failure, yet its process ended with exit code {pod.exit_code}."


def _doubtful_reason(state: AttemptState) -> RunReason:
    if not state.executing and state.complaints:
        # Fusion has no event for errors that end the command: they are complaints about no node, like many others.
        return OF_ERRORS.get(kind_of(state.complaints[0]), RunReason.DBT_ERROR)
    return RunReason.NODES_FAILED if state.nodes else RunReason.DBT_ERROR


def _proven(state: AttemptState, pod: PodEnd | None) -> bool:
    if state.source == "runner":
        # Either what dbt was asked for is known, so that a node without a result is missed, or all that it did.
        finished = state.finished
        return finished is not None and finished.success and (state.graph is not None or finished.complete)
    claimed = state.command_success is True or state.stats is not None or state.done
    return claimed or (_plain_exit(state, pod) and pod is not None and pod.exit_code == 0)


def _when_succeeded(facts: _Facts) -> Outcome:
    plain = not facts.warned and not facts.views.passed_over
    reason = RunReason.ALL_SUCCEEDED if plain else RunReason.SUCCEEDED_WITH_WARNINGS
    return Outcome(phase=RunPhase.SUCCEEDED, reason=reason, message=outcome_text.success(facts.views))


def _failed(reason: RunReason, message: str) -> Outcome:
    return Outcome(phase=RunPhase.FAILED, reason=reason, message=message)
