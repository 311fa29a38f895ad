"""The DbtModels of one run: created when the graph is known, written when what they show has changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dbt_operator.api import names, status
from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import NodeView, Tally, affected, node_views, views_of
from dbt_operator.plan.attempt import Attempt, Request
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.objects import (
    model_manifest,
    model_spec,
    model_status,
    tells_why,
    tried,
    unannounced_model_spec,
)

_LOST: Mapping[str, Any] = {
    "phase": NodePhase.SKIPPED,
    "reason": NodeReason.LOST,
    "message": "What dbt said of it was lost with its pod.",
}


@dataclass(slots=True)
class Models:
    """Shows the nodes of a run. `failed` is told of each node that has failed, once for each attempt."""

    run: RunRef
    backend: Backend
    failed: Callable[[NodeView], None]
    views: dict[str, NodeView] = field(default_factory=dict)  # every node dbt executes, tests and hooks too
    tally: Tally = field(default_factory=Tally)  # of these views
    requests: dict[str, str] = field(default_factory=dict)  # tokens of the retries that a person asks for, by unique_id
    _shown: History = field(default_factory=History)
    _jobs: Sequence[tuple[AttemptKind, str]] = ()  # of the attempts of the history
    _names: dict[str, str] = field(default_factory=dict)  # of the DbtModels that exist or will, by unique_id
    _handled: dict[str, str] = field(default_factory=dict)  # tokens of the retries that were handled
    _stored: dict[str, status.DbtModelStatus] = field(default_factory=dict)  # as read, of nodes not shown since
    # Nodes that were shown and had not ended, of which no attempt knows: that was lost with a log and a controller.
    _unknown: dict[str, NodeView] = field(default_factory=dict)
    _graph: Graph | None = None
    _loaded_again: bool = False
    _announced: Mapping[str, str] = field(default_factory=dict)  # names of the DbtModels of the graph's nodes

    async def load(self) -> None:
        """Read what a controller before this one has shown: which DbtModels there are, and what was told and answered.

        What is known of the nodes comes from the attempts alone.
        """
        for model in await self.backend.find_models():
            spec = model["spec"]
            unique_id = spec["uniqueId"]
            if unique_id in self._names:
                continue
            stored = status.DbtModelStatus.parse(model.get("status") or {}) or status.DbtModelStatus()
            self._names[unique_id], self._stored[unique_id] = model["metadata"]["name"], stored
            self.asked(unique_id=unique_id, token=names.retry_token(model["metadata"]))
            if not stored.phase.terminal:
                self._unknown[unique_id] = NodeView(
                    unique_id=unique_id, name=spec["name"], resource_type=spec["resourceType"], phase=NodePhase.PENDING
                )
            if stored.handled_retry:
                self._handled[unique_id] = stored.handled_retry
            self.backend.statuses.model_is(model)

    async def load_again(self, history: History) -> None:
        """Read them once more before any is made without the graph: a controller beside this one may have read it.

        The graph's names are others than those that a DbtModel is given without it.
        """
        unnamed = (one for one in history.unique_ids() if one not in self._names)
        if not self._loaded_again and history.graph is None and next(unnamed, None) is not None:
            await self.load()
            self._loaded_again = True

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

    @property
    def unshown(self) -> str:
        """A sentence that says of which nodes there is no DbtModel; "" where each has one."""
        most = self.backend.statuses.most_models
        if not self._too_many or most is None:
            return ""
        return (
            f"Only nodes that have failed have a DbtModel, as the run has {len(self._announced):,} nodes, and the"
            f" operator makes no more than {most:,} for a run."
        )

    @property
    def _too_many(self) -> bool:
        most = self.backend.statuses.most_models
        return most is not None and len(self._announced) > most

    def show(self, *, history: History, attempts: Sequence[Attempt], ended: bool = False) -> None:
        """Bring the DbtModels to this history of the attempts of the run. `ended`: the run has."""
        self._jobs = [(attempt.kind, attempt.name) for attempt in attempts]
        graph = history.graph
        if graph is not None and self._graph is None:
            self._create(graph)
            changed: Mapping[str, NodeView] = node_views(state=history)
        else:
            changed = views_of(state=history, unique_ids=affected(before=self._shown, after=history))
        self._shown = history
        for unique_id in sorted(changed):  # always the same order of writes
            self._unknown.pop(unique_id, None)
            if self.views.get(unique_id) != changed[unique_id]:
                self._write(changed[unique_id])
        for view in self._unknown.values():
            shown = msgspec.structs.replace(view, **_LOST) if ended else view
            if self.views.get(view.unique_id) != shown:
                self._write(shown)

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
        self._announced = names.model_names(self.run.name, nodes=((node.unique_id, node.name) for node in nodes))
        for node in nodes:
            if node.unique_id not in self._names and not self._too_many:
                self._create_announced(node.unique_id, graph=graph)

    def _create_announced(self, unique_id: str, *, graph: Graph) -> str:
        name = self._announced[unique_id]
        self._submit_create(name=name, spec=model_spec(run=self.run, node=graph.nodes[unique_id], graph=graph))
        return name

    def _submit_create(self, *, name: str, spec: status.DbtModelSpec) -> None:
        self._names[spec.unique_id] = name
        self.backend.statuses.create_model(model_manifest(run=self.run, name=name, spec=spec))

    def _write(self, view: NodeView) -> None:
        before = self.views.get(view.unique_id)
        if not tells_why(view, history=self._shown):
            return
        stored = self._stored.pop(view.unique_id, None)
        self.views[view.unique_id] = view
        self.tally.change(before=before, after=view)
        if view.phase is NodePhase.FAILED and not _announced_before(view, before=before, stored=stored):
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
        if not view.shown or not self._may_have_one(view):
            return None
        if self._graph is not None and view.unique_id in self._announced:
            return self._create_announced(view.unique_id, graph=self._graph)
        name = names.lone_model_name(self.run.name, unique_id=view.unique_id, name=view.name)
        self._submit_create(name=name, spec=unannounced_model_spec(run=self.run, view=view))
        return name

    def _may_have_one(self, view: NodeView) -> bool:
        """Where there are too many nodes those that fail have one, as far as there is room."""
        most = self.backend.statuses.most_models
        return not self._too_many or (view.phase is NodePhase.FAILED and len(self._names) < (most or 0))


def _announced_before(view: NodeView, *, before: NodeView | None, stored: status.DbtModelStatus | None) -> bool:
    """Whether this failure was shown already, by us or by the controller that has stored this status."""
    if before is not None:
        return before.phase is NodePhase.FAILED
    return stored is not None and (stored.phase, stored.message or "") == (NodePhase.FAILED, view.message)
