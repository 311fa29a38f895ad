"""Every node and test that a run is about has its place: a DbtModel of its own, or one on which it is listed."""

import pytest

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.view import NodeView, node_counts, node_views, test_counts
from dbt_operator.plan.outcome import conclude
from tests.unit.dbt.logs import RunnerLog, data_test, ephemeral, model, node_info

counts_of_tests = test_counts
SOURCE = "source.shop.raw.s"
EPHEMERAL = "model.shop.e"


def shown(log: RunnerLog, *, state: AttemptState | None = None) -> dict[str, NodeView]:
    """What has a DbtModel, by name; the counts of the run are those of these."""
    views = node_views(state=state if state is not None else log.closed)
    found = {view.name: view for view in views.values() if view.shown}
    counts = node_counts(views=views)
    assert counts.total == len(found)
    assert counts.failed == sum(view.phase is NodePhase.FAILED for view in found.values())
    return found


def source(name: str = "s", **fields: object) -> dict[str, object]:
    return {"unique_id": f"source.shop.raw.{name}", "resource_type": "source", "selected": False, **fields}


def no_op(resource_type: str, *parents: str) -> dict[str, object]:
    parents = tuple(f"model.shop.{parent}" for parent in parents)
    return {"unique_id": f"{resource_type}.shop.board", "resource_type": resource_type, "depends_on": list(parents)}


def test_the_failed_test_of_an_ephemeral_model_fails_it() -> None:
    log = RunnerLog().select(ephemeral("e"), model("a", "e"), data_test("t", "e", attached_node=EPHEMERAL))
    log.end(EPHEMERAL, materialized="ephemeral").run("test.shop.t", "fail", message="Got 1 result")
    log.end("model.shop.a", "skipped").finish(1)
    view = shown(log)["e"]
    assert (view.phase, view.reason) == (NodePhase.FAILED, NodeReason.TESTS_FAILED)
    assert conclude(state=log.closed, pod=None).message.startswith("1 of 1 test failed: t (Got 1 result)")


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("word", "phase", "reason"),
    [
        ("pass", NodePhase.SUCCEEDED, NodeReason.INLINED),
        ("warn", NodePhase.SUCCEEDED, NodeReason.WARNED),
        ("error", NodePhase.FAILED, NodeReason.TESTS_FAILED),
    ],
)
def test_an_ephemeral_model_is_what_its_tests_are(
    word: str, phase: NodePhase, reason: NodeReason, *, reported: bool, ended: bool
) -> None:
    # dbt says nothing of one that is not selected, and the line about one that is may be lost.
    log = RunnerLog().select({**ephemeral("e"), "selected": reported}, data_test("t", "e", attached_node=EPHEMERAL))
    assert shown(log, state=log.state)["e"].phase is NodePhase.PENDING
    if reported:
        log.end(EPHEMERAL, materialized="ephemeral")
    log.run("test.shop.t", word)
    view = shown(log.finish(int(word == "error")) if ended else log, state=None if ended else log.state)["e"]
    assert (view.phase, view.reason) == (phase, reason)


def test_an_ephemeral_model_that_does_not_compile_is_one_of_the_failed() -> None:
    log = RunnerLog().select(ephemeral("e"), model("a", "e"), model("b"))
    assert shown(log, state=log.state)["e"].phase is NodePhase.PENDING
    log.end(EPHEMERAL, "error", materialized="ephemeral", message="no such region").end("model.shop.a", "skipped")
    views = shown(log.run("model.shop.b").finish(1))
    assert (views["e"].phase, views["e"].reason) == (NodePhase.FAILED, NodeReason.ERROR)


def test_an_ephemeral_model_below_a_failure_is_skipped_for_it() -> None:
    log = RunnerLog().select(model("a"), ephemeral("e", "a"), data_test("t", "e", attached_node=EPHEMERAL))
    log.run("model.shop.a", "error").end(EPHEMERAL, "skipped", materialized="ephemeral").end("test.shop.t", "skipped")
    view = shown(log.finish(1))["e"]
    assert (view.phase, view.blocked_by) == (NodePhase.SKIPPED, "model.shop.a")


def test_a_test_that_reads_no_node_is_shown_itself() -> None:
    log = RunnerLog().select(model("a"), data_test("t"))
    assert shown(log, state=log.state)["t"].phase is NodePhase.PENDING
    log.run("model.shop.a").run("test.shop.t", "fail", message="Got 1 result").finish(1)
    view = shown(log)["t"]
    assert (view.phase, view.reason, view.message) == (NodePhase.FAILED, NodeReason.TESTS_FAILED, "Got 1 result")
    assert counts_of_tests(views=node_views(state=log.closed)).failed == 1
    outcome = conclude(state=log.closed, pod=None)
    assert (outcome.reason, outcome.message) == (RunReason.TESTS_FAILED, "1 of 1 test failed: t (Got 1 result).")


def test_tests_that_have_a_place_have_no_other_one() -> None:
    log = RunnerLog().select(model("a"), ephemeral("e"), data_test("on_a", "a"), data_test("on_e", "e"), source())
    assert set(shown(log, state=log.state)) == {"a", "e"}


