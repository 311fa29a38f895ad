"""Logs of our runner, with the graph known: every rule of truth on the smallest log that shows it."""

import json

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.state import Ending
from dbt_operator.dbt.view import NodeView, node_counts, node_view, node_views, test_counts
from tests.unit.dbt.logs import (
    RunnerLog,
    closed,
    core_line,
    data_test,
    ephemeral,
    folded,
    model,
    node_info,
    recorded,
    seed,
    unit_test,
)

counts_of_tests = test_counts
A, B, C, D = (f"model.shop.{name}" for name in "abcd")


def _view(log: RunnerLog, unique_id: str) -> NodeView:
    return node_view(state=log.closed, unique_id=unique_id)


def _said(view: NodeView) -> tuple[NodePhase, NodeReason | None, str | None]:
    return view.phase, view.reason, view.blocked_by


def test_selected_nodes_are_pending_once_all_parts_are_there() -> None:
    log = RunnerLog().select(model("a"), model("b", "a"), data_test("t", "a"), parts=3)
    assert folded(log.lines[:3]).graph is None
    assert folded(log.lines[:3]).nodes == {}
    assert list(node_views(state=log.state)) == [A, B, "test.shop.t"]
    assert {view.phase for view in node_views(state=log.state).values()} == {NodePhase.PENDING}
    swapped = [log.lines[0], log.lines[3], log.lines[1], log.lines[2], log.lines[4]]
    assert folded(swapped) == log.state


def test_nodes_come_in_the_order_of_the_graph_and_others_after_them() -> None:
    log = RunnerLog().run("operation.shop.shop-on-run-start-0").run(B).select(model("a"), model("b"))
    assert list(node_views(state=log.state)) == [A, B, "operation.shop.shop-on-run-start-0"]


def test_a_node_that_fails_is_to_blame_for_all_below_it() -> None:
    log = RunnerLog().select(
        seed("s"), model("a", "seed.shop.s"), model("b", "a"), ephemeral("e", "b"), model("c", "e")
    )
    log.run("seed.shop.s").run(A, "error", message="Database Error in model a\n  no such table")
    log.end(B, "skipped").end(C, "skipped").finish(1)
    assert _said(_view(log, A)) == (NodePhase.FAILED, NodeReason.ERROR, None)
    assert _said(_view(log, B)) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED, A)
    assert _said(_view(log, C)) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED, A)


def test_the_nearest_of_several_failed_ancestors_is_to_blame() -> None:
    log = RunnerLog().select(model("a"), model("b", "a"), model("c"), model("d", "b", "c"))
    log.run(A, "error").end(B, "skipped").run(C, "error").end(D, "skipped").finish(1)
    assert _view(log, D).blocked_by == C


def test_a_failing_test_of_a_built_node_stops_its_children() -> None:
    log = RunnerLog().select(model("a"), model("b", "a"), model("c", "b"), data_test("t", "a", attached_node=A))
    log.run(A).run("test.shop.t", "fail", message="Got 3 results", num_failures=3, attached_node=A)
    log.end(B, "skipped").end(C, "skipped").finish(1)
    tested = _view(log, A)
    assert _said(tested) == (NodePhase.FAILED, NodeReason.TESTS_FAILED, None)
    assert tested.message == "1 of 1 tests failed: t (Got 3 results)"
    assert tested.tests is not None
    assert tested.tests.failing[0].failures == 3
    assert _view(log, B).blocked_by == _view(log, C).blocked_by == A


def test_a_test_of_two_nodes_holds_back_only_what_needs_both() -> None:
    log = RunnerLog().select(
        model("a"), model("b"), model("c", "a"), model("d", "c", "b"), data_test("rel", "a", "b", attached_node=B)
    )
    log.run(A).run(B).run(C).run("test.shop.rel", "fail").end(D, "skipped").finish(1)
    assert _view(log, C).phase is NodePhase.SUCCEEDED
    assert _said(_view(log, D)) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED, B)


def test_a_failing_unit_test_is_to_blame_for_its_model_and_all_below() -> None:
    test = "unit_test.shop.a.ut"
    log = RunnerLog().select(model("a"), model("b", "a"), unit_test("ut", "a"), data_test("t", "a", attached_node=A))
    log.run(test, "fail").end(A, "skipped").end("test.shop.t", "skipped").end(B, "skipped").finish(1)
    for blocked in (A, B, "test.shop.t"):
        assert _said(_view(log, blocked)) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED, test)
    tests = _view(log, A).tests
    assert tests is not None
    assert (tests.total, tests.failed, tests.skipped) == (2, 1, 1)


