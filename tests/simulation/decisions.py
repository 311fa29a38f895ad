"""What has to be true of a decision at the moment at which it is made."""

from collections.abc import Collection
from dataclasses import replace

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.reason_table import LOST, STOPPED
from dbt_operator.dbt.found import COMMIT
from dbt_operator.dbt.history import BEGUN
from dbt_operator.plan.attempt import Decision
from dbt_operator.plan.observation import Observation, Plan
from tests.simulation.oracle import KINDS, Known, Oracle
from tests.simulation.project import TESTS, Project
from tests.simulation.scenario import Scenario
from tests.simulation.warehouse import BAD, GOOD, Execution, Warehouse
from tests.simulation.world import World, broken


class DecisionChecks:
    """Checks decisions against what is known, and against the rules of the run."""

    def __init__(self, *, world: World, scenario: Scenario, warehouse: Warehouse, oracle: Oracle) -> None:
        self._world, self._scenario, self._warehouse, self._oracle = world, scenario, warehouse, oracle
        self._project: Project = scenario.project

    def check(self, observation: Observation, plan: Plan, decision: Decision) -> None:
        """A decision is about to be recorded. Those that follow the answer to a request in a turn are a part of it."""
        requests = next((each.requests for each in plan.record if each.requests), ())
        decision = replace(decision, requests=decision.requests or requests)
        self._restarts(decision)
        self._stages(plan, decision)
        if decision.nodes is None:
            whole = [attempt for attempt in self._oracle.attempts.values() if attempt.decision.nodes is None]
            if decision.index > 1 and any(attempt.endings and attempt.listed for attempt in whole):
                broken("nothing again", f"{decision.name} is to execute everything although results are known")
            return
        if not decision.nodes:
            broken("something to do", f"{decision.name} has no nodes")
        self._same_project(plan, decision)
        known = self._oracle.known(plan)
        self._one_attempt(decision)
        self._looked_at(plan, decision)
        for one in sorted(decision.nodes.intersection(self._project.executables)):
            if not decision.requests and not self._asked_for(one):
                self._skipped(decision, one, known)
            self._again(decision, one, known)
            self._ready(decision, one, known)
            self._alone(plan, decision, one)
        if decision.kind is AttemptKind.RETRY and not decision.requests:
            self._retried(observation, decision, known)
            self._rebuilt(plan, decision, known)
        self._pod(decision)

    def _asked_for(self, one: str) -> bool:
        """Whether the node is one of those with which a request was answered, whose attempts may be lost.

        What is asked for of the run follows by and by, for want of room.
        """
        records, since = self._oracle.cluster.records, self._oracle.since
        asked = [each.decision for index, each in records.items() if index >= since and each.decision.requests]
        return any(each.covers(one) or any(request.unique_id is None for request in each.requests) for each in asked)

    def _pod(self, decision: Decision) -> None:
        """Nodes are resumed in their own kind of pod. A retry has that of the node that it is for, or is asked for."""
        if decision.kind is AttemptKind.PRODUCER:
            return
        nodes = decision.nodes or frozenset()
        if any(self._project.nodes[one].kind == "source" for one in nodes):
            return  # sources are looked at by one attempt, for nodes of all kinds of pods
        if decision.kind is not AttemptKind.RETRY:
            meant = frozenset(one for one in nodes if self._by_itself(one, nodes))
        else:
            meant = nodes.union(request.unique_id for request in decision.requests if request.unique_id)
        wrong = [one for one in meant if self._scenario.pod_of(one) != decision.pod.overrides]
        if wrong and (decision.kind is not AttemptKind.RETRY or len(wrong) == len(meant)):
            broken("the pod of its nodes", f"{decision.name} has {decision.pod.overrides}, which is wrong for {wrong}")

    def _by_itself(self, one: str, nodes: frozenset[str]) -> bool:
        """Whether the node goes with no other one of these: a test with what it is about, an ephemeral model always."""
        node = self._project.nodes[one]
        return not node.ephemeral and (node.kind not in TESTS or nodes.isdisjoint(self._project.tested(one)))

    def _stages(self, plan: Plan, decision: Decision) -> None:
        """Each attempt is of one stage. No test is executed while anything is built, or could be."""
        stages = self._project.command.rules_for(self._project.tests, self._project.mode).stages
        if (decision.stage is None) == bool(stages):
            broken("one stage after the other", f"{decision.name} is of the stage {decision.stage}")
        if decision.stage is None:
            return
        others = [one for one in decision.nodes or () if not decision.stage.rules.of((one,))]
        live = [
            each.attempt.name for each in plan.assessments if each.live and each.attempt.stage is not decision.stage
        ]
        if others or (live and not decision.requests):
            broken("one stage after the other", f"{decision.name} has {others}, while {live} live")

    def _looked_at(self, plan: Plan, decision: Decision) -> None:
        """What was decided on stale sources stays so, unless a person asks for more."""
        asked = any(each.attempt.decision.requests for each in plan.assessments) or decision.requests
        executables = frozenset(self._project.executables)
        for one in sorted((decision.nodes or frozenset()) - executables) if not asked else ():
            if any(each.state.looked and each.attempt.covers(one) for each in plan.assessments):
                broken("what is stale stays so", f"{decision.name} has {one}, which was decided on")

    def _same_project(self, plan: Plan, decision: Decision) -> None:
        """A node is not executed from another project than those of which it is known that they were executed."""
        for each in plan.assessments:
            process = self._oracle.process_of(each.attempt.decision)
            known = any(node.phase in BEGUN for node in each.state.nodes.values())
            if process is not None and known and decision.found.get(COMMIT) != process.commit:
                has = decision.found.get(COMMIT, "whatever it finds")
                broken("one project for a run", f"{decision.name} has {has}, and {process.job} had {process.commit}")

    def _restarts(self, decision: Decision) -> None:
        """Lost pods are made up for as often as the rules say, unless a person asks for more."""
        lost = self._oracle.losses
        if lost > self._scenario.rules.max_restarts and not decision.requests:
            broken("restarts by the rules", f"{decision.name} is decided on after {lost} losses")
        for one in () if decision.requests else sorted(decision.nodes or ()):
            if self._oracle.losses_of(one) > self._scenario.rules.max_restarts and not self._again_for_others(
                one, decision
            ):
                broken("restarts by the rules", f"{decision.name} has {one}, which was lost too often")

    def _again_for_others(self, one: str, decision: Decision) -> bool:
        """Whether a test comes along with a node that it tests."""
        return one.startswith(TESTS) and not (decision.nodes or frozenset()).isdisjoint(self._project.subjects(one))

    def _alone(self, plan: Plan, decision: Decision, one: str) -> None:
        if self._project.along(one) and self._project.nodes[one].parents[0] not in (decision.nodes or ()):
            broken("what dbt can execute", f"{decision.name} has {one} without its model")
        for each in plan.assessments:
            node = each.state.nodes.get(one) if each.live else None
            if node is not None and node.cancelled and node.status == "error":
                broken("one answer to one loss", f"{decision.name} has {one}, which {each.attempt.name} stops")

    def _ready(self, decision: Decision, one: str, known: Known) -> None:
        """What a node needs is executed before it, or has succeeded: tests hold back what is built from their node."""
        project = self._project
        if project.along(one):
            return
        for need in sorted(project.gates[one] - (decision.nodes or frozenset())):
            inlined = project.nodes[need].ephemeral and known.last_begun(_containing(need, project))
            if known.last(need)[1] not in GOOD and not inlined:
                broken("nothing before its time", f"{decision.name} has {one}, and {need} has not succeeded")

    def _skipped(self, decision: Decision, one: str, known: Known) -> None:
        """What dbt skipped waits for the success, in a later attempt, of all that it was skipped for."""
        index, ending = known.last(one)
        process = self._oracle.process_of(decision_of(self._oracle, index)) if ending.startswith("skipped") else None
        tested = self._project.subjects(one) if self._project.nodes[one].kind in TESTS else ()
        if process is None or known.last_begun((one, *tested)) > index:
            return
        causes = process.skipped_for(one)
        if not causes:
            broken("dbt said to skip it", f"{decision.name} has {one}, and it is not known what it was skipped for")
        for cause in sorted(causes - (decision.nodes or frozenset())):
            later, reported = known.last(cause)
            if later <= index or reported not in GOOD:
                broken("dbt said to skip it", f"{decision.name} has {one}, skipped for {cause}, which is {reported}")

    def _one_attempt(self, decision: Decision) -> None:
        """Where nothing may be retried, nothing was lost and nobody asked, one attempt is all."""
        reasons = {attempt.sealed.outcome.reason for attempt in self._oracle.attempts.values()}
        asked = any(attempt.decision.requests for attempt in self._oracle.attempts.values()) or decision.requests
        retried = any(self._scenario.retry_of(one).limit for one in self._project.nodes)
        if decision.kind is AttemptKind.NODE:
            had = [one for attempt in self._oracle.attempts.values() for one in attempt.decision.nodes or ()]
            if not (decision.nodes or frozenset()).isdisjoint(had):
                broken(
                    "a node is begun once", f"{decision.name} has {sorted(decision.nodes or ())}, and {had} were had"
                )
            return
        begins = all(attempt.decision.stage is not decision.stage for attempt in self._oracle.attempts.values())
        if self._scenario.rules.retry.limit or retried or asked or begins or reasons & (LOST | STOPPED):
            return
        broken("one attempt", f"{decision.name} is decided on although nothing may be retried and nothing was lost")

    def _again(self, decision: Decision, one: str, known: Known) -> None:
        """A node that dbt reported as successful is executed again for a reason only."""
        index, ending = known.last(one)
        if ending not in GOOD or known.last_begun((one,)) > index:
            return
        if index == decision.index and decision.name == self._oracle.attempts[index].decision.name:
            return  # an operator has not seen yet what another one has made: the name is taken, and nothing comes of it
        if self._project.nodes[one].kind == "source" and (decision.requests or self._asked_for(one)):
            return  # whether it is fresh by now
        if any(later > index and attempt.may_have_begun(one) for later, attempt in self._oracle.attempts.items()):
            return
        project = self._project
        if project.nodes[one].kind in TESTS:
            tested = project.subjects(one)
            excused = not (decision.nodes or frozenset()).isdisjoint(tested) or known.last_begun(tested) > index
        else:
            tests = [node for node in project.executables if node.startswith(("test.", "unit_test."))]
            excused = any(known.last(test)[1] not in ("", *GOOD) for test in tests if one in project.rebuilt(test))
            # The word about something that it reads was lost, and that is, or was, executed again.
            above = tuple(each for each in project.executables if project.reads(one, each))
            stale = any(known.last(each)[1] not in GOOD for each in above) or known.last_begun(above) > index
            excused = excused or stale
        if not excused:
            broken("nothing again", f"{decision.name} is to execute {one}, which succeeded in attempt {index}")

    def _retried(self, observation: Observation, decision: Decision, known: Known) -> None:
        """A retry has a node that failed, not too often, in a way that is retried, and its backoff is over."""
        excuses = []
        for one in sorted((decision.nodes or frozenset()) | self._tested_later(decision)):
            failed_in = [index for index, endings in known.endings.items() if endings.get(one) in (*BAD, "bad")]
            count = sum(index >= self._oracle.since for index in failed_in)
            if not count and failed_in:
                return  # it failed before a person asked for a retry
            failed = self._failed(one, failed_in)
            if not count or failed is None:
                continue
            rules = self._scenario.retry_of(one)
            if count > rules.limit or KINDS[failed.ending] not in rules.reasons:
                excuses.append(f"{one} failed {count} times, {failed.ending} at last")
                continue
            earliest = self._world.moment(failed.ended or 0) + rules.backoff.pause(count)
            if self._scenario.skews != (0,) or observation.now >= earliest:
                return
            excuses.append(f"{one} has to wait until {earliest}")
        broken("retries by the rules", f"{decision.name} retries {sorted(decision.nodes or ())}: {excuses}")

    def _tested_later(self, decision: Decision) -> frozenset[str]:
        """The tests for which nodes may be built again, where a later stage executes them."""
        project, nodes = self._project, decision.nodes or frozenset()
        if decision.stage is not Stage.BUILD:
            return frozenset()
        tests = (one for one in project.executables if project.nodes[one].kind in TESTS)
        return frozenset(test for test in tests if not nodes.isdisjoint(project.rebuilt(test)))

    def _rebuilt(self, plan: Plan, decision: Decision, known: Known) -> None:
        """A test that found rows finds them again, unless what it tests is built before it."""
        project, nodes = self._project, decision.nodes or frozenset()
        for test in sorted(one for one in nodes if one.startswith("test.")):
            failed_in = [index for index, endings in known.endings.items() if endings.get(test) in (*BAD, "bad")]
            failed = self._failed(test, failed_in)
            tested = [one for one in project.rebuilt(test) if one in project.executables]
            if failed is None or failed.ending != "fail" or not tested or not nodes.isdisjoint(project.subjects(test)):
                continue
            models = (one for one in project.executables if project.nodes[one].kind not in TESTS)
            below = [one for one in models if any(project.reads(one, above) for above in tested)]
            held_back = {one: failed_in for one in below if test in project.ahead[one]}
            if not any(_built_or_planned(one, plan, known, but=held_back.get(one, ())) for one in below):
                broken("rebuilt before it is tested again", f"{decision.name} has {test} without {tested}")

    def _failed(self, one: str, failed_in: list[int]) -> Execution | None:
        """The last failure of a node that was heard of, as it really happened."""
        jobs = {self._oracle.cluster.records[index].decision.name for index in failed_in}
        failed = [
            each
            for each in self._warehouse.executions
            if each.node == one and each.ending in BAD and each.process.job in jobs
        ]
        return failed[-1] if failed else None


def _containing(ephemeral: str, project: Project) -> tuple[str, ...]:
    """The nodes that dbt executes only after this ephemeral model, as it is a part of them."""
    return tuple(one for one, parents in project.upstream.items() if ephemeral in parents)


def decision_of(oracle: Oracle, index: int) -> Decision:
    """The decision for an attempt."""
    return oracle.cluster.records[index].decision


def _built_or_planned(one: str, plan: Plan, known: Known, *, but: Collection[int]) -> bool:
    """Whether a node was built, or may be yet by an attempt other than these; what dbt is cancelling is not over."""
    if known.last(one)[1] in GOOD:
        return True
    for each in plan.assessments:
        decision, node = each.attempt.decision, each.state.nodes.get(one)
        over = node is not None and node.phase.terminal and not (node.stopped or node.unexplained)
        other = decision is None or decision.index not in but
        if other and not over and each.attempt.covers(one) and (each.live or not each.gone):
            return True
    return False