@pytest.mark.parametrize(
    ("words", "phase", "reason"),
    [
        (("pass", "pass"), NodePhase.SUCCEEDED, NodeReason.SUCCESS),
        (("pass", "warn"), NodePhase.SUCCEEDED, NodeReason.WARNED),
        (("pass", "fail"), NodePhase.FAILED, NodeReason.TESTS_FAILED),
        (("skipped", "fail"), NodePhase.FAILED, NodeReason.TESTS_FAILED),
        (("pass", ""), NodePhase.PENDING, None),
        (("fail", ""), NodePhase.FAILED, NodeReason.TESTS_FAILED),  # the other test cannot make that good
    ],
)
@pytest.mark.parametrize("node", [{**model("n"), "selected": False}, source("n")])
def test_a_node_that_only_tests_were_selected_of_is_what_they_are(
    node: dict[str, object], words: tuple[str, str], phase: NodePhase, reason: NodeReason | None
) -> None:
    tests = ("first", "second")
    log = RunnerLog().select(node, *(data_test(name, str(node["unique_id"])) for name in tests))
    for name, word in zip(tests, words, strict=True):
        if word:
            log.run(f"test.shop.{name}", word)
    view = shown(log, state=log.state)["n"]
    assert (view.phase, view.reason, view.executed) == (phase, reason, False)


@pytest.mark.parametrize(
    ("ending", "phase", "reason"),
    [
        (Ending.CANCELLED, NodePhase.CANCELLED, NodeReason.CANCELLED),
        (Ending.LOST, NodePhase.SKIPPED, NodeReason.LOST),
    ],
)
def test_where_none_of_its_tests_ran_that_is_what_it_shows(
    ending: Ending, phase: NodePhase, reason: NodeReason
) -> None:
    log = RunnerLog().select(source(), data_test("t", SOURCE))
    view = shown(log, state=close(state=log.state, ending=ending))["s"]
    assert (view.phase, view.reason) == (phase, reason)
    assert view.message.startswith("None of its tests ran. ")


def test_a_source_whose_tests_were_held_back_names_what_held_them_back() -> None:
    log = RunnerLog().select(model("a"), source(), data_test("t", SOURCE, "model.shop.a", attached_node=SOURCE))
    view = shown(log.run("model.shop.a", "error").end("test.shop.t", "skipped").finish(1))["s"]
    assert (view.phase, view.blocked_by) == (NodePhase.SKIPPED, "model.shop.a")


@pytest.mark.parametrize("fields", [{}, {"freshness": True}])
def test_a_source_that_dbt_did_not_look_at_is_not_shown(fields: dict[str, object]) -> None:
    log = RunnerLog().select({**source(), **fields}, model("a", SOURCE)).run("model.shop.a").finish(0)
    assert set(shown(log)) == {"a"}


def test_a_source_whose_freshness_dbt_has_checked_is() -> None:
    log = RunnerLog()
    log.add("LogFreshnessResult", {"node_info": node_info(SOURCE, node_status="warn"), "status": "warn"}, level="warn")
    assert shown(log)["s"].reason is NodeReason.WARNED


@pytest.mark.parametrize("resource_type", ["exposure", "saved_query", "a_type_of_tomorrow"])
@pytest.mark.parametrize("word", ["no-op", "success", "skipped"])
def test_what_dbt_has_nothing_to_do_for_is_neither_shown_nor_counted(resource_type: str, word: str) -> None:
    node = no_op(resource_type, "a")
    log = RunnerLog().select(model("a"), node).run("model.shop.a").end(str(node["unique_id"]), word, message="NO-OP")
    assert set(shown(log.finish(0))) == {"a"}
    outcome = conclude(state=log.closed, pod=None)
    assert (outcome.phase, outcome.message) == (RunPhase.SUCCEEDED, "1 node succeeded.")


def test_what_failed_is_shown_whatever_its_type() -> None:
    node = no_op("saved_query", "a")
    log = RunnerLog().select(model("a"), node).run("model.shop.a").end(str(node["unique_id"]), "error", message="boom")
    assert shown(log.finish(1))["board"].phase is NodePhase.FAILED
    assert conclude(state=log.closed, pod=None).phase is RunPhase.FAILED


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("success", "NO-OP"),
        ("success", "NO-OP (within tolerance)"),
        ("success", "CLONE"),
        ("reused", "No new changes"),
        ("reused", "Cloned from other environment"),
    ],
)
@pytest.mark.parametrize("by_runner", [True, False])
def test_what_dbt_state_has_taken_over_was_not_built(status: str, message: str, *, by_runner: bool) -> None:
    log = RunnerLog().select(model("a"), model("b")).run("model.shop.b", message="OK").start("model.shop.a")
    log.add("LogModelResult", {"node_info": node_info("model.shop.a", node_status=status), "status": message})
    if by_runner:
        log.end("model.shop.a", status, message=message, execution_time=0.02)
    views = shown(log.finish(0))
    assert (views["a"].phase, views["a"].reason) == (NodePhase.SUCCEEDED, NodeReason.REUSED)
    assert views["a"].execution_seconds is None
    assert log.closed.nodes["model.shop.a"].status == status  # as dbt wrote it
    counts = node_counts(views=node_views(state=log.closed))
    assert (counts.succeeded, counts.reused, counts.good) == (1, 1, 2)
    outcome = conclude(state=log.closed, pod=None)
    assert outcome.message == "2 nodes succeeded; 1 of the nodes was reused, and not built."


def test_a_reused_node_is_still_what_its_tests_are() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a")).run("model.shop.a", message="NO-OP")
    assert shown(log.run("test.shop.t", "fail").finish(1))["a"].reason is NodeReason.TESTS_FAILED


def test_a_node_that_was_built_without_a_word_about_it_was_not_reused() -> None:
    log = RunnerLog().select(model("a"), model("b")).run("model.shop.a", message="OK").run("model.shop.b")
    assert {view.reason for view in shown(log.finish(0)).values()} == {NodeReason.SUCCESS}