def test_warnings_are_no_failures() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", severity="WARN", attached_node=A), model("b", "a"))
    log.run(A).run("test.shop.t", "warn", message="Got 1 result").run(B).finish(0)
    view = _view(log, A)
    assert _said(view) == (NodePhase.SUCCEEDED, NodeReason.WARNED, None)
    assert view.tests is not None
    assert view.tests.warned == 1
    assert node_counts(views=node_views(state=log.closed)).warned == 1


def test_a_test_that_breaks_is_an_error_whatever_its_severity() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", severity="WARN", attached_node=A))
    log.run(A).run("test.shop.t", "error", message="Database Error").finish(1)
    view = _view(log, A)
    assert view.reason is NodeReason.TESTS_FAILED
    assert view.tests is not None
    assert (view.tests.failed, view.tests.errored) == (0, 1)


def test_tests_not_run_yet_are_counted_in_the_total() -> None:
    log = RunnerLog().select(model("a"), *(data_test(f"t{n}", "a", attached_node=A) for n in range(3)))
    log.run(A).run("test.shop.t0", "pass")
    tests = node_view(state=log.state, unique_id=A).tests
    assert tests is not None
    assert (tests.total, tests.passed, tests.skipped) == (3, 1, 0)


@pytest.mark.parametrize(
    ("status", "phase", "reason"),
    [
        ("success", NodePhase.SUCCEEDED, NodeReason.SUCCESS),
        ("SUCCESS", NodePhase.SUCCEEDED, NodeReason.SUCCESS),
        ("no-op", NodePhase.SUCCEEDED, NodeReason.NO_OP),
        ("reused", NodePhase.SUCCEEDED, NodeReason.REUSED),
        ("warn", NodePhase.SUCCEEDED, NodeReason.WARNED),
        ("error", NodePhase.FAILED, NodeReason.ERROR),
        ("fail", NodePhase.FAILED, NodeReason.ERROR),
        ("runtime error", NodePhase.FAILED, NodeReason.ERROR),
        ("partial success", NodePhase.FAILED, NodeReason.PARTIAL_SUCCESS),
        ("skipped", NodePhase.SKIPPED, NodeReason.SKIPPED),
        ("succeeded", NodePhase.FAILED, NodeReason.ERROR),
        ("OK", NodePhase.FAILED, NodeReason.ERROR),
        ("", NodePhase.FAILED, NodeReason.ERROR),
        ("None", NodePhase.FAILED, NodeReason.ERROR),
        ("started", NodePhase.FAILED, NodeReason.ERROR),
    ],
)
def test_only_dbts_own_words_for_success_are_green(status: str, phase: NodePhase, reason: NodeReason) -> None:
    view = _view(RunnerLog().select(model("a")).run(A, status).finish(0), A)
    assert (view.phase, view.reason) == (phase, reason)


def test_an_unknown_status_is_named() -> None:
    assert "'superb'" in _view(RunnerLog().select(model("a")).run(A, "superb").finish(0), A).message


@pytest.mark.parametrize(
    ("node_status", "status", "level", "phase"),
    [
        ("success", "OK", "info", NodePhase.SUCCEEDED),
        ("success", "CREATE TABLE (1.0k rows, 3 MiB processed)", "info", NodePhase.SUCCEEDED),
        ("success", "error", "info", NodePhase.FAILED),
        ("success", "OK", "error", NodePhase.FAILED),
        ("error", "OK", "info", NodePhase.FAILED),
        ("None", "OK", "info", NodePhase.FAILED),
        ("None", "success", "info", NodePhase.SUCCEEDED),
        ("", "skipped", "info", NodePhase.SKIPPED),
        ("splendid", "success", "info", NodePhase.FAILED),
        ("partial success", "PARTIAL SUCCESS (1/2)", "error", NodePhase.FAILED),
    ],
)
def test_of_two_words_in_one_event_the_worse_one_is_believed(
    node_status: str, status: str, level: str, phase: NodePhase
) -> None:
    data = {"node_info": node_info(A, node_status=node_status), "status": status}
    assert folded([core_line("LogModelResult", data, level=level)]).nodes[A].phase is phase


