"""What a retry executes besides the node that failed: its unit tests, and those of its tests that can run."""

from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from tests.unit.dbt.logs import data_test, ephemeral, model, seed, unit_test
from tests.unit.plan.story import Story

TESTS = frozenset({RetryReason.ERROR, RetryReason.TESTS_FAILED})


def test_a_node_is_retried_with_its_unit_tests_and_its_tests() -> None:
    run = Story(
        seed("raw"), unit_test("adds", "orders"), model("orders", "seed.shop.raw"), data_test("positive", "orders")
    )
    run["Producer"].builds(orders="error: deadlock", positive="skipped")
    assert run.later(seconds=10) == ["Retry adds orders positive"]
    run["Retry adds orders positive"].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_test_of_several_nodes_runs_with_the_retry_when_the_others_are_done() -> None:
    run = Story(model("orders"), model("stock"), data_test("match", "orders", "stock"))
    run["Producer"].builds(orders="error: deadlock", match="skipped")
    assert run.later(seconds=10) == ["Retry orders match"]


def test_a_test_of_several_nodes_waits_for_those_that_are_not_done() -> None:
    run = Story(model("orders"), model("stock"), data_test("match", "orders", "stock"), limit=2)
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock", match="skipped")
    assert run.later(seconds=10) == ["Retry orders", "Retry stock"]
    run["Retry orders"].builds(orders="error: deadlock")
    run["Retry stock"].builds()
    assert run.later(seconds=20) == ["Retry orders match"]
    run["Retry orders match"].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_a_test_of_two_nodes_that_were_both_mended_runs_after_them() -> None:
    run = Story(model("orders"), model("stock"), data_test("match", "orders", "stock"))
    run["Producer"].builds(orders="error: deadlock", stock="error: deadlock", match="skipped")
    run.later(seconds=10)
    run["Retry orders"].builds()
    run["Retry stock"].builds()
    assert run.next() == ["Resume match"]


def test_a_relationship_test_on_another_node_runs_with_the_node_that_it_waits_for() -> None:
    relationship = data_test("relates", "stock", "orders", attached_node="model.shop.stock")
    run = Story(model("orders"), model("stock"), relationship)
    run["Producer"].builds(orders="error: deadlock", relates="skipped")
    assert run.later(seconds=10) == ["Retry orders relates"]


def test_below_an_ephemeral_model_tests_are_tests_of_what_it_reads() -> None:
    run = Story(model("orders"), ephemeral("clean", "orders"), data_test("positive", "clean"))
    run["Producer"].builds(orders="error: deadlock", positive="skipped")
    assert run.later(seconds=10) == ["Retry orders positive"]


def test_a_node_whose_test_found_rows_is_built_again_with_all_its_tests() -> None:
    tests = [data_test("positive", "orders"), data_test("unique", "orders")]
    run = Story(model("orders"), *tests, model("report", "orders"), reasons=TESTS)
    run["Producer"].builds(positive="fail: Got 3 results", report="skipped")
    assert run.later(seconds=10) == ["Retry orders positive unique"]
    run["Retry orders positive unique"].builds()
    assert run.next() == ["Resume report"]
    run["Resume report"].builds()
    run.next()
    assert run.reason() is RunReason.ALL_SUCCEEDED


def test_a_node_is_built_again_for_its_test_also_before_dbt_has_skipped_what_that_held_back() -> None:
    # dbt skips the report when its turn comes, which is after the stock; until then it is nobody's, and not built.
    nodes = (model("orders"), data_test("positive", "orders"), model("stock"), model("report", "orders", "stock"))
    run = Story(*nodes, reasons=TESTS)
    run["Producer"].starts().reports(orders="success", positive="fail: Got 3 results", stock="running")
    assert run.later(seconds=10) == ["Retry orders positive"]


def test_nor_does_it_matter_that_the_process_which_would_skip_that_may_still_be_alive() -> None:
    nodes = (model("orders"), data_test("positive", "orders"), model("stock"), model("report", "orders", "stock"))
    run = Story(*nodes, reasons=TESTS)
    run["Producer"].starts().reports(orders="success", positive="fail: Got 3 results", stock="running").vanishes()
    assert run.later(seconds=10) == ["Retry orders positive"]


def test_what_a_test_found_does_not_speak_for_what_is_built_again() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("other"), reasons=TESTS)
    run["Producer"].starts().reports(orders="success", positive="fail: Got 3 results", other="running")
    assert run.shows("orders") is NodePhase.FAILED
    run.later(seconds=10)
    run["Retry orders positive"].starts().reports(orders="running")
    assert run.shows("orders") is NodePhase.RUNNING
    run["Retry orders positive"].reports(orders="success")
    tests = run.node("orders").tests
    assert tests is not None
    assert (tests.total, tests.failed) == (1, 0)


def test_by_default_a_test_that_found_rows_fails_the_run_at_once() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("report", "orders"))
    run["Producer"].builds(positive="fail: Got 3 results", report="skipped")
    assert run.later(seconds=600) == []
    assert run.reason() is RunReason.TESTS_FAILED


