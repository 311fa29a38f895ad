"""Which DbtModels are created for a run, and what is written to them when."""

import re
from dataclasses import dataclass, field
from typing import Any, cast

from dbt_operator.api.phases import AttemptKind, NodePhase
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.history import History
from dbt_operator.dbt.state import EMPTY, AttemptState, Ending
from dbt_operator.dbt.view import NodeView
from dbt_operator.plan.attempt import Attempt, Decision
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
    most_models: int | None = None

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
    lists: int = 0

    async def find_models(self) -> list[dict[str, Any]]:
        self.lists += 1
        return self.models


@dataclass
class Given:
    stored: list[dict[str, Any]] = field(default_factory=list)
    failed: list[NodeView] = field(default_factory=list)
    writes: Writes = field(default_factory=Writes)

    def __post_init__(self) -> None:
        self.backend = Stored(self.writes, self.stored)
        self.models = Models(
            run=RUN,
            backend=cast(Backend, self.backend),
            failed=self.failed.append,
        )

    def show(self, *states: AttemptState) -> None:
        kinds = (AttemptKind.PRODUCER, AttemptKind.RESUME)
        decisions = [Decision(index=i, kind=kinds[i], name=JOBS[i]) for i in range(len(states))]
        self.models.show(history=History(attempts=states), attempts=[Attempt(decision=each) for each in decisions])


def folded(*log: bytes) -> AttemptState:
    return fold_lines(state=EMPTY, lines=log)


def stored_model(unique_id: str, *parents: str, **status: Any) -> dict[str, Any]:
    kind, _, name = unique_id.split(".")
    spec = {"runName": "nightly", "uniqueId": unique_id, "name": name, "resourceType": kind, "dependsOn": list(parents)}
    return {"metadata": {"name": f"nightly.{name}", "uid": name}, "spec": spec, "status": status}


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
    await given.models.load()
    given.show(folded(*lines.GRAPH))
    assert set(given.writes.created) == {"nightly.orders"}


async def test_without_the_graph_a_node_keeps_the_model_that_another_controller_has_made_since() -> None:
    given = Given()
    await given.models.load()  # there are none yet
    given.stored.append(stored_model(MODEL, phase="Failed", reason="DbtError"))
    retried = folded(lines.started(7, MODEL))
    for _ in range(2):
        await given.models.load_again(History(attempts=(retried,)))
        given.show(retried)
    assert given.backend.lists == 2
    assert given.writes.created == {}
    assert given.writes.phases("nightly.orders") == ["Running"]


async def test_with_the_graph_the_models_are_listed_once() -> None:
    given = Given()
    await given.models.load()
    await given.models.load_again(History(attempts=(folded(*lines.GRAPH),)))
    assert given.backend.lists == 1


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


# more nodes than may have a DbtModel


def test_of_too_many_nodes_those_that_fail_have_a_model() -> None:
    given = Given(writes=Writes(most_models=2))
    log = RunnerLog().select(model("a"), model("b"), model("c", "b"), data_test("t", "a"))
    given.show(log.state)
    assert given.writes.created == {}
    log.run("model.shop.a").run("model.shop.b", "error", message="no such column").end("model.shop.c", "skipped")
    log.run("test.shop.t", "fail", message="Got 1 result")
    given.show(log.finish(1).closed)
    assert set(given.writes.created) == {"nightly.a", "nightly.b"}
    assert given.writes.created["nightly.a"]["spec"]["tests"][0]["name"] == "t"
    assert given.writes.phases("nightly.b") == ["Failed"]
    assert {view.phase for view in given.models.views.values()} == {NodePhase.FAILED, NodePhase.SKIPPED}


def test_the_model_of_a_node_that_failed_goes_on_being_shown() -> None:
    given = Given(writes=Writes(most_models=1))
    first = RunnerLog().select(model("a"), model("b")).run("model.shop.a").run("model.shop.b", "error", message="boom")
    failed = first.finish(1).closed
    given.show(failed)
    again = RunnerLog().select(model("a"), model("b")).run("model.shop.b")
    given.show(failed, again.finish(0).closed)
    assert given.writes.phases("nightly.b") == ["Failed", "Succeeded"]


def test_there_are_never_more_models_than_there_may_be() -> None:
    given = Given(writes=Writes(most_models=2))
    log = RunnerLog().select(*(model(name) for name in "abcd"))
    for name in "abcd":
        log.run(f"model.shop.{name}", "error", message="boom")
    given.show(log.finish(1).closed)
    assert len(given.writes.created) == 2
    assert len(given.failed) == 4


def test_the_run_says_of_which_nodes_there_is_no_model() -> None:
    log = RunnerLog().select(model("a"), model("b"))
    enough, too_few = Given(writes=Writes(most_models=2)), Given(writes=Writes(most_models=1))
    enough.show(log.state)
    too_few.show(log.state)
    assert enough.models.unshown == ""
    assert too_few.models.unshown == (
        "Only nodes that have failed have a DbtModel, as the run has 2 nodes, and the operator makes no more than 1 for"
        " a run."
    )