def test_a_result_of_a_kind_that_does_not_exist_yet_is_read() -> None:
    data = {"node_info": node_info("function.shop.f", node_status="error"), "status": "error"}
    assert folded([core_line("LogFunctionResult", data)]).nodes["function.shop.f"].phase is NodePhase.FAILED


def test_ephemeral_models_are_inlined_and_counted_with_the_others() -> None:
    log = (
        RunnerLog()
        .select(ephemeral("e"), model("a", "e"))
        .end("model.shop.e", materialized="ephemeral")
        .run(A)
        .finish(0)
    )
    assert _view(log, "model.shop.e").reason is NodeReason.INLINED
    counts = node_counts(views=node_views(state=log.closed))
    assert (counts.total, counts.succeeded) == (2, 2)


def test_figures_of_the_result() -> None:
    log = (
        RunnerLog()
        .select(model("a"))
        .end(
            A,
            message="CREATE TABLE (3 rows)",
            execution_time=1.5,
            started_at="2026-11-20T17:00:00.5",
            completed_at="2026-11-20T17:00:02Z",
            rows_affected=3,
            bytes_processed=2048,
            bytes_billed=10_485_760,
            slot_ms=77,
            cache_hit=False,
            job_id="job-1",
        )
    )
    view = _view(log.finish(0), A)
    assert (view.message, view.execution_seconds) == ("CREATE TABLE (3 rows)", 1.5)
    assert (view.rows_affected, view.bytes_processed, view.job_id) == (3, 2048, "job-1")
    assert (view.bytes_billed, view.slot_milliseconds, view.cache_hit) == (10_485_760, 77, False)
    assert view.started_at is not None
    assert view.finished_at is not None
    assert view.started_at.isoformat() == "2026-11-20T17:00:00.500000+00:00"
    assert view.relation == '"db"."main"."a"'


def test_messages_are_cut_to_a_kibibyte() -> None:
    log = RunnerLog().select(model("a")).run(A, "error", message="ä" * 2000).finish(1)
    message = _view(log, A).message
    assert len(message.encode()) <= 1024
    assert message.endswith("…")


def test_lines_that_something_else_printed_do_not_count() -> None:
    log = RunnerLog().select(model("a")).start(A)
    before = log.state
    forged = json.loads(RunnerLog().end(A, "success").lines[-1])
    del forged["seq"]
    lines = [
        json.dumps(forged).encode(),
        json.dumps({**forged, "seq": "7"}).encode(),
        json.dumps({**forged, "seq": True}).encode(),
        core_line("LogModelResult", {"node_info": node_info(A, node_status="success"), "status": "OK"}),
    ]
    after = folded([*log.lines, *lines])
    assert after == before
    assert after.ignored == len(lines)


def test_a_second_invocation_in_a_plain_log_does_not_count() -> None:
    lines = recorded("failure.jsonl")
    assert folded([*lines, *recorded("jaffle_info.jsonl")]) == folded(lines)


def test_the_head_of_a_runners_log_may_be_lost() -> None:
    log = RunnerLog().select(model("a")).run(A).finish(0)
    state = folded(log.lines[2:])
    assert state.source == "runner"
    forged = core_line("LogModelResult", {"node_info": node_info(B, node_status="success"), "status": "OK"})
    assert folded([*log.lines[2:], forged]) == state


def test_the_digest_speaks_for_nodes_whose_result_line_is_lost() -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).start(A, B)
    log.digest({A: "success", B: "error", C: "skipped"}, parts=2, b="Database Error: x").finish(1, results=3)
    assert log.state.nodes[A].phase is NodePhase.RUNNING
    assert log.state.finished is not None
    assert log.state.finished.complete
    assert _view(log, A).phase is NodePhase.SUCCEEDED
    assert _said(_view(log, B)) == (NodePhase.FAILED, NodeReason.ERROR, None)
    assert _view(log, B).message == "Database Error: x"
    assert _view(log, C).phase is NodePhase.SKIPPED


def test_a_digest_with_a_missing_part_is_not_complete() -> None:
    log = RunnerLog().select(model("a"), model("b")).digest({A: "success", B: "success"}, parts=2).finish(0, results=2)
    lines = [line for line in log.lines if b'"part": 2' not in line]
    finished = folded(lines).finished
    assert finished is not None
    assert not finished.complete


