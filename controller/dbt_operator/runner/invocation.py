"""The calls of dbt, in order: parse, list, and the user's command with what was parsed."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dbt_operator.runner import (
    bigquery_ids,
    current_sources,
    database,
    deps,
    environment,
    error_kinds,
    freshness,
    graph,
    interpreter,
    microbatch,
    parts,
    recording,
    rendering,
    selection,
    state_files,
)
from dbt_operator.runner.announcing import Announcer
from dbt_operator.runner.arguments import (
    COMMANDS,
    LIST,
    STAGES,
    Command,
    as_command,
    asking,
    refusal,
    setting,
    take_apart,
    without_tests,
)
from dbt_operator.runner.artifacts import Artifacts
from dbt_operator.runner.bigquery import Jobs
from dbt_operator.runner.deadlines import Deadlines
from dbt_operator.runner.kept_sql import KeptSql
from dbt_operator.runner.options import NODE, Options
from dbt_operator.runner.outcome import INTERRUPTED, Listed, Outcome, failed
from dbt_operator.runner.output import Line, Output
from dbt_operator.runner.overrides import deadlines
from dbt_operator.runner.queries import cancellable, loaded_adapters
from dbt_operator.runner.results import results_of
from dbt_operator.runner.shared_parse import shared_parse
from dbt_operator.runner.signals import Cancellation
from dbt_operator.runner.translator import Callback, Translator

PRINTED = "output.txt"
_DRAIN_SECONDS = 10.0
_RENDERED = frozenset(("build", "run", "test"))  # the commands whose nodes may be executed without dbt
_DEFERRED = ("defer_state", "state")  # where dbt looks for the manifest that it defers to


class Invocations:
    """One run of dbt in this process: `phase` is how far it came, `invocation_id` that of the latest invocation."""

    def __init__(
        self,
        *,
        options: Options,
        output: Output,
        artifacts: Artifacts,
        packages: deps.Packages,
        callback: Callback,
        translator: Translator,
        cancellation: Cancellation,
        deadlines: Deadlines,
        jobs: Jobs,
        kept_sql: KeptSql,
    ) -> None:
        self.phase = "start"
        self.command = ""  # in dbt's words, once it has begun
        self.invocation_id = ""
        self.manifest: Any = None  # once dbt has parsed the project; dbt completes its nodes while it executes them
        self._options = options
        self._output = output
        self._artifacts = artifacts
        self._packages = packages
        self._callback = callback
        self._translator = translator
        self._cancellation = cancellation
        self._deadlines = deadlines
        self._jobs = jobs
        self._kept_sql = kept_sql
        self._announcer = Announcer(options=options, output=output, translator=translator)
        self._runner: Any = None
        self._began = datetime.now(timezone.utc)

    def run(self) -> Outcome:
        """Do what the arguments say, with dbt. Raises: KeyboardInterrupt, where it came between two calls of dbt."""
        with self._cancellation.interruptible():
            dbt = importlib.import_module("dbt.cli.main")
        self._runner = dbt.dbtRunner
        try:
            args = (*self._options.dbt_args, *state_files.arguments(self._options.state_dir))
        except (state_files.StateError, OSError) as error:
            return failed(kind=error_kinds.STATE, message=str(error))
        command = take_apart(cli=dbt.cli, args=args)
        if self._options.nodes and not command.rules.types:
            return failed(kind=error_kinds.USAGE, message=f"no command that executes nodes of a list: {command.name!r}")
        if command.name not in COMMANDS:
            return self._execute(command, manifest=None)
        refused = refusal(cli=dbt.cli, command=command, version=interpreter.dbt_version())
        if refused:
            return failed(kind=error_kinds.USAGE, message=refused)
        if not command.known:
            return self._execute(command, manifest=None)
        if self._options.without_tests:
            command = without_tests(cli=dbt.cli, command=command, environ=os.environ)
        words = STAGES.get(self._options.stage, "") or command.name
        if words != command.name:
            command = as_command(cli=dbt.cli, command=command, words=words)
        return self._run_parsed(dbt.cli, command)

    def _run_parsed(self, cli: Any, command: Command) -> Outcome:
        self._packages.restore()
        target = _target_directory(cli=cli, command=command)
        cache = self._options.parse_cache
        given = bool(cache) and environment.unpack_parse_cache(source=Path(cache), target=target)
        line = _quietly(cli, command, other=("parse",))
        shared = None if given else shared_parse(options=self._options, arguments=line)
        if shared is not None:
            shared.restore(target=target)
        self.phase = "parse"
        parsed = self._parse(cli, command)
        if isinstance(parsed, Outcome):
            return parsed
        # The command would parse the same files with the same arguments, and fail in the same way.
        if parsed.exception is not None:
            return self._failure(parsed.exception)
        manifest = self.manifest = parsed.result
        for adapter in loaded_adapters():
            self._jobs.take_over(adapter)
        # The manifest stays until the end: the garbage collector need not look through it again and again.
        gc.freeze()
        stands = environment.parse_cache_stands(target=target)
        if shared is not None and not stands:
            try:
                shared.keep(target=target, has_secret=self._artifacts.has_secret)
            except OSError as error:
                message = f"what dbt has parsed is not kept for later runs: {error}"
                self._output.event("RunnerWarning", {"message": message}, level="warn")
        if command.rules.parsed and not (given and stands) and self._options.part != parts.DBT:
            self._print_files(manifest, target=target)
        if command.rules.types:
            return self._run_nodes(cli, command, manifest)
        outcome = self._execute(command, manifest=manifest)
        self._artifacts.start(files=[target / name for name in command.rules.files])
        return outcome

    def _run_nodes(self, cli: Any, command: Command, manifest: Any) -> Outcome:
        self.phase = "list"
        try:
            return self._run_listed(cli, command, manifest)
        except selection.SelectionError as error:
            return failed(kind=error_kinds.SELECTOR, message=str(error))
        except database.DatabaseGoneError as error:
            return failed(kind=error_kinds.OTHER, message=str(error))
        except database.LostBeforeNextError as error:
            return failed(kind=error_kinds.SPEC, message=str(error))

    def _run_listed(self, cli: Any, command: Command, manifest: Any) -> Outcome:
        executed = command
        if self._options.stage == "build":
            executed = without_tests(cli=cli, command=command, environ=os.environ)
        if self._options.nodes:
            nodes = selection.read_nodes(file=self._options.nodes)
            executed, listed = self._report_exact_graph(cli, executed, manifest, wanted=frozenset(nodes))
            self._keep_periods(manifest, {one: each.left for one, each in nodes.items() if each.left is not None})
            began_in = {one: each.began_in or self._options.began_in for one, each in nodes.items()}
            self._jobs.executes(began_in, again=True)
            if self._options.attempt_kind == NODE:
                executed = executed.without_files()
            return self._execute_nodes(cli, executed, manifest, listed)
        self._look_at_sources(cli, command, manifest)
        listed = self._report_graph(cli, command, manifest)
        self._keep_periods(manifest, {})
        self._jobs.executes(dict.fromkeys(listed.nodes, self._options.began_in), again=False)
        lists = self._options.stage == LIST
        if listed.unknown and (lists or self._options.source_freshness):
            what = "each node has a pod of its own" if lists else "sources are to be looked at"
            message = f"{what}, but the nodes that the command selects are not known: {listed.unknown}"
            return self._failure(listed.error) if listed.error else failed(kind=error_kinds.OTHER, message=message)
        if lists and listed.nodes and not listed.sources:
            return Outcome(exit_code=0, results=[])
        outcome = self._execute_nodes(cli, executed, manifest, listed)
        if listed.unknown and outcome.exit_code == 0:
            known = "dbt calls the command successful, but the nodes that it was asked for are not known"
            return replace(outcome, exit_code=2, kind=error_kinds.OTHER, message=f"{known}: {listed.unknown}")
        return outcome

    def _execute_nodes(self, cli: Any, command: Command, manifest: Any, listed: Listed) -> Outcome:
        """Look at the sources, then execute the nodes that are not held back for what was found.

        Raises: selection.SelectionError where dbt cannot select what is left of them.
        """
        if not listed.sources:
            return self._execute_chosen(cli, command, manifest, listed.nodes)
        found = self._look_at(cli, command, manifest, sources=listed.sources)
        if isinstance(found, Outcome):
            return found
        known = self._translator.known
        held = freshness.held_back(
            known=known,
            nodes=listed.nodes | listed.others,
            statuses={one: result["status"] for one, result in found.items()},
            mode=self._options.source_freshness,
            parents=self._options.stale_parents,
        )
        for part in graph.parts(items=freshness.entries(held=held), key="nodes"):
            self._output.event("HeldBack", part)
        later = [one for one in listed.nodes if self._announcer.later(one)]
        left = listed.nodes.difference(held, later)
        if left < listed.nodes.difference(later):
            command = self._selecting(cli, command, manifest, wanted=left)
        none = Outcome(exit_code=0, results=[])
        outcome = self._execute_chosen(cli, command, manifest, left) if left else none
        bad = any(result["status"] in freshness.FAILURES for result in found.values())
        code = outcome.exit_code or int(bad)
        if outcome.results is None:
            return replace(outcome, exit_code=code)
        results = [*found.values(), *outcome.results, *freshness.skipped(held=held)]
        return replace(outcome, exit_code=code, results=results)

    def _execute_chosen(self, cli: Any, command: Command, manifest: Any, nodes: frozenset[str]) -> Outcome:
        """Execute the nodes, or have dbt render those that another process is to execute.

        Raises: selection.SelectionError where dbt cannot select these.
        """
        if self._options.part != parts.RENDER or not nodes or command.name not in _RENDERED:
            return self._execute(command, manifest=manifest)
        nodes = frozenset(one for one in nodes if not self._announcer.later(one))
        adapter = loaded_adapters()[0]
        settings = json.loads(self._options.async_settings or "{}")
        unfit = rendering.unfit(adapter_type=adapter.type(), settings=settings) or self._kept_sql.unfit()
        if unfit:
            return failed(kind=error_kinds.SPEC, message=unfit)
        reasons = rendering.first_look(manifest=manifest, nodes=nodes, adapter=adapter)
        rendered = frozenset(one for one, reason in reasons.items() if not reason)
        if not rendered:
            # Then this dbt executes all of them.
            for part in graph.parts(items=rendering.told(reasons), key="nodes"):
                self._output.event("Executors", part)
            return self._execute(command, manifest=manifest)
        return self._render(cli, command, manifest, reasons=reasons, rendered=rendered)

    def _render(
        self, cli: Any, command: Command, manifest: Any, *, reasons: dict[str, str], rendered: frozenset[str]
    ) -> Outcome:
        fail_fast = bool(importlib.import_module("dbt.flags").get_flags().FAIL_FAST)
        exact = self._selecting(cli, command, manifest, wanted=rendered)
        recorder = recording.Recorder({one: manifest.nodes[one] for one in rendered}, normalised=_normalised)
        kind = type(loaded_adapters()[0])
        line = [*exact.line(quiet=True), "--no-write-json", "--no-fail-fast"]
        with recording.recording(kind, kind.ConnectionManager, recorder):
            result = self._invoke(line, manifest=manifest, callbacks=[recorder.saw_event])
        if result.exception is not None:
            return self._failure(result.exception)
        if self._cancellation.requested:
            return INTERRUPTED
        adapter = loaded_adapters()[0]
        plan = rendering.plan(
            manifest=manifest,
            known=self._translator.known,
            reasons=reasons,
            recorder=recorder,
            results=results_of(result.result) or [],
            adapter=adapter,
            tests_first=command.name == "build",
            deadlines=deadlines(
                nodes=[self._translator.known[one] for one in reasons], overrides=self._announcer.overrides
            ),
        )
        plan.update(
            command=command.name,
            fail_fast=fail_fast,
            microbatch_end=self._options.microbatch_end or self._began.isoformat(),
        )
        not_kept = self._kept_sql.keep(plan)
        if self._cancellation.requested:
            return INTERRUPTED
        if not_kept:
            return failed(kind=error_kinds.SPEC, message=not_kept)
        connection = rendering.connection(recorder=recorder, adapter=adapter)
        folder, descriptor = Path(self._options.part_folder), self._options.part_pipe
        rendering.leave(plan, folder=folder, connection=connection, descriptor=descriptor)
        return Outcome(exit_code=0, results=[])

    def _look_at(
        self, cli: Any, command: Command, manifest: Any, *, sources: frozenset[str]
    ) -> dict[str, Line] | Outcome:
        """The result of each source, from dbt's own command and with the same manifest."""
        self.phase = "execute"
        mode, known = self._options.source_freshness, self._translator.known
        looked_at = [one for one in sources if freshness.with_freshness(known[one])]
        if not looked_at:
            return freshness.with_all(results=(), sources=sources, known=known, mode=mode)
        state = selection.write_state(unique_ids=looked_at)
        question = freshness.question(cli=cli, command=command, state=state, environ=os.environ)
        self._output.drain(timeout=_DRAIN_SECONDS)
        self._translator.begin(nodes=True, words=freshness.words(mode))
        self._callback.follow(only=freshness.EVENTS)
        with freshness.without_hooks(manifest):
            looked = self._invoke(question.line(quiet=True), manifest=manifest)
        self._output.drain(timeout=_DRAIN_SECONDS)
        if looked.exception is not None:
            return self._failure(looked.exception)
        if self._cancellation.requested:
            return INTERRUPTED
        found = freshness.with_all(results=results_of(looked.result) or (), sources=sources, known=known, mode=mode)
        for unique_id, result in found.items():
            age = result.pop("freshness", None)
            if age:
                self._output.event("Freshness", {"unique_id": unique_id, **age})
        return found

    def _parse(self, cli: Any, command: Command) -> Any:
        """What dbt answers to parse, with the packages that it needs; an Outcome where it cannot have them."""
        packages, line = self._packages, ["parse", *_quietly(cli, command, other=("parse",))]
        self._callback.follow(passes=packages.may_help)
        parsed = self._invoke(line)
        if parsed.exception is None or not packages.may_help(str(parsed.exception)):
            return parsed
        self.phase = "deps"
        self._callback.follow(chatty=True, passes=lambda _: True)
        with packages.installing(parsed.exception):
            installed = self._invoke(["deps", *_quietly(cli, command, other=("deps",))])
        if isinstance(installed.exception, KeyboardInterrupt) or self._cancellation.requested:
            return INTERRUPTED
        if installed.exception is not None:
            kind, message = deps.explained(installed.exception)
            return failed(kind=kind, message=message)
        # By these something is decided, and there is no secret in them.
        self._output.event("Found", packages.facts(), masked=False)
        self._artifacts.start(files=[packages.archive()])
        self.phase = "parse"
        self._callback.follow()
        return self._invoke(line)

    def _print_files(self, manifest: Any, *, target: Path) -> None:
        """Print what this attempt has parsed, and no attempt before it."""
        files = [target / environment.PARSE_CACHE]
        try:
            manifest.write(str(target / "manifest.json"))
            files.append(target / "manifest.json")
        except Exception as error:  # noqa: BLE001 - it is for the user: no reason to fail this attempt
            self._output.event("RunnerWarning", {"message": f"manifest.json was not written: {error!r}"}, level="warn")
        self._artifacts.start(files=files)

    def _execute(self, command: Command, *, manifest: Any) -> Outcome:
        self.phase = "execute" if manifest is not None else "start"
        rules = command.rules
        self.command = command.name
        self._output.event("CommandStarted", {"command": command.name})
        # What dbt has said before is said of nodes as ever.
        self._output.drain(timeout=_DRAIN_SECONDS)
        self._translator.begin(nodes=bool(rules.types), begins=rules.begins)
        self._callback.follow(chatty=not rules.types, begins=rules.begins, completed=self._cancellation.ended)
        result = self._invoke(command.line(quiet=True), manifest=manifest)
        if rules.printed:
            self._keep_printed(result.result)
        return self._outcome(result, nodes=bool(rules.types))

    def _keep_printed(self, result: Any) -> None:
        """Keep what the command is asked for: the lines that dbt returns, or the texts that it has said."""
        self._output.drain(timeout=_DRAIN_SECONDS)
        texts = [line for line in result if isinstance(line, str)] if isinstance(result, list) else []
        self._artifacts.add_text(name=PRINTED, text="\n".join(texts or self._translator.printed))

    def cancel_queries(self) -> None:
        """Cancel what runs in the warehouse now, as dbt does when interrupted. Called from a thread of its own."""
        try:
            self._jobs.cancel()
            for adapter in loaded_adapters():
                if adapter.is_cancelable():
                    with adapter.connection_named("dbt-operator-cancel"):
                        adapter.cancel_open_connections()
        except Exception as error:  # noqa: BLE001 - a driver's: it was worth the attempt
            self._output.event("RunnerWarning", {"message": f"queries were not cancelled: {error!r}"}, level="warn")

    def _outcome(self, result: Any, *, nodes: bool) -> Outcome:
        if self._callback.executing:
            self.phase = "execute"
        if result.exception is not None:
            return self._failure(result.exception)
        if self._cancellation.requested and not result.success:
            # The interrupt got lost in a driver: dbt has taken the hook whose query was cancelled for one that failed.
            return INTERRUPTED
        results = results_of(result.result) if nodes else []
        if nodes and result.success and results is None:
            # As with --help: dbt has printed something, and executed nothing.
            return failed(kind=error_kinds.USAGE, message="dbt ended without having executed the command")
        self.phase = "execute"
        return Outcome(exit_code=0 if result.success else 1, results=results)

    def _failure(self, error: BaseException) -> Outcome:
        # dbt may end with another exception than the interrupt that broke off what it was doing.
        if isinstance(error, KeyboardInterrupt) or self._cancellation.requested:
            return INTERRUPTED
        return failed(kind=error_kinds.kind_of(error=error, phase=self.phase), message=error_kinds.message_of(error))

    def _invoke(self, line: list[str], *, manifest: Any = None, callbacks: list[Any] | None = None) -> Any:
        result: Any = None
        try:
            with self._cancellation.interruptible():
                result = self._runner(manifest=manifest, callbacks=callbacks or [self._callback]).invoke(line)
        except KeyboardInterrupt:
            # One that came when dbt had just returned changes nothing.
            if result is None:
                raise
        finally:
            self.invocation_id = self._callback.invocation_id or self.invocation_id
            self._output.invocation_id = self.invocation_id
            if self._cancellation.requested:
                self._jobs.follow()
        return result

    def _report_graph(self, cli: Any, command: Command, manifest: Any) -> Listed:
        """Print SelectedNodes. Where that fails the command has its chance all the same: it tells errors better.

        Raises: database.LostBeforeNextError where the nodes of a later stage would find nothing.
        """
        try:
            self._announcer.learn(manifest)
            listed = self._list(cli, command, manifest)
            # A selector that does not exist makes the command itself fail too, which then says so: not twice.
            if not listed.success:
                unknown = error_kinds.message_of(listed.exception) if listed.exception else "dbt cannot list them"
                return Listed(unknown=unknown, error=listed.exception)
            nodes = self._runnable(command, listed)
            looks = bool(self._options.source_freshness)
            sources = freshness.sources_of(known=self._translator.known, nodes=nodes) if looks else frozenset()
            files = self._announcer.files_of(manifest, nodes)
            self._announcer.report_database(files)
            self._report_selected(command, nodes | sources)
            file = database.worst(files)
            if file is not None and not file.kept and any(map(self._announcer.later, nodes)):
                raise database.LostBeforeNextError(file.path, per_node=self._options.stage == LIST)
        except database.LostBeforeNextError:
            raise
        except Exception as error:  # noqa: BLE001 - of a dbt that is not understood: the nodes' own words are still read
            self._output.event("RunnerWarning", {"message": f"the graph is not known: {error!r}"}, level="warn")
            return Listed(unknown=repr(error))
        return Listed(nodes=nodes, sources=sources)

    def _report_exact_graph(
        self, cli: Any, command: Command, manifest: Any, *, wanted: frozenset[str]
    ) -> tuple[Command, Listed]:
        """Print SelectedNodes of the wanted nodes; returns the command that executes exactly these.

        Raises: selection.SelectionError when there is none; database.DatabaseGoneError when what they read is gone.
        """
        self._announcer.learn(manifest)
        selection.check_known(wanted=wanted, known=self._translator.known)
        looks = bool(self._options.source_freshness)
        sources = freshness.among(known=self._translator.known, wanted=wanted) if looks else frozenset()
        nodes = wanted - sources
        if nodes:
            command = self._selecting(cli, command, manifest, wanted=nodes)
        self._announcer.check_database(manifest, nodes)
        self._report_selected(command, wanted)
        file = self._options.decides_on
        others = self._translator.known.keys() & selection.read_nodes(file=file).keys() if file else frozenset()
        return command, Listed(nodes=nodes, sources=sources, others=frozenset(others))

    def _selecting(self, cli: Any, command: Command, manifest: Any, *, wanted: frozenset[str]) -> Command:
        """The command that executes exactly the wanted nodes. Raises: selection.SelectionError when there is none."""
        if command.rules.unit_tests_with_model:
            selection.check_unit_tests(wanted=wanted, known=self._translator.known)
        if any(argument.parameter == "favor_state" for argument in command.arguments):
            command = self._favoring_own(cli, command, manifest)
        state = selection.write_state(unique_ids=wanted)
        exact = selection.selecting(cli=cli, command=command, state=state, environ=os.environ)
        listed = self._list(cli, exact, manifest)
        if not listed.success:
            raise selection.SelectionError(f"dbt cannot list the nodes to execute: {listed.exception}")
        selection.check_selected(wanted=wanted, selected=self._runnable(exact, listed))
        return exact

    def _look_at_sources(self, cli: Any, command: Command, manifest: Any) -> None:
        """Have dbt write how old the sources are, if the selection compares that; later runs get it too."""
        if not current_sources.wanted(command):
            return
        self._callback.follow(listening=False)
        with freshness.without_hooks(manifest):
            looked = self._invoke(current_sources.question(cli=cli, command=command), manifest=manifest)
        if isinstance(looked.exception, KeyboardInterrupt):
            raise looked.exception
        # Where it could not, the selection cannot be read either, and dbt says why.
        self._artifacts.start(files=[_target_directory(cli=cli, command=command) / current_sources.FILE])

    def _favoring_own(self, cli: Any, command: Command, manifest: Any) -> Command:
        """The command, which prefers the relations of another environment only of what the run itself does not build.

        dbt prefers them of all that it does not execute: also of what an earlier attempt of the run has built.
        """
        self._look_at_sources(cli, command, manifest)
        listed = self._list(cli, command, manifest)
        if not listed.success:
            raise selection.SelectionError(f"dbt cannot list what the run selects: {listed.exception}")
        places = (setting(cli=cli, command=command, parameter=each, environ=os.environ) for each in _DEFERRED)
        place = next(filter(None, places), "")
        if not place:
            return command
        folder = state_files.without_nodes(Path(place), graph.selected_ids(listed=listed.result or ()))
        return command.with_value("defer_state", str(folder))

    def _keep_periods(self, manifest: Any, left: dict[str, microbatch.Left]) -> None:
        """Have microbatch models execute what they would in the run's first attempt, and tell what that is."""
        if not microbatch.has_microbatch_models(manifest=manifest):
            return
        end = microbatch.moment(self._options.microbatch_end) if self._options.microbatch_end else self._began

        def report(data: Line) -> None:
            # By these something is decided, and there is nothing in them but times: no secret that looks like a part of
            # one may change them.
            self._output.event("Microbatch", data, masked=False)

        report({"end": end.isoformat()})
        microbatch.keep_periods(end=end, left=left, report=report)

    def _list(self, cli: Any, command: Command, manifest: Any) -> Any:
        question = ["ls", "--output", "json", "--output-keys", "unique_id", *_quietly(cli, command, other=("ls",))]
        self._callback.follow(listening=False)
        # dbt 1.8 prints the list besides returning it.
        with contextlib.redirect_stdout(io.StringIO()):
            listed = self._invoke(question, manifest=manifest)
        if isinstance(listed.exception, KeyboardInterrupt):
            raise listed.exception
        return listed

    def _runnable(self, command: Command, listed: Any) -> frozenset[str]:
        return self._announcer.runnable(command, graph.selected_ids(listed=listed.result or ()))

    def _report_selected(self, command: Command, chosen: frozenset[str]) -> None:
        self._announcer.selected(command, chosen)
        self._watch(chosen)

    def _watch(self, chosen: frozenset[str]) -> None:
        """Keep to the deadlines of these nodes, or say that nothing does."""
        nodes = (self._translator.known[one] for one in chosen)
        seconds = deadlines(nodes=nodes, overrides=self._announcer.overrides)
        unable = [adapter.type() for adapter in loaded_adapters() if not cancellable(adapter)]
        if not seconds or not unable:
            self._deadlines.watch(seconds)
            return
        self._output.event("DeadlinesIgnored", {"adapter_name": unable[0], "nodes": len(seconds)}, level="warn")


def _normalised(statement: str) -> str:
    """A statement of dbt's without the comment before it, and without the id of its invocation."""
    header = next((adapter.connections.query_header for adapter in loaded_adapters()), None)
    comment = str(getattr(getattr(header, "comment", None), "query_comment", None) or "")
    invocation_id = str(importlib.import_module("dbt_common.invocation").get_invocation_id())
    return bigquery_ids.normalised(statement, comment=comment, invocation_id=invocation_id)


def _quietly(cli: Any, command: Command, *, other: tuple[str, ...]) -> list[str]:
    """Arguments for another command before the user's, which says and writes all that this one would, too."""
    return ["--log-level", "none", *asking(cli=cli, command=command, other=other), "--no-write-json"]


def _target_directory(*, cli: Any, command: Command) -> Path:
    """Where dbt writes its files; relative settings are so to the project's directory."""
    project = setting(cli=cli, command=command, parameter="project_dir", environ=os.environ)
    target = setting(cli=cli, command=command, parameter="target_path", environ=os.environ)
    return Path(project or ".", target or "target").absolute()
