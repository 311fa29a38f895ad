"""One pass of folding: a working copy of a state that takes events and becomes the next state."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt import artifacts, bodies, error_texts, node_folding
from dbt_operator.dbt.decoding import Event
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.parsing import RESULT, looks_like_node
from dbt_operator.dbt.state import AttemptState, Finished, Microbatch, NodeState, RunError

_FUSION_MAJORS = frozenset("23456789")  # dbt 1 is Core
_UNMATCHED_LIMIT = 20
_COMPLAINTS_LIMIT = 20
_PARTS_LIMIT = 100_000


class Folding:
    """Takes events one by one. Copies what it changes, once, and leaves the state it began with alone."""

    def __init__(self, state: AttemptState) -> None:
        self._before = state
        self._changes: dict[str, Any] = {}
        self._nodes: dict[str, NodeState] | None = None
        self._events = 0
        self._ignored = 0

    def ignore(self) -> None:
        """Count a line that is no event."""
        self._ignored += 1

    def take(self, event: Event) -> None:
        """Fold one event in."""
        if not self._accepts(event):
            self._ignored += 1
            return
        self._events += 1
        last = self._get("last_ts")
        if event.ts is not None and (last is None or event.ts > last):
            self._set("last_ts", event.ts)
        if event.body is not None:
            handler = _HANDLERS.get(type(event.body))
            if handler is not None:
                handler(self, event, event.body)

    def result(self) -> AttemptState:
        """The next state; the very same one when nothing has changed."""
        self._settle()
        if self._nodes is not None:
            self._changes["nodes"] = self._nodes
        if not self._changes and not self._events and not self._ignored:
            return self._before
        return replace(
            self._before,
            events=self._before.events + self._events,
            ignored=self._before.ignored + self._ignored,
            **self._changes,
        )

    def _accepts(self, event: Event) -> bool:
        """Whether the event is one of this attempt, and not something that a model's code printed.

        File descriptors 1 and 2 of the runner are pipes that it reads itself, so only the runner can write a line with
        a seq. The lines of a plain dbt are only known by its invocation_id.
        """
        source = self._get("source")
        if source == "runner":
            return event.seq is not None
        if source is not None:
            return bool(event.invocation_id == self._get("invocation_id"))
        if event.seq is not None or (isinstance(event.body, bodies.Version) and event.body.runner):
            self._set("source", "runner")
        elif event.invocation_id or event.body is not None:
            self._set("source", "core")
        else:
            return False
        self._set("invocation_id", event.invocation_id)
        return True

    def _get(self, name: str) -> Any:  # a field of the state, whatever its type
        return self._changes[name] if name in self._changes else getattr(self._before, name)

    def _set(self, name: str, value: object) -> None:
        self._changes[name] = value

    def _fill(self, name: str, value: object) -> None:
        if value and not self._get(name):
            self._changes[name] = value

    def _raise(self, name: str, value: int) -> None:
        # The larger number wins, whichever is read first, and however often.
        known = self._get(name)
        if known is None or value > known:
            self._changes[name] = value

    # -- nodes

    def _node(self, unique_id: str) -> NodeState | None:
        return (self._before.nodes if self._nodes is None else self._nodes).get(unique_id)

    def _put(self, node: NodeState) -> None:
        known = self._node(node.unique_id)
        node = self._cut_off(node)
        if node is known:
            return
        if self._nodes is None:
            self._nodes = dict(self._before.nodes)
        self._nodes[node.unique_id] = node
        if node.phase is NodePhase.FAILED and (known is None or known.phase is not NodePhase.FAILED):
            self._set("failures", self._get("failures") | {node.unique_id})
        if node.attached_node and (known is None or known.attached_node != node.attached_node):
            self._attach(node)

    def _cut_off(self, node: NodeState) -> NodeState:
        """The node, marked as cancelled where it failed after the process was told to stop.

        dbt names the queries that it cancels only after it has cancelled all of them, and by the node that used the
        connection before. It cancels once: a node that begins at that moment fails in another way. Such an error looks
        like one of the node's own. To call it cancelled is the safe mistake: the node is executed again.
        """
        since = self._get("cancel_ts")
        late = since is not None and node.ended_ts is not None and node.ended_ts > since
        if not late or node.status != "error" or node.resource_type == "operation":
            return node
        return node_folding.cancelled(node, since)

    def _attach(self, node: NodeState) -> None:
        attached: Mapping[str, tuple[str, ...]] = self._get("attached")
        tests = attached.get(node.attached_node, ())
        if node.unique_id not in tests:
            self._set("attached", {**attached, node.attached_node: tuple(sorted((*tests, node.unique_id)))})

    def _about(self, body: bodies.NodeBody) -> NodeState:
        known = self._node(body.node.unique_id) or node_folding.new_node(body.node.unique_id, graph=self._get("graph"))
        return node_folding.described(known, body.node)

    def mentioned(self, event: Event, body: bodies.NodeMentioned) -> None:  # noqa: ARG002 - handlers look the same
        self._put(self._about(body))

    def started(self, event: Event, body: bodies.NodeStarted) -> None:
        self._put(node_folding.started(self._about(body), body.node, event.ts))
        self._set("executing", True)

    def batch(self, event: Event, body: bodies.BatchReported) -> None:
        self._put(node_folding.batch(node_folding.started(self._about(body), body.node, event.ts), body))
        self._set("executing", True)

    def ended(self, event: Event, body: bodies.NodeEnded) -> None:
        self._put(node_folding.ended(self._about(body), body, event.ts))

    def finished(self, event: Event, body: bodies.NodeFinished) -> None:
        self._put(node_folding.finished(self._about(body), body, event.ts))

    def message(self, event: Event, body: bodies.NodeMessage) -> None:
        known = self._node(body.unique_id) or node_folding.new_node(body.unique_id, graph=self._get("graph"))
        self._put(node_folding.with_message(known, body.message, authority=body.authority, ts=event.ts))

    def query_cancelled(self, event: Event, body: bodies.QueryCancelled) -> None:
        self._set("query_cancelled", True)
        known = self._node(body.connection)
        if known is None and looks_like_node(body.connection):
            known = node_folding.new_node(body.connection)
        if known is not None:
            self._put(node_folding.cancelled(known, event.ts))

    # -- the invocation

    def version(self, event: Event, body: bodies.Version) -> None:
        self._fill("dbt_version", body.dbt_version)
        if self._get("source") == "core" and body.dbt_version[:1] in _FUSION_MAJORS:
            self._set("source", "fusion")
        self._fill("invocation_id", event.invocation_id)

    def adapter(self, event: Event, body: bodies.Adapter) -> None:  # noqa: ARG002 - handlers look the same
        self._fill("adapter", body.name)
        self._fill("adapter_version", body.version)

    def concurrency(self, event: Event, body: bodies.Concurrency) -> None:
        self._fill("target", body.target)
        self._fill("threads", body.threads)
        self._set("executing", True)
        if self._get("expected") is None:
            self._set("expected", body.nodes)
        if self._get("finished") is None and event.invocation_id:
            # The runner parses, lists and executes in three invocations: this is the one that executes.
            self._set("invocation_id", event.invocation_id)

    def no_match(self, event: Event, body: bodies.NoMatch) -> None:  # noqa: ARG002 - handlers look the same
        if body.final:
            self._set("nothing_selected", True)
        known = self._get("unmatched")
        if body.criterion and body.criterion not in known and len(known) < _UNMATCHED_LIMIT:
            self._set("unmatched", (*known, body.criterion))

    def fatal(self, event: Event, body: bodies.FatalError) -> None:
        if body.interrupted:
            self._set("cancel_requested", True)
        elif self._get("error") is None or (body.message and not self._get("error").message):
            self._fail(event, body)

    def _fail(self, event: Event, body: bodies.FatalError) -> None:
        error = RunError(kind=error_texts.kind_of(body.message, reported=body.kind), message=body.message)
        self._set("error", error)
        hook = error_texts.failed_hook(error.message)
        if hook and error.kind != "connection":
            # dbt has no result for a hook that does not compile: it ends with the error.
            ended = bodies.NodeEnded(
                node=bodies.NodeInfo(unique_id=hook, resource_type="operation"),
                status="error",
                message=error.message,
                authority=RESULT,
            )
            self.ended(event, ended)

    def complaint(self, event: Event, body: bodies.Complaint) -> None:  # noqa: ARG002 - handlers look the same
        known = self._get("complaints")
        if body.message not in known and len(known) < _COMPLAINTS_LIMIT:
            self._set("complaints", (*known, body.message))

    def cancel(self, event: Event, body: bodies.CancelRequested) -> None:  # noqa: ARG002 - handlers look the same
        self._set("cancel_requested", True)
        known = self._get("cancel_ts")
        if event.ts is not None and (known is None or event.ts < known):
            self._set("cancel_ts", event.ts)
            for unique_id in self._get("failures"):
                failed = self._node(unique_id)
                if failed is not None:
                    self._put(failed)

    def summary(self, event: Event, body: bodies.Summary) -> None:  # noqa: ARG002 - handlers look the same
        if body.interrupted:
            self._set("cancel_requested", True)
        self._set("summary_errors", max(body.errors, self._get("summary_errors") or 0))

    def stats(self, event: Event, body: bodies.Stats) -> None:  # noqa: ARG002 - handlers look the same
        known = self._get("stats")
        if known is None or body.errors > known.errors:
            self._set("stats", body)

    def command_done(self, event: Event, body: bodies.CommandDone) -> None:  # noqa: ARG002 - handlers look the same
        self._set("done", True)
        if body.success is not None and self._get("command_success") is not False:
            self._set("command_success", body.success)

    def command_started(self, event: Event, body: bodies.CommandStarted) -> None:  # noqa: ARG002 - as above
        self._fill("command", body.command)

    def graph_part(self, event: Event, body: bodies.GraphPart) -> None:  # noqa: ARG002 - handlers look the same
        parts = self._get("graph_parts")
        if self._get("graph") is not None or body.part in parts or body.parts > _PARTS_LIMIT:
            return
        parts = {**parts, body.part: body.nodes}
        self._set("graph_parts", parts)
        if all(number in parts for number in range(1, body.parts + 1)):
            nodes = (node for number in sorted(parts) for node in parts[number])
            self._announce(Graph.of(nodes, command=body.command, tests=body.tests, mode=body.mode))

    def _announce(self, graph: Graph) -> None:
        self._set("graph", graph)
        self._set("graph_parts", {})
        known = dict(self._before.nodes if self._nodes is None else self._nodes)
        nodes = {
            node.unique_id: node_folding.announced(node, known.pop(node.unique_id, None))
            for node in graph.nodes.values()
            # A node that is not executed by itself, or not yet, gets a state when dbt mentions it.
            if node.unique_id in known or (node.executed and node.unique_id not in graph.later())
        }
        self._nodes = {**nodes, **known}

    def digest_part(self, event: Event, body: bodies.DigestPart) -> None:  # noqa: ARG002 - handlers look the same
        parts = self._get("digest_parts")
        if body.part in parts or body.parts > _PARTS_LIMIT:
            return
        parts = {**parts, body.part: body.results}
        self._set("digest_parts", parts)
        self._set("digest_total", body.total)
        complete = all(number in parts for number in range(1, body.parts + 1))
        self._set("digest_complete", complete and sum(map(len, parts.values())) == body.total)

    def hooks(self, event: Event, body: bodies.Hooks) -> None:  # noqa: ARG002 - handlers look the same
        self._raise("end_hooks", body.on_run_end)

    def microbatch(self, event: Event, body: bodies.Microbatch) -> None:  # noqa: ARG002 - handlers look the same
        known = cast("Microbatch", self._get("microbatch"))
        known = Microbatch(
            end=known.end or body.end,
            windows={**known.windows, body.unique_id: body.window} if body.window else known.windows,
            left={**known.left, body.unique_id: body.left} if body.left else known.left,
        )
        self._set("microbatch", known)

    def freshness(self, event: Event, body: bodies.FreshnessFound) -> None:  # noqa: ARG002 - handlers look the same
        known = self._node(body.unique_id)
        if known is not None:
            self._put(msgspec.structs.replace(known, freshness=body.freshness))

    def executors(self, event: Event, body: bodies.Executors) -> None:  # noqa: ARG002 - handlers look the same
        for each in body.nodes:
            known = self._node(each.unique_id) or node_folding.new_node(each.unique_id, graph=self._get("graph"))
            self._put(node_folding.executed_by(known, each))

    def held_back(self, event: Event, body: bodies.HeldBack) -> None:
        parts = self._get("held_parts")
        if self._get("looked") or body.part in parts or body.parts > _PARTS_LIMIT:
            return
        parts = {**parts, body.part: body.nodes}
        whole = all(number in parts for number in range(1, body.parts + 1))
        self._set("held_parts", {} if whole else parts)
        if not whole:
            return
        self._set("looked", True)
        for held in (each for number in sorted(parts) for each in parts[number]):
            known = self._node(held.unique_id) or node_folding.new_node(held.unique_id, graph=self._get("graph"))
            self._put(node_folding.held_back(known, held, event.ts))

    def artifact_omitted(self, event: Event, body: bodies.ArtifactOmitted) -> None:  # noqa: ARG002 - as above
        # That nothing is parsed from a cache is nobody's loss.
        if body.name in artifacts.ASKED_FOR:
            self._set("omitted", {**self._get("omitted"), body.name: body.reason})

    def deadlines_ignored(self, event: Event, body: bodies.DeadlinesIgnored) -> None:  # noqa: ARG002 - as above
        self._fill("deadlines_ignored", body.adapter)

    def job_ids_unknown(self, event: Event, body: bodies.JobIdsUnknown) -> None:  # noqa: ARG002 - as above
        self._fill("job_ids_of", body.program)

    def database_file(self, event: Event, body: bodies.DatabaseFile) -> None:  # noqa: ARG002 - handlers look the same
        if not body.kept:
            self._fill("pod_database", body.file)

    def found(self, event: Event, body: bodies.Found) -> None:  # noqa: ARG002 - handlers look the same
        self._set("found", {**body.found, **self._get("found")})

    def memory_peak(self, event: Event, body: bodies.MemoryPeak) -> None:  # noqa: ARG002 - handlers look the same
        self._raise("peak_memory_bytes", body.peak_memory_bytes)

    def runner_finished(self, event: Event, body: bodies.RunnerFinished) -> None:
        if body.peak_memory_bytes is not None:
            self._raise("peak_memory_bytes", body.peak_memory_bytes)
        if self._get("finished") is not None:
            return
        self._fill("command", body.command)
        if body.invocation_id:
            self._set("invocation_id", body.invocation_id)
        if body.error is not None:
            self._fail(event, body.error)
        if body.cancelled:
            self._set("cancel_requested", True)
        self._set(
            "finished",
            Finished(
                exit_code=body.exit_code,
                success=body.success,
                cancelled=body.cancelled,
                peak_memory_bytes=body.peak_memory_bytes,
                phase=body.phase,
                results=body.results,
            ),
        )

    def _settle(self) -> None:
        finished = cast("Finished | None", self._get("finished"))
        if finished is None or finished.complete or not (self._changes.keys() & {"finished", "digest_complete"}):
            return
        if self._get("digest_complete") and finished.results in (None, self._get("digest_total")):
            self._set("finished", msgspec.structs.replace(finished, complete=True))


_HANDLERS: Mapping[type, Callable[..., None]] = {
    bodies.NodeMentioned: Folding.mentioned,
    bodies.NodeStarted: Folding.started,
    bodies.BatchReported: Folding.batch,
    bodies.NodeEnded: Folding.ended,
    bodies.NodeFinished: Folding.finished,
    bodies.NodeMessage: Folding.message,
    bodies.QueryCancelled: Folding.query_cancelled,
    bodies.CancelRequested: Folding.cancel,
    bodies.Version: Folding.version,
    bodies.Adapter: Folding.adapter,
    bodies.Concurrency: Folding.concurrency,
    bodies.NoMatch: Folding.no_match,
    bodies.FatalError: Folding.fatal,
    bodies.Complaint: Folding.complaint,
    bodies.Summary: Folding.summary,
    bodies.Stats: Folding.stats,
    bodies.CommandDone: Folding.command_done,
    bodies.GraphPart: Folding.graph_part,
    bodies.CommandStarted: Folding.command_started,
    bodies.DigestPart: Folding.digest_part,
    bodies.Hooks: Folding.hooks,
    bodies.Microbatch: Folding.microbatch,
    bodies.DatabaseFile: Folding.database_file,
    bodies.Found: Folding.found,
    bodies.FreshnessFound: Folding.freshness,
    bodies.HeldBack: Folding.held_back,
    bodies.Executors: Folding.executors,
    bodies.ArtifactOmitted: Folding.artifact_omitted,
    bodies.DeadlinesIgnored: Folding.deadlines_ignored,
    bodies.JobIdsUnknown: Folding.job_ids_unknown,
    bodies.MemoryPeak: Folding.memory_peak,
    bodies.RunnerFinished: Folding.runner_finished,
}