def test_where_log_and_digest_disagree_the_worse_one_is_believed() -> None:
    log = RunnerLog().select(model("a"), model("b")).run(A).run(B, "error")
    log.digest({A: "error", B: "success"}, a="late").finish(1)
    assert (_view(log, A).phase, _view(log, A).message) == (NodePhase.FAILED, "late")
    assert _view(log, B).phase is NodePhase.FAILED


def test_what_fail_fast_never_started_is_told_by_the_digest() -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).start(A, B).end(A, "error")
    log.add("LogCancelLine", {"conn_name": B}, level="error").end(B, "error")
    log.digest({A: "error", B: "skipped", C: "skipped"}, b="Skipping due to fail_fast", c="Skipping due to fail_fast")
    log.finish(1)
    assert _said(_view(log, A)) == (NodePhase.FAILED, NodeReason.ERROR, None)
    assert _said(_view(log, B)) == (NodePhase.CANCELLED, NodeReason.FAIL_FAST, None)
    assert _said(_view(log, C)) == (NodePhase.SKIPPED, NodeReason.FAIL_FAST, None)


def test_what_fail_fast_never_started_without_a_digest() -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).start(A, B).end(A, "error")
    log.add("LogCancelLine", {"conn_name": B}, level="error").end(B, "success").finish(1)
    assert _view(log, B).phase is NodePhase.SUCCEEDED
    assert _said(_view(log, C)) == (NodePhase.SKIPPED, NodeReason.FAIL_FAST, None)


def test_a_cancelled_query_is_cancelled_when_somebody_asked_for_it() -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).run(A).start(B)
    log.add("CancelRequested", {"signal": "SIGTERM"}).add("LogCancelLine", {"conn_name": B}, level="error")
    log.end(B, "error", message="INTERRUPT Error: Interrupted!").finish(2, cancelled=True, success=False)
    assert _view(log, A).phase is NodePhase.SUCCEEDED
    assert _said(_view(log, B)) == (NodePhase.CANCELLED, NodeReason.CANCELLED, None)
    assert _said(_view(log, C)) == (NodePhase.CANCELLED, NodeReason.CANCELLED, None)


def test_a_query_may_come_back_before_dbt_says_that_it_was_cancelled() -> None:
    log = RunnerLog().select(model("a"), model("b")).start(A, B).add("CancelRequested", {"signal": "SIGTERM"})
    log.end(A, "error", message="terminating connection due to administrator command")
    log.add("LogCancelLine", {"conn_name": A}, level="error")
    log.end(B, "error", message="connection already closed")  # it had another name when dbt looked
    log.finish(2, cancelled=True, success=False)
    assert _said(_view(log, A)) == (NodePhase.CANCELLED, NodeReason.CANCELLED, None)
    assert _said(_view(log, B)) == (NodePhase.CANCELLED, NodeReason.CANCELLED, None)


def test_an_error_before_the_wish_to_stop_is_the_nodes_own() -> None:
    log = RunnerLog().select(model("a"), model("b")).start(A).end(A, "error", message="real")
    log.add("CancelRequested", {"signal": "SIGTERM"}).finish(2, cancelled=True)
    assert _said(_view(log, A)) == (NodePhase.FAILED, NodeReason.ERROR, None)


def test_an_idle_connection_has_the_name_of_a_node_that_had_ended() -> None:
    log = RunnerLog().select(model("a"), model("b")).run(A, "error", message="real").start(B)
    log.add("CancelRequested", {"signal": "SIGTERM"}).add("LogCancelLine", {"conn_name": A}, level="error")
    log.finish(2, cancelled=True)
    assert _said(_view(log, A)) == (NodePhase.FAILED, NodeReason.ERROR, None)
    assert _view(log, A).message == "real"


@pytest.mark.parametrize(
    ("ending", "running", "pending"),
    [
        (Ending.LOST, (NodePhase.FAILED, NodeReason.LOST), (NodePhase.SKIPPED, NodeReason.LOST)),
        (Ending.COMPLETED, (NodePhase.FAILED, NodeReason.LOST), (NodePhase.SKIPPED, NodeReason.LOST)),
        (Ending.CANCELLED, (NodePhase.CANCELLED, NodeReason.CANCELLED), (NodePhase.CANCELLED, NodeReason.CANCELLED)),
    ],
)
def test_what_is_open_when_the_pod_has_ended(
    ending: Ending, running: tuple[NodePhase, NodeReason], pending: tuple[NodePhase, NodeReason]
) -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).run(A).start(B)
    views = node_views(state=close(state=log.state, ending=ending))
    assert views[A].phase is NodePhase.SUCCEEDED
    assert (views[B].phase, views[B].reason) == running
    assert (views[C].phase, views[C].reason) == pending


