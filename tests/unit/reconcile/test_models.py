"""Which DbtModels are created for a run, and what is written to them when."""

import re
from dataclasses import dataclass, field
from typing import Any, cast

from dbt_operator.api.commands import Command
from dbt_operator.api.phases import AttemptKind
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY, AttemptState, Ending
from dbt_operator.dbt.view import NodeView
from dbt_operator.plan.attempt import Attempt, Decision, LogFacts, Shown
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import Backend
from dbt_operator.reconcile.models import Models
from tests.unit.dbt.logs import RunnerLog, data_test, ephemeral, model
from tests.unit.plan import lines
from tests.unit.plan.lines import MODEL, SEED

JOBS = ["nightly-producer-1", "nightly-resume-1"]
RUN = RunRef(namespace="data", name="nightly", uid="u1", labels={})


@dataclass
class Writes:
    """Takes the place of the statuses: remembers what it was asked for."""

    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def create_model(self, manifest: dict[str, Any]) -> None:
        self.created[manifest["metadata"]["name"]] = manifest

    def show_model(self, name: str, status: dict[str, Any], **_: Any) -> None:
        self.statuses.append((name, status))

    def model_is(self, _: dict[str, Any]) -> None:
        """What is stored need not be remembered here."""

    def phases(self, name: str) -> list[str]:
        return [status["phase"] for written, status in self.statuses if written == name]


@dataclass
class Stored:
    """What the cluster lists."""

    statuses: Writes
    models: list[dict[str, Any]] = field(default_factory=list)

    async def find_models(self) -> list[dict[str, Any]]:
        return self.models


@dataclass
class Given:
    stored: list[dict[str, Any]] = field(default_factory=list)
    failed: list[NodeView] = field(default_factory=list)
    writes: Writes = field(default_factory=Writes)

    def __post_init__(self) -> None:
        self.models = Models(
            run=RUN,
            backend=cast(Backend, Stored(self.writes, self.stored)),
            failed=self.failed.append,
        )

    def show(self, *states: AttemptState) -> None:
        attempts = [self.remembered(state, job=JOBS[index], whole=index == 0) for index, state in enumerate(states)]
        self.models.show(history=History(attempts=tuple(each.known for each in attempts)), attempts=attempts)

    def remembered(self, state: AttemptState, *, job: str, whole: bool) -> Attempt:
        kind, nodes = AttemptKind.PRODUCER if whole else AttemptKind.RESUME, None if whole else frozenset({MODEL})
        decision = Decision(index=1, kind=kind, name=job, nodes=nodes)
        attempt = Attempt(decision=decision, shown=Shown(created=True), log=LogFacts(state=state))
        return self.models.memory.completed([attempt])[0]


def folded(*log: bytes) -> AttemptState:
    return fold_lines(state=EMPTY, lines=log)


def stored_model(unique_id: str, *parents: str, **status: Any) -> dict[str, Any]:
    kind, _, name = unique_id.split(".")
    spec = {"runName": "nightly", "uniqueId": unique_id, "name": name, "resourceType": kind, "dependsOn": list(parents)}
    annotations = {"dbt-operator.io/nodes-of-run": "2"}  # as those of the lines' graph
    metadata = {"name": f"nightly.{name}", "uid": name, "annotations": annotations}
    return {"metadata": metadata, "spec": spec, "status": status}


def test_the_graph_becomes_models_before_anything_runs() -> None:
    given = Given()
    given.show(folded(*lines.GRAPH))
    assert set(given.writes.created) == {"nightly.raw", "nightly.orders"}
    assert given.writes.created["nightly.orders"]["spec"]["dependsOn"] == [SEED]
    assert given.writes.statuses == []  # the CRD's default says that they are Pending


def test_each_step_of_a_node_is_written_once() -> None:
    given = Given()
    for length in range(1, len(lines.GREEN_LOG) + 1):
        given.show(folded(*lines.GREEN_LOG[:length]))
    assert given.writes.phases("nightly.raw") == ["Running", "Succeeded"]
    assert given.writes.phases("nightly.orders") == ["Running", "Succeeded"]
    assert given.failed == []


def test_a_failed_node_is_told_once_and_with_its_text() -> None:
    given = Given()
    for length in range(1, len(lines.RED_LOG) + 1):
        given.show(folded(*lines.RED_LOG[:length]))
    given.show(close(state=folded(*lines.RED_LOG), ending=Ending.COMPLETED))
    assert [(view.unique_id, view.message) for view in given.failed] == [(SEED, "Database Error: boom")]
    assert given.writes.phases("nightly.orders")[-1] == "Skipped"


async def test_models_that_exist_are_not_created_again() -> None:
    given = Given(stored=[stored_model(SEED, phase="Succeeded", reason="Success")])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    given.show(folded(*lines.GRAPH))
    assert set(given.writes.created) == {"nightly.orders"}


async def test_what_an_earlier_controller_has_seen_end_is_not_opened_again() -> None:
    # The beginning of the log, with the seed's result, was rotated away.
    given = Given(stored=[stored_model(SEED, phase="Succeeded", reason="Success"), stored_model(MODEL, SEED)])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    given.show(close(state=folded(*lines.EXECUTING), ending=Ending.LOST))
    assert given.writes.phases("nightly.raw") == ["Succeeded"]
    assert given.writes.phases("nightly.orders") == ["Skipped"]


