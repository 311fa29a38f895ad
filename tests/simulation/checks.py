"""The invariants. They are checked against what really happened in the simulated pods, not against what is believed."""

from collections import Counter
from functools import cached_property

from dbt_operator.api.commands import WhenTested
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.api.spec import ConcurrencyPolicy, Downstream
from dbt_operator.api.status import DbtModelStatus, DbtRunStatus
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import node_views, views_of
from dbt_operator.kube.resources import Object
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.observation import Observation, Plan
from dbt_operator.plan.run import plan_run
from dbt_operator.reconcile.objects import tells_why
from tests.simulation.cluster import Cluster
from tests.simulation.decisions import DecisionChecks
from tests.simulation.endings import EndingChecks
from tests.simulation.oracle import Oracle
from tests.simulation.process import Process
from tests.simulation.project import TESTS, Project
from tests.simulation.scenario import Scenario
from tests.simulation.warehouse import GOOD, Warehouse
from tests.simulation.world import World, broken

_RANKS = {NodePhase.PENDING: 0, NodePhase.RUNNING: 1}
# More than any run of a few nodes has use for.
_TURNS_A_SECOND = 60
_CALLS_IN_TEN_SECONDS = {"create": 40}
_ALL_CALLS_IN_TEN_SECONDS = 400
# What an operator does once for an attempt, or for what a person asks for; again where the call has failed.
_ACTIONS = ("start", "record", "create", "choose", "release", "seal", "handled", "stop", "expire")
_MOST_ACTIONS = 3
_CALMED_MS = 80_000  # after which no call is under way that takes long, and none is put off for what was refused
_WRITTEN_MS = 10_000  # after which what is known is written
_REFUSED_EVERY_MS = 5000  # a Job that a quota refuses is tried again


