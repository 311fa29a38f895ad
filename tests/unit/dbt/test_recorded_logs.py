"""Recorded logs of real dbt processes, folded and compared with what dbt itself said in the end."""

import json

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.state import AttemptState
from dbt_operator.dbt.view import node_counts, node_views, test_counts
from tests.unit.dbt.logs import LOGS, RECORDED, closed, events, folded, recorded

counts_of_tests = test_counts
_PHASES = {
    "success": NodePhase.SUCCEEDED,
    "pass": NodePhase.SUCCEEDED,
    "warn": NodePhase.SUCCEEDED,
    "no-op": NodePhase.SUCCEEDED,
    "error": NodePhase.FAILED,
    "fail": NodePhase.FAILED,
    "skipped": NodePhase.SKIPPED,
}


def _with(*names: str) -> list[str]:
    return [name for name in RECORDED if all(events(recorded(name), event) for event in names)]


def _statuses(state: AttemptState, *statuses: str) -> set[str]:
    return {node.unique_id for node in state.nodes.values() if node.status in statuses}


@pytest.mark.parametrize("name", ["failure.jsonl", "failure_debug.jsonl"])
def test_every_node_is_as_in_run_results(name: str) -> None:
    results = json.loads((LOGS / "failure_run_results.json").read_text())["results"]
    state = closed(recorded(name))
    expected = {result["unique_id"]: result["status"] for result in results}
    assert {one: node.phase for one, node in state.nodes.items() if node.materialized != "ephemeral"} == {
        unique_id: _PHASES[status] for unique_id, status in expected.items()
    }
    for result in results:
        node = state.nodes[result["unique_id"]]
        assert node.status == result["status"]
        if result["status"] in ("error", "fail", "warn"):
            assert node.message == result["message"].strip()
        if result["status"] in ("fail", "warn"):
            assert node.num_failures == result["failures"]
        if result["relation_name"]:
            assert node.relation == result["relation_name"]


@pytest.mark.parametrize("name", [name for name in _with("StatsLine") if name not in ("clone.jsonl",)])
def test_the_counts_are_those_of_dbts_last_line(name: str) -> None:
    lines = recorded(name)
    stats = events(lines, "StatsLine")[-1]["stats"]
    state = closed(lines)
    failed = _statuses(state, "error", "fail", "partial success", "runtime error")
    cancelled = {one for one, node in state.nodes.items() if node.cancelled}
    assert stats["error"] == len(failed - cancelled)
    assert stats["warn"] == len(_statuses(state, "warn"))
    assert stats["noop"] == len(_statuses(state, "no-op"))
    passed = [node for node in state.nodes.values() if node.phase is NodePhase.SUCCEEDED]
    passed = [node for node in passed if node.status not in ("warn", "no-op") and node.materialized != "ephemeral"]
    if "fail_fast" in name:
        # What was running when fail-fast stopped the rest counts as skipped for dbt, even if it ended well.
        assert stats["pass"] <= len(passed)
    else:
        assert stats["pass"] == len(passed)
        assert stats["skip"] == len(_statuses(state, "skipped"))


@pytest.mark.parametrize("name", RECORDED)
def test_every_node_ends_and_none_is_greener_than_its_last_event(name: str) -> None:
    lines = recorded(name)
    views = node_views(state=closed(lines))
    assert all(view.phase.terminal for view in views.values())
    for event in ("LogModelResult", "LogSeedResult", "LogTestResult", "LogFreshnessResult", "LogHookEndLine"):
        for data in events(lines, event):
            said = {data["status"].lower(), data["node_info"]["node_status"].lower()}
            if said & {"error", "fail", "partial success", "runtime error", "skipped"}:
                assert views[data["node_info"]["unique_id"]].phase is not NodePhase.SUCCEEDED


@pytest.mark.parametrize("name", _with("ConcurrencyLine"))
def test_what_dbt_says_of_itself_is_kept(name: str) -> None:
    lines = recorded(name)
    state = folded(lines)
    concurrency = events(lines, "ConcurrencyLine")[-1]
    assert state.expected == concurrency["node_count"]
    assert state.threads == concurrency["num_threads"]
    assert state.target == concurrency["target_name"]
    assert state.executing
    assert f"={state.dbt_version}" == events(lines, "MainReportVersion")[0]["version"]
    assert state.source == ("runner" if name.startswith("runner_") else "core")


def test_fusion_is_told_from_core() -> None:
    state = folded(recorded("fusion_build.jsonl"))
    assert state.source == "fusion"
    views = node_views(state=closed(recorded("fusion_build.jsonl")))
    assert node_counts(views=views).succeeded == 8
    assert counts_of_tests(views=views).succeeded == 20
    assert state.nodes["model.jaffle_shop.orders"].relation == "jaffle.main.orders"


