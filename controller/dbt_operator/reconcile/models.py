"""The DbtModels of one run: created when the graph is known, written when what they show has changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from dbt_operator.api import names, status
from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.graph import Graph
from dbt_operator.dbt.state import EMPTY, AttemptState
from dbt_operator.dbt.view import NodeView, affected, node_views, views_of
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import DBT_MODELS
from dbt_operator.kube.writer import StatusWriter
from dbt_operator.pods.job import RunRef
from dbt_operator.reconcile.objects import (
    MODEL_TYPES,
    model_manifest,
    model_spec,
    model_status,
    stored_graph,
    unannounced_model_spec,
)


@dataclass(slots=True)
class Models:
    """Shows the nodes of a run. `failed` is told of each node that has failed, once."""

    run: RunRef
    client: Client
    writer: StatusWriter
    failed: Callable[[NodeView], None]
    views: dict[str, NodeView] = field(default_factory=dict)  # every node dbt executes, tests and hooks too
    _shown: AttemptState = EMPTY
    _names: dict[str, str] = field(default_factory=dict)  # of the DbtModels that exist or will, by unique_id
    _stored: dict[str, status.DbtModelStatus] = field(default_factory=dict)  # as a controller before us left them
    _graph: Graph | None = None
    _remembered: Graph | None = None  # what the stored DbtModels know of it

    async def load(self) -> None:
        """Read what a controller before this one has written."""
        selector = {names.LABEL_RUN_UID: self.run.uid}
        found = await self.client.list(resource=DBT_MODELS, namespace=self.run.namespace, labels=selector)
        specs = [status.DbtModelSpec.parse(model["spec"]) for model in found]
        self._remembered = stored_graph(spec for spec in specs if spec is not None) if found else None
        for model in found:
            name, unique_id = model["metadata"]["name"], model["spec"]["uniqueId"]
            self._names[unique_id] = name
            self._stored[unique_id] = status.DbtModelStatus.parse(model.get("status") or {}) or status.DbtModelStatus()
            self.writer.known(run=self.run.uid, resource=DBT_MODELS, obj=model)

    def show(self, *, state: AttemptState, job: str) -> None:
        """Bring the DbtModels to this state of the attempt that this Job is."""
        if state.graph is None and self._remembered is not None:
            state = replace(state, graph=self._remembered)
        if state is self._shown:
            return
        if state.graph is not None and self._graph is None:
            self._create(state.graph)
            changed: Mapping[str, NodeView] = node_views(state=state)
        else:
            changed = views_of(state=state, unique_ids=affected(before=self._shown, after=state))
        self._shown = state
        for unique_id, view in changed.items():
            if self.views.get(unique_id) != view:
                self._write(view, job=job)

    def _create(self, graph: Graph) -> None:
        self._graph = graph
        nodes = graph.model_nodes()
        announced = names.model_names(self.run.name, nodes=((node.unique_id, node.name) for node in nodes))
        for node in nodes:
            if node.unique_id not in self._names:
                spec = model_spec(run=self.run, node=node, graph=graph)
                self._submit_create(name=announced[node.unique_id], spec=spec)

    def _submit_create(self, *, name: str, spec: status.DbtModelSpec) -> None:
        self._names[spec.unique_id] = name
        manifest = model_manifest(run=self.run, name=name, spec=spec)
        self.writer.submit_create(run=self.run.uid, resource=DBT_MODELS, manifest=manifest, owner_uid=self.run.uid)

    def _write(self, view: NodeView, *, job: str) -> None:
        before = self.views.get(view.unique_id)
        if view.phase is NodePhase.FAILED and not view.message and self._shown.closed is None:
            return  # dbt says that a node failed a moment before it says why: red without a reason helps nobody
        self.views[view.unique_id] = view
        if view.phase is NodePhase.FAILED and (before is None or before.phase is not NodePhase.FAILED):
            self.failed(view)
        name = self._name(view)
        if name is None or _regresses(view, stored=self._stored.get(view.unique_id)):
            return
        if view.phase is NodePhase.PENDING and before is None:
            return  # the CRD's default says the same, for one write per node less
        only_tests = before is not None and msgspec.structs.replace(before, tests=view.tests) == view
        self.writer.submit(
            run=self.run.uid,
            resource=DBT_MODELS,
            namespace=self.run.namespace,
            name=name,
            status=model_status(view=view, job=job).to_dict(),
            terminal=view.phase.terminal,
            lazy=only_tests,  # ten tests that pass one after another need not be ten writes
            event_time=None if only_tests else self._shown.last_ts,
        )

    def _name(self, view: NodeView) -> str | None:
        """The name of the node's DbtModel, created if the graph has not announced the node; None for a test or hook."""
        if view.unique_id in self._names:
            return self._names[view.unique_id]
        if view.resource_type not in MODEL_TYPES or view.materialized == "ephemeral":
            return None
        name = names.lone_model_name(self.run.name, unique_id=view.unique_id, name=view.name)
        self._submit_create(name=name, spec=unannounced_model_spec(run=self.run, view=view))
        return name


def _regresses(view: NodeView, *, stored: status.DbtModelStatus | None) -> bool:
    """Whether an earlier controller knew more than we can: the beginning of a long log is rotated away by the kubelet.

    What dbt reported and we stored stays; that we cannot find it any more does not make it untrue.
    """
    if stored is None or not stored.phase.terminal or stored.reason is NodeReason.LOST:
        return False
    return not view.phase.terminal or view.reason is NodeReason.LOST
