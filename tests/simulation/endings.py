"""What has to be true when a run is said to have ended."""

from collections.abc import Mapping

from dbt_operator.api.commands import Mode
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reason_table import LOST
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.api.status import DbtRunStatus
from dbt_operator.dbt.view import NodeView, node_views
from dbt_operator.plan.observation import Plan
from tests.simulation.oracle import KINDS, EndedAttempt, Oracle
from tests.simulation.project import Project
from tests.simulation.scenario import Scenario
from tests.simulation.warehouse import BAD, GOOD, Warehouse
from tests.simulation.world import broken

# Ends that another attempt would come to as well, and hooks of which it is not known whether they have run.
_FATAL = frozenset(
    {
        RunReason.HOOK_FAILED,
        RunReason.PARSE_ERROR,
        RunReason.SELECTOR_ERROR,
        RunReason.DBT_ERROR,
        RunReason.ADMISSION_DENIED,
        RunReason.CONNECTION_FAILED,
        RunReason.RUNNER_FAILED,
    }
)


class EndingChecks:
    """Checks terminal phases against what really happened, and against what was left undone."""

    def __init__(self, *, scenario: Scenario, warehouse: Warehouse, oracle: Oracle) -> None:
        self._scenario, self._warehouse, self._oracle = scenario, warehouse, oracle
        self._project: Project = scenario.project

    def check(self, status: DbtRunStatus, plan: Plan, *, wished: set[str], one_operator: bool) -> None:
        """The run is said to have ended. `wished`: what people have asked for at any time."""
        if status.phase is RunPhase.SUCCEEDED:
            self._all_succeeded()
        if status.phase is RunPhase.CANCELLED and not wished & {"cancel", "supersede"}:
            broken("the right phase", "the run is Cancelled and nobody has asked for it")
        views = node_views(state=plan.history)
        for one, view in views.items():
            if not view.phase.terminal:
                broken("nodes end with the run", f"{one} is {view.phase} although the run is {status.phase}")
        if one_operator:  # of two operators each may know what the other one does not
            self._justified(status, views, wished)

    def _justified(self, status: DbtRunStatus, views: Mapping[str, NodeView], wished: set[str]) -> None:
        endings = {one: self._oracle.ending(one) for one in self._project.executables}
        for one, view in views.items():
            above = self._project.upstream.get(one, frozenset()) - self._project.looked_at.keys()
            failed = [need for need in above if endings.get(need) in BAD]
            if failed and view.phase is NodePhase.CANCELLED and endings.get(one) == "" and view.started_at is None:
                broken("what is held back says by what", f"{one} is {view.phase}, and {failed} had failed")
        if status.reason is RunReason.CONNECTION_FAILED:
            self._not_connected(endings)
        if status.phase is RunPhase.SUCCEEDED:
            self._success(endings)
        elif not self._explained(status, wished):
            self._failure(endings, status)

    def _not_connected(self, endings: dict[str, str]) -> None:
        """That the warehouse was not reached is the reason only where something was left undone for that, or may be."""
        if self._cut_short() and (self._may_have_end_hooks() or self._to_look()):
            return
        if len(self._oracle.attempts) == 1 and _done(endings):
            return  # dbt has ended with that error after its last node: no success of its own is known
        whole = [each.sealed.outcome.reason for each in self._oracle.recent if each.decision.nodes is None]
        if self._project.mode is Mode.PER_NODE and whole[-1:] == [RunReason.CONNECTION_FAILED]:
            return  # nothing was to be executed before the sources were looked at
        for one, ending in endings.items():
            had = [attempt for attempt in self._oracle.recent if attempt.decision.covers(one)]
            needs = self._project.needs
            held_back = any(endings[need] not in GOOD and one not in needs[need] for need in needs[one])
            not_connected = had and had[-1].sealed.outcome.reason is RunReason.CONNECTION_FAILED
            # By itself, before dbt had to give up; a single attempt speaks for itself.
            failed = len(self._oracle.attempts) > 1 and had and had[-1].endings.get(one) in BAD - {"lost"}
            if ending not in GOOD and not_connected and not held_back and not failed:
                return
        if endings:
            broken("the right reason", "the run is ConnectionFailed, and later attempts had all that it left undone")

    def _all_succeeded(self) -> None:
        """Each node's last execution, whoever made it and whoever heard of it, was a success."""
        project = self._project
        last = {execution.node: execution for execution in self._warehouse.executions}
        for one in project.executables:
            ending = (last[one].ending or "running") if one in last else "not executed"
            if ending not in GOOD:
                broken("success of every node", f"the run Succeeded, and {one} was last {ending}")
        for one in project.executables:
            for need in project.upstream[one]:
                if need in last and project.reads(one, need) and last[one].began < (last[need].ended or 0):
                    broken("success of every node", f"{need} was built after {one}, which reads it")

    def _success(self, endings: dict[str, str]) -> None:
        if not _done(endings):
            broken("the right phase", f"the run Succeeded, but {endings}")
        for attempt in self._oracle.recent:
            hooks = (one for one in attempt.sealed.state.failures if one.startswith("operation."))
            if any(not attempt.sealed.state.nodes[one].stopped for one in hooks):
                broken("a hook that failed is told", f"the run Succeeded, and a hook of {attempt.decision.name} failed")
        finished = self._last_ended().sealed.state.finished
        if self._project.end_hooks and (finished is None or finished.cancelled):
            broken("the right phase", "the run Succeeded, and nobody knows whether its last hooks have run")

    def _last_ended(self) -> EndedAttempt:
        """The attempt that ended last: which need not be the one that was decided on last."""
        return max(self._oracle.recent, key=lambda attempt: attempt.sealed.ended_at)

    def _explained(self, status: DbtRunStatus, wished: set[str]) -> bool:
        """Whether the run may have ended without success for another reason than its nodes."""
        stopped = wished & {"cancel", "supersede", "suspend", "invalid", "foreign record"}
        asked = stopped or self._scenario.rules.active_deadline is not None
        reasons = {attempt.sealed.outcome.reason for attempt in self._oracle.recent}
        # Killed between dbt's last word and its exit: of two facts that disagree the worse one is believed.
        killed = "its process ended with exit code" in (status.message or "")
        # What is skipped for the sake of a hook is skipped again and again.
        hooks = not all(self._project.start_hook)
        fatal = _FATAL - {RunReason.CONNECTION_FAILED} if self._reachable() else _FATAL
        return bool(asked or killed or hooks or reasons & fatal or status.reason in fatal)

    def _reachable(self) -> bool:
        """Whether the rules allow another attempt to reach the warehouse."""
        rules, recent = self._scenario.rules.retry, self._oracle.recent
        failures = sum(attempt.sealed.outcome.reason is RunReason.CONNECTION_FAILED for attempt in recent)
        return RetryReason.CONNECTION_FAILED in rules.reasons and failures <= rules.limit

    def _may_have_end_hooks(self) -> bool:
        """Whether the project has them, or the word of how many there are was lost with a log and an operator."""
        attempt = self._oracle.attempts.values()
        return self._project.end_hooks > 0 or all(each.sealed.state.end_hooks is None for each in attempt)

    def _failure(self, endings: dict[str, str], status: DbtRunStatus) -> None:
        if not _done(endings):
            self._nothing_left(endings, status)
        elif not (self._oracle.recent and self._cut_short() and (self._may_have_end_hooks() or self._to_look())):
            broken("the right phase", f"all nodes succeeded, yet the run is {status.phase}: {status.message}")

    def _to_look(self) -> bool:
        """Whether sources were to be looked at anew, as a person had asked for that."""
        last = self._last_ended()
        return any(last.decision.covers(one) for one in self._project.looked_at) and not last.sealed.state.looked

    def _cut_short(self) -> bool:
        """Whether it may be that the last hooks, or the last attempt at all, were never executed."""
        return self._last_ended().sealed.outcome.reason in LOST | {RunReason.CONNECTION_FAILED}

    def _nothing_left(self, endings: dict[str, str], status: DbtRunStatus) -> None:
        """A run does not give up while its rules allow another attempt."""
        rules_of_run, recent = self._scenario.rules, self._oracle.recent
        rules = rules_of_run.retry
        if self._oracle.losses > rules_of_run.max_restarts or self._project.fail_fast or self._oracle.rooted:
            return
        for one, ending in endings.items():
            if any(endings[need] not in GOOD for need in self._project.needs[one]):
                continue
            if self._oracle.losses_of(one) > rules_of_run.max_restarts:
                continue
            count, own = self._oracle.failures(one), self._scenario.retry_of(one)
            if ending in BAD and KINDS[ending] in own.reasons and count <= own.limit:
                broken("retried as often as allowed", f"{one} failed {count} times ({ending}), and the run is over")
            others = [attempt for attempt in recent if attempt.sealed.outcome.reason is not RunReason.CONNECTION_FAILED]
            counted = others if self._reachable() and count <= rules.limit else recent
            if ending in ("", "skipped") and not any(attempt.not_reached(one) for attempt in counted):
                broken("nothing is left", f"{one} could be executed, and the run is over: {status.message}")


def _done(endings: dict[str, str]) -> bool:
    return all(ending in GOOD for ending in endings.values())
