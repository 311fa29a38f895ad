"""The DbtModels of the run: what operators show of the nodes, and what a new one reads of it.

Each is written a little after it was shown, by itself: what an operator has not written when it dies is lost.
"""

from collections import deque
from collections.abc import Iterable

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import AttemptKind
from dbt_operator.api.status import DbtModelSpec, DbtModelStatus
from dbt_operator.dbt.history import History
from dbt_operator.dbt.view import views_of
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.memory import Memory
from dbt_operator.reconcile.objects import model_spec, model_status, stored_graph, tells_why, tried
from tests.simulation.world import World

_RUN = RunRef(namespace="n", name="r", uid="u", labels={})
_LONGEST = 8000  # milliseconds until what is shown is written

Jobs = tuple[tuple[AttemptKind, str], ...]


class Models:
    """What was shown in the last seconds, and what was written before."""

    def __init__(self, *, world: World) -> None:
        self._world = world
        self._chance = world.chance("DbtModels")
        self._shown: deque[tuple[int, History, Jobs]] = deque()
        self._flushed = -1  # all that was shown until then is written
        self._specs: dict[str, DbtModelSpec] = {}  # of those that are created
        self._asked_for = 0  # how many there are to be
        self._command = Command.BUILD
        self.written: dict[str, DbtModelStatus] = {}

    def show(self, history: History, jobs: Iterable[tuple[AttemptKind, str]]) -> None:
        """An operator shows what the attempts of these Jobs have said."""
        self._shown.append((self._world.ms, history, tuple(jobs)))
        while len(self._shown) > 1 and self._shown[1][0] <= self._world.ms - _LONGEST:
            self._shown.popleft()

    def flush(self) -> None:
        """An operator waits until everything is written."""
        self._flushed = self._world.ms

    def read(self, *, first_job: str) -> Memory:
        """What an operator remembers that begins now. What is not written by then never will be."""
        self._create()
        for unique_id in self._specs:
            self._write(unique_id)
        self._shown.clear()
        graph = stored_graph(self._specs.values(), command=self._command) if self.all_there else None
        models = ((spec, self.written.get(one, DbtModelStatus())) for one, spec in self._specs.items())
        return Memory.of(models, graph=graph, first_job=first_job)

    @property
    def all_there(self) -> bool:
        """Whether all of them were created, so that they tell what the run selects."""
        return bool(self._specs) and len(self._specs) == self._asked_for

    def _create(self) -> None:
        told = [(ms, graph) for ms, history, _ in self._shown if (graph := history.graph) is not None]
        for ms, graph in told[:1]:
            nodes = graph.model_nodes()
            self._asked_for, self._command = len(nodes), graph.command
            some = 1.0 if self._is_written(ms, within=1000) else self._chance.random()
            for node in nodes:
                if node.unique_id not in self._specs and self._chance.random() < some:
                    self._specs[node.unique_id] = model_spec(run=_RUN, node=node, graph=graph)

    def _write(self, unique_id: str) -> None:
        within = self._chance.choice((0, 20, 300, 2000, _LONGEST))
        for ms, history, jobs in reversed(self._shown):
            if self._is_written(ms, within=within):
                views = views_of(state=history, unique_ids=[unique_id])
                if unique_id in views and tells_why(views[unique_id], history=history):
                    attempts = tried(unique_id, history=history, jobs=jobs)
                    shown = model_status(view=views[unique_id], tried=attempts, jobs=jobs, handled_retry=None)
                    self.written[unique_id] = DbtModelStatus.parse(shown.to_dict()) or DbtModelStatus()
                    return

    def _is_written(self, ms: int, *, within: int) -> bool:
        return ms <= self._flushed or ms <= self._world.ms - within
