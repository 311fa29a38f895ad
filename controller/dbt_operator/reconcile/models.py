"""The DbtModels of one run: created when the graph is known, written when what they show has changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from dbt_operator.api import names, status
from dbt_operator.api.commands import Command
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import NodeView, affected, node_views, views_of
from dbt_operator.plan.attempt import Attempt, Request
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.memory import Memory
from dbt_operator.reconcile.objects import (
    all_stored,
    model_manifest,
    model_spec,
    model_status,
    stored_graph,
    tells_why,
    tried,
    unannounced_model_spec,
)


@dataclass(slots=True)
class Models:
    """Shows the nodes of a run. `failed` is told of each node that has failed, once for each attempt."""

    run: RunRef
    backend: Backend
    failed: Callable[[NodeView], None]
    views: dict[str, NodeView] = field(default_factory=dict)  # every node dbt executes, tests and hooks too
    memory: Memory = field(default_factory=Memory)  # what a controller before this one has written
    requests: dict[str, str] = field(default_factory=dict)  # tokens of the retries that a person asks for, by unique_id
    _shown: History = field(default_factory=History)
    _jobs: Sequence[tuple[AttemptKind, str]] = ()  # of the attempts of the history
    _names: dict[str, str] = field(default_factory=dict)  # of the DbtModels that exist or will, by unique_id
    _handled: dict[str, str] = field(default_factory=dict)  # tokens of the retries that were handled
    _attempts: dict[str, tuple[status.ModelAttempt, ...]] = field(default_factory=dict)  # as read
    _stored: dict[str, status.DbtModelStatus] = field(default_factory=dict)  # as read, of nodes not shown since
    _graph: Graph | None = None

    async def load(self, *, first_job: str, command: Command) -> None:
        """Read what a controller before this one has written. Nodes that were never tried are the first Job's."""
        found = await self.backend.find_models()
        specs = {model["metadata"]["name"]: status.DbtModelSpec.parse(model["spec"]) for model in found}
        # A part of the graph may never stand for the graph: the run would look finished with a part of its nodes.
        known = [spec for spec in specs.values() if spec is not None]
        graph = stored_graph(known, command=command) if len(known) == len(found) and all_stored(found) else None
        remembered: list[tuple[status.DbtModelSpec, status.DbtModelStatus]] = []
        for model in found:
            name, unique_id = model["metadata"]["name"], model["spec"]["uniqueId"]
            stored = status.DbtModelStatus.parse(model.get("status") or {}) or status.DbtModelStatus()
            spec = specs[name]
            self._names[unique_id], self._stored[unique_id] = name, stored
            self.asked(unique_id=unique_id, token=names.retry_token(model["metadata"]))
            self._attempts[unique_id] = stored.attempts
            if stored.handled_retry:
                self._handled[unique_id] = stored.handled_retry
            if spec is not None:
                remembered.append((spec, stored))
            self.backend.statuses.model_is(model)
        self.memory = Memory.of(remembered, graph=graph, first_job=first_job)

    def asked(self, *, unique_id: str, token: str | None) -> None:
        """A person asks for a retry of the node with this token; None: does not, or not any more."""
        if token:
            self.requests[unique_id] = token
        else:
            self.requests.pop(unique_id, None)

    def open_requests(self) -> list[Request]:
        """The retries of nodes that were not handled yet."""
        asked = self.requests.items()
        return [Request(token=token, unique_id=one) for one, token in asked if self._handled.get(one) != token]

    def name_of(self, request: Request) -> str | None:
        """The name of the DbtModel that a retry is asked for, if it is one of a node."""
        return self._names.get(request.unique_id or "")

    def show(self, *, history: History, attempts: Sequence[Attempt]) -> None:
        """Bring the DbtModels to this history of the attempts of the run."""
        self._jobs = [(attempt.kind, attempt.name) for attempt in attempts]
        graph = history.graph
        if graph is not None and self._graph is None:
            self._create(graph)
            changed: Mapping[str, NodeView] = node_views(state=history)
        else:
            changed = views_of(state=history, unique_ids=affected(before=self._shown, after=history))
        self._shown = history
        for unique_id in sorted(changed):  # always the same order of writes
            if self.views.get(unique_id) != changed[unique_id]:
                self._write(changed[unique_id])

    def handled(self, request: Request) -> str | None:
        """A retry of a node was handled. Returns the name of its DbtModel, if there is one."""
        unique_id = request.unique_id or ""
        self._handled[unique_id] = request.token
        view, name = self.views.get(unique_id), self._names.get(unique_id)
        if view is not None and name is not None:
            self._submit(view, name=name, lazy=False)
        return name

    def _create(self, graph: Graph) -> None:
        self._graph = graph
        nodes = graph.model_nodes()
        announced = names.model_names(self.run.name, nodes=((node.unique_id, node.name) for node in nodes))
        for node in nodes:
            if node.unique_id not in self._names:
                spec = model_spec(run=self.run, node=node, graph=graph)
                self._submit_create(name=announced[node.unique_id], spec=spec, nodes_of_run=len(nodes))

    def _submit_create(self, *, name: str, spec: status.DbtModelSpec, nodes_of_run: int | None = None) -> None:
        self._names[spec.unique_id] = name
        manifest = model_manifest(run=self.run, name=name, spec=spec, nodes_of_run=nodes_of_run)
        self.backend.statuses.create_model(manifest)

    def _write(self, view: NodeView) -> None:
        before = self.views.get(view.unique_id)
        if not tells_why(view, history=self._shown):
            return
        stored = self._stored.pop(view.unique_id, None)
        self.views[view.unique_id] = view
        if view.phase is NodePhase.FAILED and not _announced(view, before=before, stored=stored):
            self.failed(view)
        name = self._name(view)
        if name is None or (view.phase is NodePhase.PENDING and before is None and stored is None):
            return  # one that is new: the CRD's default says Pending, for one write per node less
        only_tests = before is not None and msgspec.structs.replace(before, tests=view.tests) == view
        self._submit(view, name=name, lazy=only_tests)

    def _submit(self, view: NodeView, *, name: str, lazy: bool) -> None:
        shown = model_status(
            view=view,
            tried=tried(view.unique_id, history=self._shown, jobs=self._jobs),
            jobs=self._jobs,
            remembered=self._attempts.get(view.unique_id, ()),
            handled_retry=self._handled.get(view.unique_id),
        )
        report = self._shown.report(view.unique_id)
        self.backend.statuses.show_model(
            name,
            shown.to_dict(),
            terminal=view.phase.terminal,
            lazy=lazy,  # ten tests that pass one after another need not be ten writes
            event_time=None if lazy or report is None else report.state.last_ts,
        )

    def _name(self, view: NodeView) -> str | None:
        """The name of the node's DbtModel, created if the graph has not announced the node; None for a test or hook."""
        if view.unique_id in self._names:
            return self._names[view.unique_id]
        if not view.shown:
            return None
        name = names.lone_model_name(self.run.name, unique_id=view.unique_id, name=view.name)
        self._submit_create(name=name, spec=unannounced_model_spec(run=self.run, view=view))
        return name


def _announced(view: NodeView, *, before: NodeView | None, stored: status.DbtModelStatus | None) -> bool:
    """Whether this failure was shown already, by us or by the controller that has stored this status."""
    if before is not None:
        return before.phase is NodePhase.FAILED
    return stored is not None and (stored.phase, stored.message or "") == (NodePhase.FAILED, view.message)