def test_a_test_that_came_to_no_result_is_run_again_alone() -> None:
    tests = [data_test("positive", "orders"), data_test("unique", "orders")]
    run = Story(model("orders"), *tests, model("report", "orders"), reasons=TESTS)
    run["Producer"].builds(positive="error: Database Error: deadlock", report="skipped")
    assert run.later(seconds=10) == ["Retry positive"]
    run["Retry positive"].builds()
    assert run.next() == ["Resume report"]


def test_a_test_that_keeps_finding_rows_is_given_up_after_the_limit() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("report", "orders"), reasons=TESTS)
    run["Producer"].builds(positive="fail: Got 3 results", report="skipped")
    run.later(seconds=10)
    run["Retry orders positive"].builds(positive="fail: Got 3 results")
    assert run.later(seconds=600) == []
    assert (run.phase(), run.reason()) == (RunPhase.FAILED, RunReason.TESTS_FAILED)
    assert run.shows("report") is NodePhase.SKIPPED


def test_a_model_whose_unit_test_failed_is_built_with_it() -> None:
    run = Story(unit_test("adds", "orders"), model("orders"), model("report", "orders"), reasons=TESTS)
    run["Producer"].builds(adds="fail: actual differs from expected", orders="skipped", report="skipped")
    assert run.later(seconds=10) == ["Retry adds orders"]
    run["Retry adds orders"].builds()
    assert run.next() == ["Resume report"]


def test_two_tests_of_one_node_are_one_retry() -> None:
    tests = [data_test("positive", "orders"), data_test("unique", "orders")]
    run = Story(model("orders"), *tests, reasons=TESTS)
    run["Producer"].builds(positive="fail: Got 3 results", unique="fail: Got 1 result")
    assert run.later(seconds=10) == ["Retry orders positive unique"]


def test_a_failed_node_and_the_failed_test_of_it_are_never_retried_side_by_side() -> None:
    tests = [data_test("positive", "orders"), data_test("unique", "orders")]
    run = Story(model("orders"), *tests, reasons=TESTS)
    run["Producer"].builds(positive="error: deadlock", unique="fail: Got 1 result")
    first = run.later(seconds=10)
    assert len(first) == 1
    run[first[0]].builds()
    second = run.next()
    for label in second:
        run[label].builds()
    run.next()
    assert run.phase() is RunPhase.SUCCEEDED


def test_the_test_of_a_source_is_run_again_alone_as_nobody_here_builds_the_source() -> None:
    source = {"unique_id": "source.shop.raw.events", "name": "events", "resource_type": "source", "selected": False}
    run = Story(source, data_test("fresh", "source.shop.raw.events"), reasons=TESTS)
    run["Producer"].builds(fresh="fail: Got 1 result")
    assert run.later(seconds=10) == ["Retry fresh"]


def test_a_retry_waits_until_the_producer_has_let_go_of_all_that_it_executes() -> None:
    run = Story(model("orders"), data_test("positive", "orders"), model("other"))
    run["Producer"].starts().reports(orders="error: deadlock", other="running")
    assert run.later(seconds=600) == []  # dbt has not said yet that it skips the test
    run["Producer"].reports(positive="skipped")
    assert run.next() == ["Retry orders positive"]


def test_a_node_that_others_were_built_from_is_not_built_again_for_its_test() -> None:
    # Where the report is a view, building the table below it again would drop it.
    relationship = data_test("complete", "orders", "report", attached_node="model.shop.orders")
    run = Story(model("orders"), model("report", "orders"), relationship, reasons=TESTS)
    run["Producer"].builds(complete="fail")
    assert run.later(seconds=10) == ["Retry complete"]
    run["Retry complete"].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_nodes_that_only_their_common_test_has_held_back_others_from_are_both_built_again() -> None:
    run = Story(
        model("orders"),
        model("report", "orders"),
        data_test("match", "orders", "report"),
        model("end", "report"),
        reasons=TESTS,
    )
    run["Producer"].builds(match="fail", end="skipped")
    assert run.later(seconds=10) == ["Retry orders report match"]


def test_a_test_is_run_again_when_any_node_that_it_reads_is_built_again() -> None:
    relationship = data_test("relates", "orders", "stock", attached_node="model.shop.orders")
    own = data_test("positive", "stock")
    run = Story(model("orders"), model("stock"), relationship, own, reasons=TESTS)
    run["Producer"].builds(positive="fail")
    assert run.later(seconds=10) == ["Retry stock relates positive"]


def test_what_was_built_from_a_node_whose_word_was_lost_is_built_again_with_it() -> None:
    # On some warehouses building a table again drops the views that read it, whatever dbt has said of them.
    run = Story(model("orders"), model("report", "orders"), model("end", "report"))
    run["Producer"].starts().reports(report="success", end="running").is_evicted()
    assert run.next() == ["Resume orders report end"]
    assert run.shows("report") is NodePhase.SUCCEEDED  # it is what dbt has said, until it says something else
    run["Resume orders report end"].builds()
    assert run.next() == []
    assert run.phase() is RunPhase.SUCCEEDED


def test_what_was_built_before_that_node_is_built_again_also_when_a_pod_was_lost_in_between() -> None:
    run = Story(model("orders"), model("report", "orders"), model("end", "report"))
    run["Producer"].starts().reports(report="success", end="running").is_evicted()
    run.next()
    run["Resume orders report end"].starts().reports(orders="success").is_evicted()
    assert run.later(seconds=60) == ["Resume report end"]