def test_a_failure_whose_text_was_lost_with_the_pod_says_so() -> None:
    log = RunnerLog().select(model("a")).start(A)
    log.add("LogModelResult", {"status": "ERROR", "node_info": node_info(A, node_status="error")}, level="error")
    assert node_view(state=log.state, unique_id=A).message == ""
    view = node_view(state=close(state=log.state, ending=Ending.LOST), unique_id=A)
    assert (view.phase, view.reason) == (NodePhase.FAILED, NodeReason.ERROR)
    assert "lost with its pod" in view.message


def test_a_node_with_a_lost_test_is_not_green() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node=A)).run(A).start("test.shop.t")
    view = node_view(state=close(state=log.state, ending=Ending.LOST), unique_id=A)
    assert (view.phase, view.reason) == (NodePhase.FAILED, NodeReason.LOST)
    view = node_view(state=close(state=log.state, ending=Ending.CANCELLED), unique_id=A)
    assert view.phase is NodePhase.SUCCEEDED
    assert view.tests is not None
    assert (view.tests.passed, view.tests.skipped) == (0, 1)


def test_a_failed_hook_is_to_blame_for_what_dbt_never_came_to() -> None:
    hook = "operation.shop.shop-on-run-start-0"
    log = RunnerLog().select(model("a"), model("b", "a")).run(hook, "error", message="syntax error")
    log.end(A, "skipped").finish(2, error={"kind": "other", "message": "'Exposure' object has no attribute 'schema'"})
    for unique_id in (A, B):
        assert _said(_view(log, unique_id)) == (NodePhase.SKIPPED, NodeReason.HOOK_FAILED, hook)


def test_a_command_that_executes_nothing_leaves_no_node_open() -> None:
    log = RunnerLog()
    log.add("SelectedNodes", {"part": 1, "parts": 1, "total": 1, "nodes": [model("a")]})
    assert _view(log.finish(0, phase="list", results=0), A).reason is NodeReason.NO_OP


def test_a_source_shows_its_tests() -> None:
    source = {"unique_id": "source.shop.raw.s", "resource_type": "source", "selected": False, "name": "s"}
    log = RunnerLog().select(source, model("a", "source.shop.raw.s"), data_test("t", "source.shop.raw.s"))
    assert node_view(state=log.state, unique_id="source.shop.raw.s").phase is NodePhase.PENDING
    log.run("test.shop.t", "fail").end(A, "skipped")
    assert _view(log.finish(1), "source.shop.raw.s").reason is NodeReason.TESTS_FAILED
    assert _view(log, A).blocked_by == "source.shop.raw.s"
    views = node_views(state=log.closed)
    assert (node_counts(views=views).total, node_counts(views=views).failed) == (2, 1)
    assert counts_of_tests(views=views).failed == 1


def test_a_very_long_chain_of_skipped_nodes() -> None:
    size = 3000
    log = RunnerLog().select(model("m0"), *(model(f"m{n}", f"m{n - 1}") for n in range(1, size)))
    log.run("model.shop.m0", "error")
    for number in range(1, size):
        log.end(f"model.shop.m{number}", "skipped")
    views = node_views(state=closed(log.lines))
    assert {view.blocked_by for view in views.values() if view.phase is NodePhase.SKIPPED} == {"model.shop.m0"}


def test_nodes_known_only_by_their_id_have_a_name() -> None:
    log = RunnerLog()
    for unique_id in ("test.shop.not_null_a.1eb6c457d7", "model.shop.m.v2", "unit_test.shop.a.ut", "source.shop.raw.s"):
        log.add("LogCancelLine", {"conn_name": unique_id}, level="error")
    log.add("LogCancelLine", {"conn_name": "list_db_main"}, level="error")
    assert [view.name for view in node_views(state=log.state).values()] == ["not_null_a", "m", "ut", "s"]