async def test_a_graph_that_was_rotated_away_is_remembered_by_the_models() -> None:
    given = Given(stored=[stored_model(SEED), stored_model(MODEL, SEED)])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    without_graph = [line for line in lines.RED_LOG if b"SelectedNodes" not in line]
    given.show(close(state=folded(*without_graph), ending=Ending.COMPLETED))
    assert dict(given.writes.statuses)["nightly.orders"]["blockedBy"] == SEED


async def test_the_graph_is_remembered_for_the_attempt_that_the_first_pod_did_not_live_to_make() -> None:
    again = "nightly-producer-2"
    begun = [{"job": again, "kind": "Producer", "phase": "Succeeded"}]
    seed = stored_model(SEED, phase="Succeeded", reason="Success", attempts=begun)
    given = Given(stored=[seed, stored_model(MODEL, SEED)])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    state = given.remembered(EMPTY, job=again, whole=True).known
    assert state.graph is not None
    assert {one: node.phase for one, node in state.nodes.items()} == {SEED: "Succeeded", MODEL: "Pending"}
    # One of which nothing is known may have to make the graph yet; and a part of the run is not the run.
    assert given.remembered(EMPTY, job="nightly-producer-3", whole=True).known.graph is None
    assert given.remembered(EMPTY, job=again, whole=False).known.graph is None


def test_each_model_says_how_many_there_are_to_be() -> None:
    given = Given()
    given.show(folded(*lines.GRAPH))
    said = [model["metadata"]["annotations"] for model in given.writes.created.values()]
    assert said == [{"dbt-operator.io/nodes-of-run": "2"}] * 2


async def test_a_part_of_the_models_is_not_taken_for_the_graph() -> None:
    # The controller died while it created them, and the pod's log is gone: the run would end without the other node.
    given = Given(stored=[stored_model(SEED, phase="Succeeded", reason="Success")])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    state = given.remembered(EMPTY, job=JOBS[0], whole=True).known
    assert state.graph is None
    assert [node.phase for node in state.nodes.values()] == ["Succeeded"]


async def test_models_of_nodes_that_no_graph_announced_do_not_make_up_for_missing_ones() -> None:
    unannounced = stored_model("model.shop.late")
    del unannounced["metadata"]["annotations"]
    given = Given(stored=[stored_model(SEED), unannounced])
    await given.models.load(first_job=JOBS[0], command=Command.BUILD)
    assert given.remembered(EMPTY, job=JOBS[0], whole=True).known.graph is None


def test_a_node_that_the_graph_did_not_announce_gets_a_model_when_dbt_begins_with_it() -> None:
    given = Given()
    info = {"unique_id": "model.shop.Été 2", "node_name": "Été 2", "resource_type": "model", "node_status": "started"}
    given.show(folded(*lines.EXECUTING, lines.line(6, "LogStartLine", node_info=info, index=2, total=2)))
    (name,) = set(given.writes.created) - {"nightly.raw", "nightly.orders"}
    assert re.fullmatch(r"nightly\.t-2-[0-9a-f]{8}", name)
    assert given.writes.created[name]["spec"]["uniqueId"] == "model.shop.Été 2"
    assert given.writes.phases(name) == ["Running"]


def test_a_node_that_only_the_digest_tells_of_gets_a_model_too() -> None:
    given = Given()
    results = {SEED: "success", MODEL: "success", "model.shop.late": "success"}
    log = [*lines.EXECUTING, *lines.finished(6, exit_code=0, results=results)]
    given.show(close(state=folded(*log), ending=Ending.COMPLETED))
    (name,) = set(given.writes.created) - {"nightly.raw", "nightly.orders"}
    assert name.startswith("nightly.late-")
    assert given.writes.phases(name) == given.writes.phases("nightly.orders") == ["Succeeded"]


def test_tests_without_a_node_get_models_and_what_has_failed_does_too() -> None:
    given = Given()
    query = {"unique_id": "saved_query.shop.q", "resource_type": "saved_query", "name": "q"}
    log = RunnerLog().select(model("a"), ephemeral("e"), data_test("of_nothing"), data_test("t", "a"), query)
    given.show(log.state)
    assert set(given.writes.created) == {"nightly.a", "nightly.e", "nightly.of-nothing"}
    assert given.writes.created["nightly.of-nothing"]["spec"]["resourceType"] == "test"
    log.end("model.shop.e", "error", materialized="ephemeral", message="no such region")
    log.end("saved_query.shop.q", "error", message="no such metric")
    log.run("model.shop.a").run("test.shop.of_nothing", "fail", message="Got 1 result").run("test.shop.t", "fail")
    given.show(log.finish(1).closed)
    (late,) = set(given.writes.created) - {"nightly.a", "nightly.e", "nightly.of-nothing"}
    assert given.writes.created[late]["spec"]["uniqueId"] == "saved_query.shop.q"
    for name in ("nightly.a", "nightly.e", "nightly.of-nothing", late):
        assert given.writes.phases(name)[-1] == "Failed", name