class Checks:
    """Watches the world, the operators and their plans."""

    def __init__(self, *, world: World, scenario: Scenario, warehouse: Warehouse, cluster: Cluster) -> None:
        self._world, self._scenario, self._warehouse, self._cluster = world, scenario, warehouse, cluster
        self._project: Project = scenario.project
        self.oracle = Oracle(project=scenario.project, cluster=cluster)
        self.wished: set[str] = set()  # what people have asked for at any time
        self.requests = sum(wish.startswith("retry") for _, wish in scenario.wishes)
        self.suspensions = sum(wish == "suspend" for _, wish in scenario.wishes)
        self.turns = 0
        self.at_once = 0
        self.plan: Plan | None = None  # the last one
        self.operators_at_once = False
        self._decisions = DecisionChecks(world=world, scenario=scenario, warehouse=warehouse, oracle=self.oracle)
        self._endings = EndingChecks(scenario=scenario, warehouse=warehouse, oracle=self.oracle)
        self._recent: Counter[tuple[str, int]] = Counter()
        self._calls: Counter[str] = Counter()  # less those that have failed
        self._states: dict[tuple[str, str], AttemptState] = {}
        self._history: History | None = None
        self._changed = 0  # when it did last
        self._successes: set[str] = set()
        self._chance = world.chance("checks")
        warehouse.on_start = self.started

    # what happens in pods

    def started(self, process: Process, node: str) -> None:
        """A process begins to execute a node."""
        if node in self._project.passed_over:
            broken("what is stale is not executed", f"{process.job} begins {node}")
        alive = [one for one in self._warehouse.processes if one.alive]
        self.at_once = max(self.at_once, len(alive))
        for other in alive:
            if other is process:
                continue
            if node in other.running or other.may_execute(node):
                broken("one process for a node", f"{node} is begun by {process.job} while {other.job} has it")
            for one in other.running:
                if self._project.reads(one, node) or self._project.reads(node, one):
                    broken(
                        "nothing is built while it is read", f"{process.job} begins {node} while {other.job} has {one}"
                    )
            if self._exclusive() and other.working:
                broken("one process for a database file", f"{process.job} works while {other.job} does")

    def _exclusive(self) -> bool:
        policy = self._scenario.rules.retry.concurrency_policy
        return policy is ConcurrencyPolicy.FORBID or (
            policy is ConcurrencyPolicy.AUTO and self._project.adapter == "duckdb"
        )

    # what the operator does

    def called(self, what: str) -> None:
        """A call of the API."""
        self._calls[what] += 1
        period = self._world.ms // 10_000
        for name, most in (("all", _ALL_CALLS_IN_TEN_SECONDS), (what, _CALLS_IN_TEN_SECONDS.get(what))):
            self._recent[(name, period)] += 1
            if most is not None and self._recent[(name, period)] > most:
                broken("no hot loop", f"more than {most} calls ({name}) within ten seconds")

    def failed(self, what: str) -> None:
        """A call had no good answer."""
        self._calls[what] -= 1

    def bounded(self, *, operators: int) -> None:
        """The run is over: so many operators have done no more for it than there was to do."""
        once = len(self._cluster.records) + self.requests + 1
        for what in _ACTIONS:
            most = _MOST_ACTIONS * once * operators + (self._world.ms // _REFUSED_EVERY_MS if what == "create" else 0)
            if self._calls[what] > most:
                broken("no hot loop", f"{self._calls[what]} times {what}, for which there were {once} reasons")

    def planned(self, operator: str, observation: Observation, plan: Plan) -> None:
        """A plan was made."""
        self.turns += 1
        self.plan = plan
        period = (f"turns of {operator}", self._world.ms // 1000)
        self._recent[period] += 1
        if self._recent[period] > _TURNS_A_SECOND:
            broken("no hot loop", f"more than {_TURNS_A_SECOND} turns within a second")
        at_once = plan.seal or plan.start or plan.record or plan.done
        if not at_once and plan.wake_at <= observation.now:
            broken("wakes in the future", f"{plan.wake_at} is not after {observation.now}")
        if self._chance.random() < 0.01 and plan_run(observation) != plan:
            broken("pure", "the same facts give another plan")
        self._forward(operator, observation, plan)
        self._green(plan.history)
        if len(observation.attempts) > self.attempts_allowed:
            broken("finitely many attempts", f"{len(observation.attempts)} are more than {self.attempts_allowed}")
        if plan.record or plan.create:
            self._begun(observation, plan)

    def decided(self, observation: Observation, plan: Plan, decision: Decision) -> None:
        """What the plan says is about to be recorded."""
        self._decisions.check(observation, plan, decision)

    def _begun(self, observation: Observation, plan: Plan) -> None:
        """Something is decided, or made."""
        if not observation.started:
            broken("started first", "something is made before the spec is closed against changes")
        if observation.rules.suspend or observation.rules.cancel or observation.superseded_by:
            broken("stopped is stopped", "something is begun although nothing is to run")
        unsealed = any(not each.live and each.attempt.sealed is None for each in plan.assessments)
        if plan.record and (plan.seal or unsealed):
            broken("sealed before decided", "something is decided while an ended attempt is not sealed")
        live = sum(each.live and each.attempt.kind is not AttemptKind.PRODUCER for each in plan.assessments)
        new = sum(decision.kind is not AttemptKind.PRODUCER for decision in plan.record)
        if new and live + new > self._scenario.rules.parallelism:
            broken("parallelism", f"{live} attempts live and {new} are added")

    def _forward(self, operator: str, observation: Observation, plan: Plan) -> None:
        """The state of a node within an attempt moves forward only."""
        for each in plan.assessments:
            key = (operator, each.attempt.name)  # a new operator reads the log anew
            before, after = self._states.get(key), each.state
            if before is after:
                continue
            self._states[key] = after
            stored = each.attempt.sealed is not None and each.attempt.sealed.ended_at != observation.now
            if before is None or stored or self.operators_at_once:  # of two, the one that seals may know less
                continue
            for one, node in before.nodes.items():
                now = after.nodes.get(one)
                if now is None or _RANKS.get(now.phase, 2) < _RANKS.get(node.phase, 2):
                    broken("forward only", f"{one} goes back from {node.phase} in {each.attempt.name}")

    def _green(self, history: History) -> None:
        """No node is shown as successful that no dbt has reported so."""
        before, self._history = self._history, history
        same = before is not None and (before.pending, len(before.attempts)) == (history.pending, len(history.attempts))
        if same and before is not None and all(map(_is, before.attempts, history.attempts)):
            return
        self._changed = self._world.ms
        reports = (report for process in self._warehouse.processes for report in process.reports)
        self._successes.update(node for _, node, ending in reports if ending in GOOD)
        # What was found of a source counts only together with that of all others, and is shown at once.
        self._successes.update(one for one in self._project.looked_at if self._found_good(one))
        unreported = [one for one in self._project.executables if one not in self._successes]
        for one, view in views_of(state=history, unique_ids=unreported).items():
            if view.phase is NodePhase.SUCCEEDED:
                broken("green only when reported", f"{one} is shown as {view.reason}, which no dbt has said")

    def _found_good(self, source: str) -> bool:
        return any(process.found(source) in GOOD for process in self._warehouse.processes)

    def model_shown(self, before: Object, after: Object) -> None:
        """The status of a DbtModel was written. Of two operators at once each may know what the other one does not."""
        phases = [model["status"].get("phase") for model in (before, after)]
        if phases[0] != "Succeeded" or phases[1] == "Succeeded" or self.operators_at_once or self.plan is None:
            return
        one, status = before["spec"]["uniqueId"], DbtModelStatus.parse(before["status"]) or DbtModelStatus()
        asked_again = one in self.plan.history.pending or self._again(one, status)
        forgotten = any(map(self.oracle.forgotten, (one, *self._tests_of(one))))
        if _all_done(status) and not asked_again and not forgotten and self._good(one):
            said = after["status"].get("message")
            broken("what is shown stays", f"{one} had succeeded, and is {phases[1]}: {said}")

    def at_rest(self) -> None:
        """If nothing was said or done for a while, and no call fails, then what is shown is what is known."""
        since = max(self._changed, self._scenario.calm + _CALMED_MS)
        if self._world.ms - since >= _WRITTEN_MS and self.plan is not None and self._world.ms - since < 2 * _WRITTEN_MS:
            self.all_shown(self.plan)

    def all_shown(self, plan: Plan) -> None:
        """What the DbtModels show is what is known of their nodes.

        Of two operators at once, the one that has not read the graph gives a node's object another name, if it has
        looked for it before the other one has made it.
        """
        views, shown = node_views(state=plan.history), dict[str, list[str | None]]()
        for model in self._cluster.models:
            shown.setdefault(model["spec"]["uniqueId"], []).append(model["status"].get("phase"))
        for one, phases in shown.items():
            view = views.get(one)
            if len(phases) > 1 and not self.operators_at_once:
                broken("one object for a node", f"{one} has {len(phases)}")
            if view is not None and view.phase not in phases and tells_why(view, history=plan.history):
                broken("what is shown is known", f"{one} is shown as {phases}, and is {view.phase}")

    def end_shown(self) -> None:
        """The operator has nothing left to do: the run and its nodes show what is known."""
        status, plan = self._cluster.status, self.plan
        if plan is None or self.operators_at_once:  # the last plan need not be that of the last operator
            return
        if (status.phase, status.reason) != (plan.phase, plan.reason):
            said = f"{status.phase} {status.reason}"
            broken("what is shown is known", f"the run is shown as {said}, and is {plan.phase} {plan.reason}")
        if not plan.phase.terminal or plan.assessments:
            self.all_shown(plan)
        for model in self._cluster.models if plan.phase.terminal else ():
            shown = DbtModelStatus.parse(model["status"]) or DbtModelStatus()
            if not shown.phase.terminal:
                broken("nodes end with the run", f"{model['spec']['uniqueId']} is shown as {shown.phase}")

    def _again(self, one: str, status: DbtModelStatus) -> bool:
        """Whether an attempt was decided on that is to execute the node after the last one that had begun with it."""
        made = [record.decision for _, record in sorted(self._cluster.records.items())]
        began = [number for number, each in enumerate(made) if status.attempts and each.name == status.attempts[-1].job]
        return any(each.covers(one) for each in made[max(began, default=0) + 1 :])

    def _good(self, one: str) -> bool:
        """Whether the last executions of a node and of its tests have ended well."""
        return all(map(self._warehouse.good, (one, *self._tests_of(one))))

    def _tests_of(self, one: str) -> list[str]:
        project = self._project
        return [
            test for test in project.executables if project.nodes[test].kind in TESTS and one in project.tested(test)
        ]

    @property
    def attempts_allowed(self) -> int:
        """More attempts than this cannot be needed: each uses up something that is finite."""
        rested = self.suspensions * (self._scenario.rules.parallelism + 1) + self._cluster.taken_back
        return (1 + self.requests) * self._allowed_by_itself + rested + self.requests

    @cached_property
    def _allowed_by_itself(self) -> int:
        """How many a run may need of which nobody asks anything, and from which nobody takes its place."""
        rules, nodes = self._scenario.rules, len(self._project.executables)
        retry = rules.retry
        limit = max((retry.limit, *(self._scenario.retry_of(one).limit for one in self._project.nodes)))
        retries = nodes * (limit + 1)
        blocked = (
            retries * (nodes if rules.nodes or rules.per_node or retry.downstream is Downstream.PER_NODE else 1) + 1
        )
        lost = (rules.max_restarts + 1) * (rules.parallelism + 1)
        own = nodes * (rules.max_restarts + 2) if rules.per_node is not None else 0
        return own + retries + blocked + lost + retry.limit + 1 + (self._project.tests is WhenTested.AFTER_ALL)

    def shown(self, status: DbtRunStatus, plan: Plan) -> None:
        """The status of the run was written, by an operator whose last plan this is."""
        if status.phase is plan.phase and plan.phase.terminal:
            scenario = self._scenario
            answered = scenario.api_errors == scenario.stalls == 0 or self._world.ms > scenario.calm + _CALMED_MS
            if answered and not self.operators_at_once:  # whoever waits for the end of the run reads its nodes next
                self.all_shown(plan)
            self._endings.check(status, plan, wished=self.wished, one_operator=not self.operators_at_once)


def _all_done(status: DbtModelStatus) -> bool:
    tests = status.tests
    return status.phase is NodePhase.SUCCEEDED and (tests is None or tests.passed + tests.warned == tests.total)


def _is(one: object, other: object) -> bool:
    return one is other