@pytest.mark.parametrize("name", ["jaffle_info.jsonl", "jaffle_debug.jsonl"])
def test_a_green_build(name: str) -> None:
    views = node_views(state=closed(recorded(name)))
    assert node_counts(views=views).succeeded == node_counts(views=views).total == 8
    assert counts_of_tests(views=views).succeeded == 20
    orders = views["model.jaffle_shop.orders"]
    assert orders.tests is not None
    assert orders.tests.passed == orders.tests.total > 0
    assert orders.started_at is not None
    assert orders.started_at.tzinfo is not None
    assert orders.execution_seconds is not None
    assert (orders.finished_at - orders.started_at).total_seconds() == pytest.approx(orders.execution_seconds, abs=0.05)  # type: ignore[operator]  # known to be set


@pytest.mark.parametrize("name", ["failure.jsonl", "failure_debug.jsonl"])
def test_failures_of_every_kind_side_by_side(name: str) -> None:
    views = node_views(state=closed(recorded(name)))
    bad = views["model.torture.bad_sql"]
    assert (bad.phase, bad.reason) == (NodePhase.FAILED, NodeReason.ERROR)
    assert 'Referenced column "nocolumn" not found' in bad.message
    tested = views["model.torture.test_fails"]
    assert (tested.phase, tested.reason) == (NodePhase.FAILED, NodeReason.TESTS_FAILED)
    assert tested.tests is not None
    assert [test.name for test in tested.tests.failing] == ["not_null_test_fails_name"]
    assert tested.tests.failing[0].failures == 1
    warned = views["model.torture.test_warns"]
    assert (warned.phase, warned.reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)
    for child in ("model.torture.child_of_bad", "model.torture.grandchild_of_bad"):
        assert (views[child].phase, views[child].reason) == (NodePhase.SKIPPED, NodeReason.UPSTREAM_FAILED)
    assert views["model.torture.child_of_bad"].blocked_by == "model.torture.bad_sql"
    # By then a test had failed too: without a graph it is not certain which of the two was the cause.
    assert views["model.torture.after_test_fail"].reason is NodeReason.UPSTREAM_FAILED
    assert views["model.torture.after_test_fail"].blocked_by is None
    assert views["exposure.torture.dash"].reason is NodeReason.NO_OP
    assert views["model.torture.mb_model"].reason is NodeReason.SUCCESS


def test_debug_level_tells_of_ephemeral_models() -> None:
    views = node_views(state=closed(recorded("failure_debug.jsonl")))
    assert views["model.torture.eph"].reason is NodeReason.INLINED
    others = {one: view for one, view in views.items() if one != "model.torture.eph"}
    assert node_counts(views=others) == node_counts(views=node_views(state=closed(recorded("failure.jsonl"))))


def test_batches_of_a_microbatch_model_are_not_the_model() -> None:
    state = closed(recorded("microbatch_partial.jsonl"))
    views = node_views(state=state)
    failed = views["model.torture.mb_model"]
    assert (failed.phase, failed.reason) == (NodePhase.FAILED, NodeReason.PARTIAL_SUCCESS)
    assert 'Referenced column "nocol" not found' in failed.message
    assert views["model.torture.after_mb"].blocked_by == "model.torture.mb_model"


def test_a_microbatch_model_runs_until_its_own_result() -> None:
    lines = recorded("failure_debug.jsonl")
    ends = [at for at, line in enumerate(lines) if b'"LogModelResult"' in line and b"model.torture.mb_model" in line]
    assert folded(lines[: ends[0]]).nodes["model.torture.mb_model"].phase is NodePhase.RUNNING
    assert folded(lines[: ends[0] + 1]).nodes["model.torture.mb_model"].phase is NodePhase.SUCCEEDED


def test_a_failing_unit_test_blocks_the_model_it_tests() -> None:
    views = node_views(state=closed(recorded("unit_test_fail.jsonl")))
    failed = views["unit_test.torture.ok_model.ut_upper_bad"]
    assert (failed.phase, failed.tests) == (NodePhase.FAILED, None)
    assert "\x1b" not in failed.message
    assert "actual differs from expected" in failed.message
    assert views["unit_test.torture.ok_model.ut_upper_ok"].phase is NodePhase.SUCCEEDED
    blocked = views["model.torture.ok_model"]
    assert (blocked.phase, blocked.blocked_by) == (NodePhase.SKIPPED, failed.unique_id)


def test_fail_fast() -> None:
    views = node_views(state=closed(recorded("fail_fast.jsonl")))
    assert views["model.torture.bad_sql"].reason is NodeReason.ERROR
    assert views["model.torture.mb_model"].reason is NodeReason.PARTIAL_SUCCESS
    # Its connection was cancelled, and dbt reported its success all the same.
    assert views["model.torture.inc"].reason is NodeReason.SUCCESS


def test_a_failed_hook_is_what_skips_all_nodes() -> None:
    views = node_views(state=closed(recorded("on_run_start_fail_noexposure.jsonl")))
    hook = "operation.torture.torture-on-run-start-0"
    assert views[hook].phase is NodePhase.FAILED
    assert "Parser Error" in views[hook].message
    skipped = [view for view in views.values() if view.phase is NodePhase.SKIPPED]
    assert len(skipped) == 16
    assert {(view.reason, view.blocked_by) for view in skipped} == {(NodeReason.HOOK_FAILED, hook)}


