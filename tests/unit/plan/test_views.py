"""What nodes show while a run repairs itself."""

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.view import node_counts, node_views
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Story


def test_a_failed_node_stays_failed_until_its_retry_begins_with_it() -> None:
    run = Story(model("orders"))
    run["Producer"].builds(orders="error: deadlock")
    run.next()
    assert run.shows("orders") is NodePhase.FAILED
    run.later(seconds=10)
    run["Retry orders"].starts()
    assert run.shows("orders") is NodePhase.FAILED
    run["Retry orders"].reports(orders="running")
    assert run.shows("orders") is NodePhase.RUNNING
    run["Retry orders"].reports(orders="success")
    assert run.shows("orders") is NodePhase.SUCCEEDED
    assert run.node("orders").message == ""


def test_what_is_blocked_shows_by_what_until_it_is_decided_to_run_it() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    assert (run.shows("report"), run.node("report").blocked_by) == (NodePhase.SKIPPED, "model.shop.orders")
    run["Retry orders"].builds()
    run.next()
    assert (run.shows("report"), run.node("report").blocked_by) == (NodePhase.PENDING, None)


def test_what_was_lost_is_pending_while_it_waits_to_be_taken_up() -> None:
    run = Story(model("orders"), model("report", "orders"))
    run["Producer"].starts().reports(orders="running").vanishes()
    run.next()
    assert (run.shows("orders"), run.shows("report")) == (NodePhase.PENDING, NodePhase.PENDING)
    assert run.node("orders").started_at is None
    run.later(seconds=60)
    run["Resume orders report"].starts().reports(orders="running")
    assert (run.shows("orders"), run.shows("report")) == (NodePhase.RUNNING, NodePhase.PENDING)


def test_what_was_lost_shows_so_when_the_run_ends_with_it() -> None:
    run = Story(model("orders"), model("report", "orders"), max_restarts=0)
    run["Producer"].starts().reports(orders="running").is_killed()
    run.next()
    assert (run.node("orders").phase, run.node("orders").reason) == (NodePhase.FAILED, NodeReason.LOST)
    assert (run.node("report").phase, run.node("report").reason) == (NodePhase.SKIPPED, NodeReason.LOST)


def test_what_no_dbt_had_time_to_skip_shows_what_held_it_back() -> None:
    run = Story(model("orders"), model("report", "orders"), model("page", "report"), model("other"), limit=0)
    run["Producer"].starts().reports(orders="error: boom", other="running").is_deleted()
    run["Producer"].stops()
    assert run.later(seconds=10) == ["Resume other"]
    assert run.shows("report") is NodePhase.PENDING
    run["Resume other"].builds()
    run.next()
    for name in ("report", "page"):
        node = run.node(name)
        assert (node.phase, node.reason, node.blocked_by) == (
            NodePhase.SKIPPED,
            NodeReason.UPSTREAM_FAILED,
            "model.shop.orders",
        )


def test_a_green_node_stays_green_while_others_are_repaired() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("stock"), model("list", "stock"))
    run["Producer"].builds(stock="error: deadlock", list="skipped")
    for _ in range(2):
        assert run.shows("orders") is NodePhase.SUCCEEDED
        assert run.shows("positive") is NodePhase.SUCCEEDED
        run.later(seconds=10)
    run["Retry stock"].builds()
    run.next()
    assert run.shows("orders") is NodePhase.SUCCEEDED


def test_tests_that_will_run_again_are_not_counted_as_skipped() -> None:
    run = Story(model("orders"), data_test("positive", "orders"))
    run["Producer"].builds(orders="error: deadlock", positive="skipped")
    run.later(seconds=10)
    run["Retry orders positive"].starts().reports(orders="success")
    tests = run.node("orders").tests
    assert tests is not None
    assert (tests.total, tests.skipped, tests.passed) == (1, 0, 0)
    run["Retry orders positive"].reports(positive="pass")
    tests = run.node("orders").tests
    assert tests is not None
    assert tests.passed == 1


def test_the_counts_of_the_run_add_up_at_every_moment() -> None:
    run = Story(model("orders"), model("report", "orders"), model("stock"))
    moments = []

    def look() -> None:
        counts = node_counts(views=node_views(state=run.plan().history))
        parts = (counts.pending, counts.running, counts.succeeded, counts.failed, counts.skipped, counts.cancelled)
        assert counts.total == sum(parts) + counts.warned
        moments.append((counts.total, counts.succeeded))

    run["Producer"].starts()
    look()
    run["Producer"].builds(orders="error: deadlock", report="skipped")
    run.later(seconds=10)
    look()
    run["Retry orders"].builds()
    run.next()
    look()
    run["Resume report"].builds()
    run.next()
    look()
    assert moments == [(3, 0), (3, 1), (3, 2), (3, 3)]


def test_a_test_below_two_failed_nodes_stays_skipped_while_one_of_them_is_not_mended() -> None:
    run = Story(model("orders"), model("stock"), data_test("match", "orders", "stock"), limit=1)
    run["Producer"].builds(orders="error: deadlock", stock="error: Compilation Error", match="skipped")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run.next()
    assert (run.shows("match"), run.shows("orders")) == (NodePhase.SKIPPED, NodePhase.SUCCEEDED)
