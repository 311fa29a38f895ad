"""A dbt process in a pod: it lists its nodes, executes them as its command does, and prints what our runner prints."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any

from dbt_operator.api.commands import Mode
from dbt_operator.dbt.found import COMMIT
from dbt_operator.plan.attempt import Decision
from dbt_operator.runner import freshness
from tests.simulation import lines
from tests.simulation.project import TESTS
from tests.simulation.warehouse import BAD, GOOD, Execution, Warehouse
from tests.simulation.world import World

_CHANGED = 0.1  # how often a node that was to be executed without dbt is left to it
_EARLY = 0.3  # how often a query comes back before dbt says that it has cancelled it, if it ever says so
_REFUSED = 0.03  # how often dbt cannot connect once more after its nodes, which it does whether there are hooks or not


class Process:
    """One process, from its start to its end. `log`: complete lines; a kill may leave a piece of one after them."""

    def __init__(
        self,
        *,
        world: World,
        chance: Random,
        warehouse: Warehouse,
        job: str,
        number: int,
        decision: Decision,
        exited: Callable[[int], None],
        commit: str,
        hang_until: int,
        skew: int = 0,
    ) -> None:
        self.world, self._chance, self._warehouse, self.job = world, chance, warehouse, job
        self._project = warehouse.project
        self._exited = exited
        self._hang_until = hang_until
        self._skew = timedelta(milliseconds=skew)
        self._number = number
        self.decision = decision
        self.commit = commit  # of its project: the branch has moved since the attempt before
        self.alive = True
        self.crashed = False
        self.log: list[bytes] = []
        self.piece = b""  # the beginning of a line that was never ended
        self.reports: list[tuple[int, str, str]] = []  # line, node, word: what was printed about ends of nodes
        self.starts: list[tuple[int, str]] = []  # line, node: what was printed about beginnings
        self.graph_line: int | None = None
        self.finished_line: int | None = None
        self.todo: dict[str, None] = {}  # what it has not ended yet and may still execute
        self.running: dict[str, Execution] = {}
        self._skipped: set[str] = set()
        self._results: dict[str, str] = {}
        self._looked_at: dict[str, int] = {}  # when, by the source
        self._inlined = frozenset(one for one, node in self._project.nodes.items() if node.ephemeral)
        self._cancelling = False
        self._failed_fast = False
        self._hook_failed = False
        self._ending = False
        self._early = world.chance(f"queries that come back early in {job}")
        self._refused = world.chance(f"connections that are refused at the end of {job}")
        self._changes = world.chance(f"relations that are others meanwhile in {job}")
        self._without_dbt = set(self._project.without_dbt)
        warehouse.processes.append(self)
        self._later(chance.randint(200, 1500), self._boot)

    # printing

    def _print(self, name: str, data: dict[str, Any], *, level: str = "info") -> int:
        # Of two lines the later one has the later time, as dbt's have microseconds: what failed before the wish to stop
        # can be told from what failed after it.
        ts = self.world.now + self._skew + timedelta(microseconds=len(self.log))
        self.log.append(lines.event(len(self.log) + 1, ts, name, data, level=level))
        return len(self.log)

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if self.alive:
                action()

        self.world.later(delay, act)

    # the beginning

    def _boot(self) -> None:
        if self._ending:
            return
        self._print("RunnerStarted", {"format": 1, "runner_version": "0.1.0", "attempt": "a", "run_uid": "u"})
        self._print("Found", {COMMIT: self.commit})
        self._print("MainReportVersion", {"version": "=1.11.16", "log_version": 3})
        self._later(self._chance.randint(200, 2500), self._parse)

    def _parse(self) -> None:
        if self._ending or self._cancelling:
            return
        project = self._project
        self._print("AdapterRegistered", {"adapter_name": project.adapter, "adapter_version": "=1.0.0"})
        if project.fatal:
            self._finish(code=2, error={"kind": project.fatal, "message": "it does not work"}, phase="parse")
            return
        chosen = self._chosen()
        entries = lines.listed(project, chosen)
        # In several parts, now and then, of which some may be read and others be lost.
        cut = self._chance.randint(1, len(entries)) if self._chance.random() < 0.3 else len(entries)
        pages = [page for page in (entries[:cut], entries[cut:]) if page]
        for part, page in enumerate(pages, start=1):
            data = {"part": part, "parts": len(pages), "total": len(entries), "nodes": page, **self._command}
            self.graph_line = self._print("SelectedNodes", data)
        self._print("Hooks", {"on_run_start": 0, "on_run_end": project.end_hooks})
        later = frozenset(one for one in chosen if self.decision.nodes is None and not self.decision.covers(one))
        sources = [one for one in chosen if one in project.looked_at]
        self._others = self.decision.decides_on.union(later).difference(sources)
        self.todo = {one: None for one in project.nodes if one in chosen - later and one not in sources}
        if sources:
            self._later(self._chance.randint(50, 800), partial(self._look, sources))
        elif later:
            self._later(self._chance.randint(50, 800), self._execute if self.todo else self._only_listed)
        else:
            self._later(self._chance.randint(50, 800), self._execute)

    def _only_listed(self) -> None:
        if not self._ending and not self._cancelling:
            self._finish(code=0, phase="list")

    def _look(self, sources: list[str]) -> None:
        """Look at the sources, one after the other, and decide what is not executed because of them."""
        if self._ending or self._cancelling:
            return
        if not self._warehouse.reachable(self.world.ms):
            self.todo.clear()
            self._not_connected()
            return
        left = [one for one in sorted(sources) if one not in self._results]
        if left:
            node, said = self._project.nodes[left[0]], self._project.result(left[0])
            now = self.world.now + self._skew
            self._print(*lines.started(node))
            self._print(*lines.result(node, said, began=now, ended=now))
            self._results[left[0]], self._looked_at[left[0]] = said, self.world.ms
            self._later(self._chance.randint(50, 800), partial(self._look, sources))
            return
        found = {one: self._results[one] for one in sources}
        statuses = {one: lines.STATUS.get(said, said) for one, said in found.items()}
        held = self._project.held_back((*self.todo, *self._others), statuses)
        entries = freshness.entries(held=held)
        line = self._print("HeldBack", {"part": 1, "parts": 1, "total": len(entries), "nodes": entries})
        self._decide(line, held=held, found=found)
        if self.todo:
            self._later(self._chance.randint(50, 800), self._execute)
        else:
            self._finish(code=int(any(said in BAD for said in found.values())))

    def _decide(self, line: int, *, held: Mapping[str, freshness.Held], found: Mapping[str, str]) -> None:
        """What was found of the sources counts from now on."""
        for one, why in held.items():
            self._results[one] = why.status
            self.todo.pop(one, None)
            if why.status == freshness.SKIPPED:
                self.reports.append((line, one, "skipped"))
        for one, said in found.items() if self._project.freshness != freshness.SKIP_STALE else ():
            self.reports.append((line, one, said))
            self._project.executed[one] = self._project.executed.get(one, 0) + 1
            at = self._looked_at[one]
            self._warehouse.executions.append(Execution(one, self, at, ended=at, ending=said))

    def _not_connected(self) -> None:
        text = "Database Error\n  could not connect to server: Connection refused"
        self._finish(code=2, error={"kind": "connection", "message": text}, phase="execute")

    @property
    def _command(self) -> dict[str, str]:
        """What SelectedNodes says of it."""
        stage, project = self.decision.stage, self._project
        command = {"command": (stage.rules.words if stage is not None else "") or project.command.rules.words}
        if stage is None or self.decision.nodes is not None:
            return command
        return command | {"tests": project.tests, "mode": project.mode}

    def _chosen(self) -> frozenset[str]:
        """What it lists. The first of several stages lists what the later ones execute."""
        project, nodes = self._project, self.decision.nodes
        if nodes is None:
            return frozenset((*project.selected, *project.looked_at))
        along = (test for one in nodes for test in project.unit_tests.get(one, ()))
        return nodes.union(along)

    def _execute(self) -> None:
        if self._ending or self._cancelling:
            return
        project = self._project
        if not self._warehouse.reachable(self.world.ms):
            self.todo.clear()
            self._not_connected()
            return
        if project.mode is Mode.ASYNC:
            self._tell_executors(self.todo)
        self._print(
            "ConcurrencyLine", {"num_threads": project.threads, "target_name": "dev", "node_count": len(self.todo)}
        )
        if not _nth(project.start_hook, self._number):
            self._hook("on-run-start", "error")
            self._hook_failed = True
            # By default dbt executes the nodes all the same; the project may ask it to skip them.
            if project.hook_skips:
                for one in list(self.todo):
                    self._skip(one)
                self._end_of_nodes(failed=True)
                return
        self._fill()

    # executing

    def _fill(self) -> None:
        """Take from the queue what may run, and skip what must not, as long as a thread is free."""
        if self._ending or self._cancelling:
            return
        while any(self._take(one) for one in list(self.todo) if not self._cancelling and self._ready(one)):
            pass
        if (
            not self._cancelling
            and not self.running
            and not self._ending
            and not any(self._queued(one) for one in self.todo)
        ):
            bad = any(ending in BAD for ending in self._results.values())
            self._end_of_nodes(failed=bad or self._hook_failed)

    def _ready(self, one: str) -> bool:
        """Whether dbt's queue gives the node out: all that is ahead of it has ended."""
        project = self._project
        if one not in self.todo or one in self.running or project.along(one):
            return False
        return not any(other in self.todo for other in project.ahead[one] if project.nodes[other].kind != "unit_test")

    def _take(self, one: str) -> bool:
        """Skip the node, or begin with it if a thread is free; whether something came to its end."""
        if one in self._skipped:
            for test in self._project.unit_tests.get(one, ()):
                if test in self.todo:
                    self._skip(test)
            self._skip(one)
            return True
        return len(self.running) < self._project.threads and self._begin(one)

    def _queued(self, one: str) -> bool:
        """Whether dbt comes to the node; a unit test is executed with its model only."""
        return not self._project.along(one) or self._project.nodes[one].parents[0] in self.todo

    def _begin(self, one: str) -> bool:
        """Begin with a node, its unit tests before it; whether something came to its end at once."""
        tests = [test for test in self._project.unit_tests.get(one, ()) if test in self.todo]
        if any(test in self.running for test in tests):
            return False
        if tests:
            self._start(tests[0])
            return False
        if self._project.nodes[one].ephemeral:
            self._compile(one)
            return True
        self._start(one)
        return False

    def _compile(self, one: str) -> None:
        """An ephemeral model: no query is sent, and no line says that dbt begins with it."""
        self._warehouse.on_start(self, one)
        self.running[one] = execution = Execution(one, self, self.world.ms)
        self._warehouse.executions.append(execution)
        ending = self._project.result(one)
        self._close(one, ending)
        if ending in BAD and self._project.fail_fast:
            self._fail_fast()

    def _start(self, one: str) -> None:
        self._warehouse.on_start(self, one)
        name, data = lines.started(self._project.nodes[one])
        line = self._print(name, data)
        self.starts.append((line, one))
        execution = Execution(one, self, self.world.ms)
        self.running[one] = execution
        self._warehouse.executions.append(execution)
        length = self._chance.choice(self._project.lengths)
        if self._chance.random() < 0.01:
            length = max(length, self._hang_until - self.world.ms)
        self._later(length, partial(self._end, one, execution))

        if one in self._without_dbt and self._changes.random() < _CHANGED:
            self._later(min(length, 50) // 2, partial(self._give_to_dbt, one, execution))

    def _tell_executors(self, nodes: Iterable[str]) -> None:
        """What executes these nodes, with the mode Async."""
        told = [
            {"unique_id": one, "executor": "Async"}
            if one in self._without_dbt
            else {"unique_id": one, "executor": "dbt", "reason": "it has a post-hook"}
            for one in nodes
        ]
        self._print("Executors", {"part": 1, "parts": 1, "total": len(told), "nodes": told})

    def _give_to_dbt(self, one: str, execution: Execution) -> None:
        """What was there when a node was rendered is another thing now: dbt begins with it anew."""
        if self.running.get(one) is not execution or self._ending or self._cancelling:
            return
        self._without_dbt.discard(one)
        self._tell_executors([one])
        name, data = lines.started(self._project.nodes[one])
        self.starts.append((self._print(name, data), one))

    def _end(self, one: str, execution: Execution) -> None:
        if self.running.get(one) is not execution or self._ending:
            return
        ending = self._project.result(one)
        if ending in GOOD and not self._warehouse.reachable(self.world.ms):
            ending = "lost" if self._project.nodes[one].kind not in TESTS else "error"
        if self._cancelling and ending in BAD:
            ending = "cancelled"  # nobody can tell such an error from how a cancelled query comes back
        self._close(one, ending)
        if self._cancelling:
            return
        if ending == "silent":
            self._fill()
            return
        if ending in BAD and self._project.fail_fast:
            self._fail_fast()
            return
        self._fill()

    def _close(self, one: str, ending: str) -> None:
        execution = self.running.pop(one)
        execution.ended, execution.ending = self.world.ms, ending
        if ending != "cancelled":
            self._project.executed[one] = self._project.executed.get(one, 0) + 1
        self._report(one, ending, began=self.world.moment(execution.began) + self._skew)

    def _report(self, one: str, ending: str, *, began: datetime | None = None) -> None:
        if ending == "silent":  # dbt never says how it ended, nor does anything wait for it in vain
            self.todo.pop(one, None)
            return
        node = self._project.nodes[one]
        said = "error" if ending == "cancelled" else ending
        if one not in self._without_dbt and self._chance.random() < 0.5:
            name, data, level = lines.logged(node, said)
            self._print(name, data, level=level)
            self.reports.append((len(self.log), one, ending))
        name, data = lines.result(node, said, began=began, ended=self.world.now + self._skew)
        data["message"] = lines.message(one, ending)
        self._print(name, data)
        self.reports.append((len(self.log), one, ending))
        self._results[one] = ending
        self.todo.pop(one, None)
        if ending in BAD:
            self._hold_back(one)

    def crash(self) -> None:
        """The process ends by itself, without its record."""
        self.kill()
        self.crashed = True
        self._exited(1)

    def _skip(self, one: str) -> None:
        node = self._project.nodes[one]
        self._print("SkippingDetails", {"node_info": lines.node_info(node, "skipped"), "resource_type": node.kind})
        self.reports.append((len(self.log), one, "skipped"))
        self._results[one] = "skipped"
        self.todo.pop(one, None)
        self._hold_back(one)

    def _hold_back(self, one: str) -> None:
        project = self._project
        if project.along(one):
            self._skipped.update(project.nodes[one].parents[:1])
            self._skipped.update(test for test in project.unit_tests[project.nodes[one].parents[0]])
            for test in project.unit_tests[project.nodes[one].parents[0]]:
                if test in self.todo and test not in self.running:
                    self._skip_quietly(test)
            return
        self._skipped.update(other for other in project.nodes if one in project.ahead[other])

    def _skip_quietly(self, test: str) -> None:
        """A unit test after one that failed: marked as skipped without holding back anything more."""
        node = self._project.nodes[test]
        self.todo.pop(test, None)
        self._print("SkippingDetails", {"node_info": lines.node_info(node, "skipped"), "resource_type": node.kind})
        self.reports.append((len(self.log), test, "skipped"))
        self._results[test] = "skipped"

    def _hook(self, which: str, status: str) -> None:
        one = f"operation.p.p-{which}-0"
        data = {
            "unique_id": one,
            "resource_type": "operation",
            "name": f"p-{which}-0",
            "status": status,
            "message": "boom",
        }
        self._print("NodeResult", data)
        self._results[one] = "error" if status == "error" else "success"

    # the end

    def _fail_fast(self) -> None:
        self._cancelling = True
        for one in self.running:
            self._print("LogCancelLine", {"conn_name": one}, level="error")
        self._later(self._chance.randint(50, 800), self._end_fast)

    def _end_fast(self) -> None:
        self._failed_fast = True
        if self._ending:
            return
        for one in list(self.running):
            self._close(one, "cancelled")
        left = [one for one in self.todo if not self._project.along(one)]
        self.todo.clear()
        self._end_of_nodes(failed=True, never_begun=left)

    def _end_of_nodes(self, *, failed: bool, never_begun: list[str] | None = None) -> None:
        self.todo.clear()
        if not self._warehouse.reachable(self.world.ms) or self._refused.random() < _REFUSED:
            self._not_connected()
            return
        if self._project.end_hooks:
            good = _nth(self._project.end_hook, self._number)
            self._hook("on-run-end", "success" if good else "error")
            failed = failed or not good
        for one in never_begun or ():
            self._results[one] = "skipped fast"
        self._finish(code=1 if failed else 0)

    def _finish(
        self, *, code: int, error: dict[str, str] | None = None, phase: str = "execute", cancelled: bool = False
    ) -> None:
        self._ending = True
        # dbt keeps no results of ephemeral models, and so takes them for nodes that fail-fast kept it from.
        results = {
            one: "skipped fast" if one in self._inlined else ending
            for one, ending in self._results.items()
            if one not in self._inlined or self._failed_fast
        }
        entries = [lines.entry(one, ending) for one, ending in results.items()]
        self._print("RunResults", {"part": 1, "parts": 1, "total": len(entries), "results": entries})
        self.finished_line = self._print(
            "RunFinished",
            {
                "exit_code": code,
                "success": code == 0,
                "cancelled": cancelled,
                "invocation_id": "i",
                "error": error,
                "phase": phase,
                "results": len(entries),
                "peak_memory_bytes": 1,
            },
        )
        self.todo.clear()
        self._later(self._chance.choice((5, 100, 1500)), partial(self._exit, code))

    def _exit(self, code: int) -> None:
        self.alive = False
        self._exited(code)

    @property
    def working(self) -> bool:
        """Whether it has the database open."""
        return self.alive and self.graph_line is not None and not self._ending

    def may_execute(self, one: str) -> bool:
        """Whether it is going to come to this node."""
        return one in self.todo and one not in self._skipped and not self._cancelling

    def found(self, source: str) -> str:
        """What it has found of a source; "" where it has not looked at it."""
        return self._results.get(source, "")

    def skipped_for(self, one: str) -> frozenset[str]:
        """What had failed in it that made it skip this node."""
        project = self._project
        bad = frozenset(other for other, ending in self._results.items() if ending in BAD and other in project.nodes)
        if self._results.get(one) == "skipped fast":
            return bad.difference(project.looked_at)
        model = project.nodes[one].parents[:1] if project.along(one) else ()
        return bad & frozenset[str]().union(*(project.needs[each] for each in (one, *model) if each in project.needs))

    def terminate(self) -> None:
        """SIGTERM: dbt cancels its queries and ends; how long that takes the warehouse decides."""
        if not self.alive or self._ending or self._cancelling:
            return
        self._cancelling = True
        if not self.log:
            self._print("RunnerStarted", {"format": 1, "runner_version": "0.1.0", "attempt": "a", "run_uid": "u"})
        self._print("CancelRequested", {"signal": "SIGTERM"})
        early = [one for one in self.running if self._early.random() < _EARLY]
        for one in early:
            self._later(1, partial(self._come_back, one))
        unnamed = [one for one in early if self._early.random() < 0.5]  # the connection has an earlier node's name
        named = [one for one in self.running if one not in unnamed]
        if early:
            self._later(2, partial(self._name, named))
        else:
            self._name(named)
        self._later(self._chance.choice((100, 900, 3000, 20000)), self._cancelled)

    def _come_back(self, one: str) -> None:
        if one in self.running and not self._ending:
            self._close(one, "cancelled")

    def _name(self, cancelled: list[str]) -> None:
        for one in cancelled:
            self._print("LogCancelLine", {"conn_name": one}, level="error")

    def _cancelled(self) -> None:
        if self._ending:
            return
        for one in list(self.running):
            self._close(one, "cancelled")
        self.todo.clear()
        self._print("EndOfRunSummary", {"keyboard_interrupt": True, "num_errors": 0, "num_partial_success": 0})
        error = {"kind": "interrupted", "message": "dbt was interrupted"}
        self._finish(code=2, error=error, phase="execute" if self.graph_line else "parse", cancelled=True)

    def kill(self) -> None:
        """SIGKILL: nothing more is printed, and the line that was being printed is cut."""
        if not self.alive:
            return
        self.alive = False
        for execution in self.running.values():
            execution.ended, execution.ending = self.world.ms, "killed"
        self.running.clear()
        self.todo.clear()
        if self.log and self._chance.random() < 0.3:
            line = self.log[-1]
            self.piece = line[: self._chance.randint(1, len(line) - 1)]


def _nth(values: tuple[bool, ...], number: int) -> bool:
    return values[min(number, len(values) - 1)]
