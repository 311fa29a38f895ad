"""A run from its beginning, told attempt by attempt: what the cluster and the logs show is given, the rest is planned.

    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="error: boom", report="skipped").ends()
    assert run.later(seconds=10) == ["Retry orders"]

`next` does what the loop would do (seal, record, create, stop), until there is nothing to do but wait.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dbt_operator.api.commands import Command, Mode, Stage, WhenTested
from dbt_operator.api.names import RESERVED_PREFIX
from dbt_operator.api.phases import AttemptKind, NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import PerNode, Retry
from dbt_operator.dbt.fold import fold_lines
from dbt_operator.dbt.state import EMPTY
from dbt_operator.dbt.view import NodeView, node_views
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Request, Sealed, Shown
from dbt_operator.plan.facts import InitFailure, JobFacts, PodFacts, StepFailure, Terminated
from dbt_operator.plan.observation import Observation, Plan, Rules
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.run import plan_run
from tests.unit.plan.given import DEADLINE, JOB, NOW, POD, settled
from tests.unit.plan.lines import Log, failing

_BAD = ("error", "runtime error")


class Story:
    """A run. Its nodes are those of SelectedNodes; the other arguments are rules, and how dbt describes itself.

    What `build` would execute and the command does not is listed without being selected. `older`: runs that it
    supersedes, and that live.
    """

    def __init__(
        self,
        *nodes: Mapping[str, Any],
        command: Command = Command.BUILD,
        tests: WhenTested = WhenTested.BUILD,
        mode: Mode = Mode.PRODUCER,
        adapter: str = "postgres",
        end_hooks: int | None = 0,
        pod_database: str = "",
        older: tuple[str, ...] = (),
        **rules: Any,
    ) -> None:
        self.command, self.tests, self.mode, self.does = command, tests, mode, command.rules_for(tests, mode)
        self.passed_over = Command.BUILD.rules.executes - command.rules.executes
        self.nodes = {
            node["unique_id"]: {**node, "selected": False} if node["resource_type"] in self.passed_over else node
            for node in nodes
        }
        self.ids = {node["name"]: node["unique_id"] for node in nodes}
        self.adapter, self.end_hooks, self.pod_database = adapter, end_hooks, pod_database
        retry = Retry.model_validate({key: rules.pop(key) for key in Retry.model_fields.keys() & rules.keys()})
        given: dict[str, Any] = {"repeats": self.does.repeats, "stages": self.does.stages, **rules}
        if mode is Mode.PER_NODE:
            given.setdefault("per_node", PerNode())
        self.rules = Rules(start_deadline=DEADLINE, retry=retry, **given)
        self.now = NOW
        self.attempts: list[Dbt] = []
        self.requests: tuple[Request, ...] = ()
        self.handled: list[Request] = []
        self.started = False
        self.invalid: str | None = None
        self.newer = ""  # a run that supersedes this one
        self.older = older
        self.ended: Outcome | None = None
        self.ended_at: datetime | None = None
        self.next()

    # what is given

    def __getitem__(self, what: str) -> "Dbt":
        """The newest attempt that was decided on in these words."""
        return next(one for one in reversed(self.attempts) if self._words(one.decision) == what)

    def change(self, **rules: Any) -> list[str]:
        """Somebody edits the spec."""
        self.rules = replace(self.rules, **rules)
        return self.next()

    def ask(self, token: str, name: str | None = None) -> list[str]:
        """Somebody asks for a retry of a node, or of the run."""
        self.requests += (Request(token, None if name is None else self.ids.get(name, name)),)
        return self.next()

    def later(self, *, seconds: float) -> list[str]:
        """Time passes; what was to be done before it has passed is done first."""
        decided = self.next()
        self.now += timedelta(seconds=seconds)
        return decided + self.next()

    # what comes of it

    def next(self) -> list[str]:
        """The attempts that are decided on now."""
        decided = []
        for _ in range(20):
            plan = self.plan()
            decided += [self._words(decision) for decision in self._decide(plan)]
            if not self._act(plan):
                return decided
        raise AssertionError("the run does not come to rest")

    def plan(self) -> Plan:
        """The plan for this moment."""
        observation = settled(self.observation)
        for dbt, attempt in zip(self.attempts, observation.attempts, strict=True):
            dbt.sealed = attempt.sealed
        return plan_run(observation)

    @property
    def observation(self) -> Observation:
        """What is known at this moment."""
        return Observation(
            run="nightly",
            now=self.now,
            attempts=tuple(dbt.attempt for dbt in self.attempts),
            started=self.started,
            rules=self.rules,
            requests=self.requests,
            invalid=self.invalid,
            superseded_by=self.newer,
            waits_for=self.older,
            ended=self.ended,
            ended_at=self.ended_at,
        )

    def phase(self) -> RunPhase:
        """What the run shows."""
        return self.plan().phase

    def reason(self) -> RunReason:
        """What the run shows."""
        return self.plan().reason

    def message(self) -> str:
        """What the run shows."""
        return self.plan().message

    def node(self, name: str) -> NodeView:
        """What a node shows."""
        return node_views(state=self.plan().history)[self.ids[name]]

    def shows(self, name: str) -> NodePhase:
        """The phase that a node shows."""
        return self.node(name).phase

    # the loop

    def _decide(self, plan: Plan) -> tuple[Decision, ...]:
        if plan.phase.terminal and self.ended is not None:
            return ()
        for decision in plan.record:
            assert decision.index == len(self.attempts) + 1
            assert decision.name not in {one.decision.name for one in self.attempts}
            self.attempts.append(Dbt(self, decision))
            self.ended = self.ended_at = None
        return plan.record

    def _act(self, plan: Plan) -> bool:
        """Do what was planned; whether anything was to be done."""
        changed = bool(plan.record) or plan.start or bool(plan.handled)
        self.started = True
        for dbt in self.attempts:
            if dbt.decision.name in plan.create and dbt.job is None:
                dbt.job = replace(JOB, name=dbt.decision.name, created=self.now)
                dbt.created = changed = True
            if dbt.decision.name in plan.stop:
                dbt.is_told_to_stop()
                changed = True
        self.handled += plan.handled
        self.requests = tuple(one for one in self.requests if one not in plan.handled)
        if plan.phase.terminal and self.ended is None and not plan.record:
            self.ended = Outcome(phase=plan.phase, reason=plan.reason, message=plan.message)
            self.ended_at = self.now
        return changed

    def _words(self, decision: Decision) -> str:
        if decision.nodes is None:
            return decision.kind.value
        names = [node["name"] for unique_id, node in self.nodes.items() if unique_id in decision.nodes]
        assert len(names) == len(decision.nodes)
        kind = "Tests" if decision.kind is AttemptKind.PRODUCER else decision.kind.value
        return " ".join((kind, *names))


class Dbt:
    """One attempt: its Job, its pod and what dbt prints in it."""

    def __init__(self, run: Story, decision: Decision) -> None:
        self.run, self.decision = run, decision
        self.job: JobFacts | None = None
        self.pod: PodFacts | None = None
        self.log = Log()
        self.read = False  # the log, to its end
        self.created = False
        self.sealed: Sealed | None = None
        self.stopping = False
        self.lingers = False  # its node takes its time to take the pod away

    @property
    def attempt(self) -> Attempt:
        """What the planner knows of it."""
        state = fold_lines(state=EMPTY, lines=self.log.lines)
        return Attempt(
            decision=self.decision,
            sealed=self.sealed,
            shown=Shown(job=self.job, pod=self.pod, created=self.created),
            log=LogFacts() if self.sealed is not None else LogFacts(state=state, read=self.read),
        )

    @property
    def nodes(self) -> list[str]:
        """Those that it executes; `build` runs the unit tests of a model with it, whether they are asked for or not."""
        mine = self.decision.nodes
        if mine is None:
            return [one for one in self.run.nodes if self.decision.covers(one)]
        if not self.run.does.tests_hold_back:
            return [one for one in self.run.nodes if one in mine]
        unit_tests = [one for one in self.run.nodes if one.startswith("unit_test.")]
        tested = {one for one in unit_tests if mine.intersection(self.run.nodes[one]["depends_on"])}
        return [one for one in self.run.nodes if one in mine | tested]

    def gets_a_pod(self, **facts: Any) -> "Dbt":
        """Its pod waits to be started."""
        name = f"{self.decision.name}-abcde"
        self.pod = replace(POD, name=name, uid=name, created=self.run.now, **facts)
        return self

    def starts(self, *, loaded: bool = True) -> "Dbt":
        """Its container runs, and dbt has loaded the project, if so."""
        assert self.job is not None, "it has no Job yet"
        now = self.run.now
        if self.pod is None:
            self.gets_a_pod()
        assert self.pod is not None
        self.pod = replace(self.pod, phase="Running", running=True, waiting=None, started=now)
        self.log.begins(at=now)
        if loaded:
            run, whole = self.run, self.decision.nodes is None
            # The first of several stages lists what the later ones execute.
            listed = [run.nodes[one] for one in (run.nodes if whole else self.nodes)]
            if run.pod_database:
                self.log.add("DatabaseFile", {"file": run.pod_database, "kept": False}, at=now)
            if not run.command.rules.executes:
                self.log.add("CommandStarted", {"command": run.command.rules.words}, at=now)
                return self
            stage = self.decision.stage
            command = (stage.rules.words if stage is not None else "") or run.command.rules.words
            said = {"tests": run.tests, "mode": run.mode} if whole and stage is not None else {}
            self.log.lists(listed, command=command, adapter=run.adapter, end_hooks=run.end_hooks, at=now, **said)
            if stage is not Stage.LIST:
                self.log.executes(len(self.nodes), at=now)
        return self

    def looks(self, *, held: str = "", **sources: str) -> "Dbt":
        """It has looked at sources, and decided that these nodes are not executed: because of the one that is bad."""
        self.reports(**sources)
        bad = next((one for one, said in sources.items() if said.partition(":")[0] in ("stale", *_BAD)), "")
        status = "stale" if sources.get(bad) == "stale" else "skipped"
        names = [self.run.ids[name] for name in held.split()]
        entries = [{"unique_id": one, "blocked_by": self.run.ids[bad], "status": status} for one in names]
        self.log.add("HeldBack", {"part": 1, "parts": 1, "total": len(names), "nodes": entries}, at=self.run.now)
        self.log.results.update(dict.fromkeys(names, status))
        return self

    def reports(self, **results: str) -> "Dbt":
        """dbt says of nodes that they are "running", or how they ended: a status, and maybe a colon and a message."""
        return self.says(results, at=self.run.now)

    def says(self, results: Mapping[str, str], *, at: datetime) -> "Dbt":
        """dbt reports that by the clock of its own machine."""
        for name, said in results.items():
            unique_id = self.run.ids[name]
            assert unique_id in self.nodes, f"{name} is none of its nodes"
            status, _, message = said.partition(": ")
            if status != "skipped":
                self.log.starts(unique_id, at=at)
            if status != "running":
                self.log.ends(unique_id, status, message, at=at)
        return self

    def ends(self) -> "Dbt":
        """dbt comes to its end by itself."""
        exit_code = int(failing(self.log.results.values()))
        self.log.finishes(exit_code, at=self.run.now)
        return self._exits(exit_code=exit_code)

    def builds(self, **results: str) -> "Dbt":
        """dbt executes all of its nodes, successfully where nothing else is said, and ends."""
        if self.pod is None:
            self.starts()
        mine = (one for one in self.nodes if self.run.nodes[one]["resource_type"] not in self.run.passed_over)
        left = [one for one in mine if one not in self.log.results]
        names = {name: one for name, one in self.run.ids.items() if one in left}
        checks = ("test.", "unit_test.", "source.")
        word = {name: "pass" if one.startswith(checks) else "success" for name, one in names.items()}
        self.reports(**(word | results))
        return self.ends()

    def complains(self, message: str) -> "Dbt":
        """dbt says of no node in particular that something failed, and ends."""
        self.log.add("RunningOperationCaughtError", {}, level="error", said=message, at=self.run.now)
        self.log.finishes(1, at=self.run.now)
        return self._exits(exit_code=1)

    def gives_up(self, kind: str, message: str) -> "Dbt":
        """dbt ends with an error of its own."""
        self.log.finishes(2, error={"kind": kind, "message": message}, at=self.run.now)
        return self._exits(exit_code=2)

    def is_told_to_stop(self) -> None:
        """Its Job is deleted: a pod that runs gets a signal, one that does not is gone, unless its node is slow."""
        self.job, self.stopping = None, True
        if self.pod is not None:
            self.pod = replace(self.pod, deleting=True) if self.pod.running or self.lingers else None

    def is_deleted(self) -> "Dbt":
        """Somebody deletes its pod, which gets a signal."""
        assert self.pod is not None
        self.pod, self.stopping = replace(self.pod, deleting=True), True
        return self

    def cancels(self, name: str, *, returned: bool) -> "Dbt":
        """dbt cancels the query of a node, which comes back as an error, if so."""
        unique_id = self.run.ids[name]
        self.log.cancels(unique_id, at=self.run.now)
        if returned:
            self.log.ends(unique_id, "error", "canceling statement due to user request", at=self.run.now)
        return self

    def stops(self, *, returns: tuple[str, ...] = ()) -> "Dbt":
        """dbt has cancelled its queries and ended; those of these nodes have come back as errors."""
        assert self.stopping, "nobody has told it to"
        self.log.add("CancelRequested", {"signal": "SIGTERM"}, at=self.run.now)
        for node in fold_lines(state=EMPTY, lines=self.log.lines).nodes.values():
            if node.phase is NodePhase.RUNNING:
                self.cancels(node.name, returned=node.name in returns)
        self.log.finishes(2, cancelled=True, at=self.run.now)
        return self._exits(exit_code=2)

    def loses_its_place(self) -> "Dbt":
        """A queue suspends its Job, and the Job controller deletes the pod, which has the time to stop."""
        job = self.job
        assert job is not None, "it has no Job"
        self.is_deleted().stops()
        self.job = replace(job, suspended=True)
        return self

    def is_evicted(self) -> "Dbt":
        """Its node needs the room; the pod object says so."""
        return self._exits(exit_code=137, pod_reason="Evicted")

    def finds(self, **found: str) -> "Dbt":
        """The runner prints what the steps before dbt have found out, with dots in the place of underlines."""
        self.log.add("Found", {name.replace("_", "."): value for name, value in found.items()}, at=self.run.now)
        return self

    def fails_to_start(self, *, step: StepFailure | None = None, exit_code: int = 1, **facts: Any) -> "Dbt":
        """A step before dbt fails, with these words or without any."""
        assert self.job is not None, "it has no Job"
        if self.pod is None:
            self.gets_a_pod()
        assert self.pod is not None
        ended = Terminated(exit_code=exit_code, reason="Error", message="")
        failure = InitFailure(f"{RESERVED_PREFIX}fetch", ended, step)
        self.pod = replace(self.pod, phase="Failed", waiting=None, init_failure=failure, **facts)
        self.job = replace(self.job, failed="BackoffLimitExceeded")
        return self

    def is_killed(self, *, exit_code: int = 137, reason: str = "Error") -> "Dbt":
        """Its process ends without a word."""
        return self._exits(exit_code=exit_code, reason=reason)

    def vanishes(self) -> "Dbt":
        """Its Job and its pod are taken away by force; whether its process is gone nobody knows."""
        self.job = self.pod = None
        self.read = True
        return self

    def _exits(self, *, exit_code: int, reason: str = "", **facts: Any) -> "Dbt":
        assert self.pod is not None
        reason = reason or ("Error" if exit_code else "Completed")
        terminated = Terminated(exit_code=exit_code, reason=reason, message="")
        phase = "Failed" if exit_code else "Succeeded"
        self.pod = replace(self.pod, phase=phase, running=False, waiting=None, terminated=terminated, **facts)
        if self.job is not None:
            self.job = replace(self.job, complete=not exit_code, failed="BackoffLimitExceeded" if exit_code else None)
        self.read = True
        return self