@pytest.mark.parametrize("name", ["sigint.jsonl", "wrapper_sigterm_pid1.jsonl"])
def test_interrupted_nodes_are_cancelled_and_not_failed(name: str) -> None:
    state = closed(recorded(name))
    views = node_views(state=state)
    assert state.cancel_requested
    for unique_id in ("model.torture.slow_a", "model.torture.slow_b"):
        assert (views[unique_id].phase, views[unique_id].reason) == (NodePhase.CANCELLED, NodeReason.CANCELLED)


@pytest.mark.parametrize("name", ["sigkill.jsonl", "sigterm.jsonl"])
def test_what_ran_when_the_process_was_killed_is_lost(name: str) -> None:
    views = node_views(state=closed(recorded(name)))
    for unique_id in ("model.torture.slow_a", "model.torture.slow_b"):
        assert (views[unique_id].phase, views[unique_id].reason) == (NodePhase.FAILED, NodeReason.LOST)
        assert "unknown" in views[unique_id].message
    assert views["operation.torture.torture-on-run-start-0"].phase is NodePhase.SUCCEEDED


def test_freshness() -> None:
    views = node_views(state=closed(recorded("freshness_err.jsonl")))
    assert views["source.torture.raw.s_events"].reason is NodeReason.STALE
    missing = views["source.torture.raw.s_missing"]
    assert (missing.phase, missing.reason) == (NodePhase.FAILED, NodeReason.ERROR)
    assert "Catalog Error" in missing.message
    assert node_counts(views=views).failed == 2
    warned = node_views(state=closed(recorded("freshness_ok.jsonl")))["source.torture.raw.s_events"]
    assert (warned.phase, warned.reason) == (NodePhase.SUCCEEDED, NodeReason.WARNED)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing_profile.jsonl", "profile"),
        ("missing_target.jsonl", "profile"),
        ("parse_error_jinja.jsonl", "parse"),
        ("parse_error_missing_ref.jsonl", "parse"),
        ("parse_error_yaml.jsonl", "parse"),
        ("connection_error.jsonl", "connection"),
    ],
)
def test_errors_that_end_the_invocation_are_classified(name: str, kind: str) -> None:
    error = folded(recorded(name)).error
    assert error is not None
    assert error.kind == kind


def test_a_build_by_the_runner_knows_every_cause() -> None:
    state = closed(recorded("runner_build.jsonl"))
    views = node_views(state=state)
    assert state.finished is not None
    assert state.finished.complete
    assert state.finished.exit_code == 1
    blamed = {one: view.blocked_by for one, view in views.items() if view.phase is NodePhase.SKIPPED}
    assert blamed == {
        "model.torture.child_of_bad": "model.torture.bad_sql",
        "model.torture.grandchild_of_bad": "model.torture.bad_sql",
        "model.torture.after_test_fail": "model.torture.test_fails",
    }
    tested = views["model.torture.ok_model"].tests
    assert tested is not None
    assert (tested.total, tested.passed) == (4, 4)
    assert views["model.torture.eph"].reason is NodeReason.INLINED
    assert node_counts(views=views).total == 17


def test_what_fail_fast_left_out_is_known_from_the_runners_digest() -> None:
    views = node_views(state=closed(recorded("runner_fail_fast.jsonl")))
    left_out = {view.reason for view in views.values() if view.phase is NodePhase.SKIPPED}
    assert left_out == {NodeReason.FAIL_FAST}
    assert views["model.torture.bad_sql"].reason is NodeReason.ERROR
    assert views["model.torture.inc"].reason is NodeReason.SUCCESS


def test_sigterm_to_the_runner_cancels_running_and_waiting_nodes() -> None:
    views = node_views(state=closed(recorded("runner_sigterm.jsonl")))
    nodes = [view for view in views.values() if view.resource_type == "model"]
    assert len(nodes) == 3
    assert {(view.phase, view.reason) for view in nodes} == {(NodePhase.CANCELLED, NodeReason.CANCELLED)}


def test_a_microbatch_model_without_one_good_batch_has_the_text_of_the_batch() -> None:
    view = node_views(state=closed(recorded("runner_microbatch.jsonl")))["model.torture.mb_model"]
    assert (view.phase, view.reason) == (NodePhase.FAILED, NodeReason.ERROR)
    assert 'Referenced column "nocol" not found' in view.message


def test_a_failed_hook_is_not_to_blame_where_dbt_went_on() -> None:
    views = node_views(state=closed(recorded("runner_hook_fails.jsonl")))
    assert views["operation.torture.torture-on-run-start-1"].phase is NodePhase.FAILED
    assert views["model.torture.stg_users"].phase is NodePhase.SUCCEEDED
    assert views["model.torture.child_of_bad"].blocked_by == "model.torture.bad_sql"
