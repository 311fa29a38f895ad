"""Which attempt speaks for a node."""

from dbt_operator.api.phases import NodePhase
from dbt_operator.dbt.history import History, Report, history_of
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.dbt.view import node_view
from tests.unit.dbt.logs import RunnerLog, closed, data_test, model

A, B, C, TEST = "model.shop.a", "model.shop.b", "model.shop.c", "test.shop.t"
NODES = (model("a"), model("b", "a"), data_test("t", "a"))


def history_of_logs(*logs: RunnerLog) -> History:
    """All of these attempts but the last one have ended."""
    states = [log.closed for log in logs[:-1]] + [log.state for log in logs[-1:]]
    return History(attempts=tuple(states))


def report(history: History, unique_id: str) -> Report:
    found = history.report(unique_id)
    assert found is not None
    return found


def phases(history: History) -> dict[str, NodePhase]:
    return {one.split(".")[-1]: report(history, one).node.phase for one in history.unique_ids()}


def first() -> RunnerLog:
    """A run in which a failed."""
    return RunnerLog().select(*NODES).run(A, "error", message="boom").end(B, "skipped").end(TEST, "skipped").finish(1)


def retry(*nodes: dict[str, object]) -> RunnerLog:
    return RunnerLog().select(*(nodes or (model("a"),)))


def test_one_attempt_speaks_for_all_of_its_nodes() -> None:
    history = history_of_logs(first())
    assert phases(history) == {"a": NodePhase.FAILED, "b": NodePhase.SKIPPED, "t": NodePhase.SKIPPED}
    assert history_of(history) is history
    assert history_of(history.attempts[0]).report(A) == history.report(A)


def test_a_node_that_nobody_mentioned_has_no_word() -> None:
    assert history_of_logs(first()).report(C) is None
    assert history_of_logs(first(), retry()).report(C) is None


def test_a_later_attempt_speaks_for_a_node_once_it_has_begun_with_it() -> None:
    assert report(history_of_logs(first(), retry()), A).attempt == 0
    assert report(history_of_logs(first(), retry().start(A)), A) == report(
        history_of_logs(first(), retry().start(A)), A
    )
    begun = report(history_of_logs(first(), retry().start(A)), A)
    assert (begun.attempt, begun.node.phase, begun.node.message) == (1, NodePhase.RUNNING, "")


def test_a_later_attempt_says_nothing_of_nodes_that_it_does_not_have() -> None:
    history = history_of_logs(first(), retry().run(A))
    assert phases(history) == {"a": NodePhase.SUCCEEDED, "b": NodePhase.SKIPPED, "t": NodePhase.PENDING}


def test_a_skip_by_a_later_attempt_stands() -> None:
    lost = RunnerLog().select(*NODES).run(A).start(B)
    resumed = retry(model("c"), model("b", "c")).run(C, "error").end(B, "skipped")
    assert report(history_of_logs(lost, resumed), B).node.phase is NodePhase.SKIPPED


def test_the_graph_is_that_of_the_first_attempt_that_came_so_far() -> None:
    graph = history_of_logs(RunnerLog(), first(), retry()).graph
    assert graph is not None
    assert list(graph.nodes) == [A, B, TEST]
    assert history_of_logs(RunnerLog()).graph is None


def test_a_test_is_about_the_last_build_of_its_node() -> None:
    passed = RunnerLog().select(*NODES).run(A).run(TEST, "pass").start(B)
    again = retry(model("a"), data_test("t", "a"))
    assert report(history_of_logs(passed, again), TEST).node.phase is NodePhase.SUCCEEDED
    again.start(A)
    assert report(history_of_logs(passed, again), TEST).node.phase is NodePhase.PENDING
    again.end(A)
    assert report(history_of_logs(passed, again), TEST).node.phase is NodePhase.PENDING
    again.run(TEST, "fail")
    assert report(history_of_logs(passed, again), TEST).node.phase is NodePhase.FAILED


def test_a_node_that_is_skipped_is_not_built_again_and_its_test_still_speaks() -> None:
    passed = RunnerLog().select(*NODES).run(A).run(TEST, "pass").start(B)
    skipped = retry(model("c"), model("a", "c")).run(C, "error").end(A, "skipped")
    assert report(history_of_logs(passed, skipped), TEST).node.phase is NodePhase.SUCCEEDED


def test_a_test_that_runs_again_by_itself_keeps_what_it_found_until_it_has_ended() -> None:
    failed = RunnerLog().select(*NODES).run(A).run(TEST, "fail").end(B, "skipped").finish(1)
    again = retry(data_test("t", "a")).start(TEST)
    assert report(history_of_logs(failed, again), TEST).node.phase is NodePhase.FAILED
    assert report(history_of_logs(failed, again.end(TEST, "pass")), TEST).node.phase is NodePhase.SUCCEEDED


def test_a_test_that_is_stopped_while_it_runs_again_keeps_what_it_found() -> None:
    before = RunnerLog().select(*NODES).run(A).run(TEST, "pass").finish(0)
    again = retry(data_test("t", "a")).start(TEST).add("LogCancelLine", {"conn_name": TEST}).end(TEST, "error")
    stood = report(history_of_logs(before, again), TEST)
    assert (stood.attempt, stood.node.status) == (0, "pass")
    built = retry(model("a"), data_test("t", "a")).run(A).start(TEST)
    stopped = built.add("LogCancelLine", {"conn_name": TEST}).end(TEST, "error")
    assert report(history_of_logs(before, stopped), TEST).node.stopped


def test_what_is_to_be_executed_yet_is_pending_whatever_it_was() -> None:
    states = (first().closed, closed(retry().start(A).lines, ending=Ending.LOST))
    before, after = History(attempts=states), History(attempts=states, pending=frozenset({A}))
    assert node_view(state=before, unique_id=A).phase is NodePhase.FAILED
    view = node_view(state=after, unique_id=A)
    assert (view.phase, view.message, view.started_at, view.relation) == (
        NodePhase.PENDING,
        "",
        None,
        '"db"."main"."a"',
    )


def test_a_node_with_a_green_retry_and_a_test_that_has_not_run_again_is_not_failed() -> None:
    failed = RunnerLog().select(*NODES).run(A).run(TEST, "fail").end(B, "skipped").finish(1)
    again = retry(model("a"), data_test("t", "a")).run(A)
    view = node_view(state=history_of_logs(failed, again), unique_id=A)
    assert view.tests is not None
    assert (view.phase, view.tests.total, view.tests.failed) == (NodePhase.SUCCEEDED, 1, 0)


def test_what_counts_is_the_same_when_the_work_of_a_moment_before_is_used_again() -> None:
    ended, again, later = first().closed, retry(*NODES), retry(model("b", "a"))
    steps = [again.state, again.start(A).state, again.run(A).state, again.run(TEST, "error").state]
    steps += [again.add("LogCancelLine", {"conn_name": TEST}).state, again.closed]
    moments: list[tuple[AttemptState, ...]] = [(ended, step) for step in steps]
    moments += [(ended, steps[-1], later.state), (ended, steps[-1], later.run(B).state), (ended, first().state)]
    moments += [(ended, retry(model("b", "a")).run(B).state), (ended,)]  # somebody has taken an attempt away
    before = History()
    for attempts in moments:
        new, known = History(attempts=attempts), History(attempts=attempts, known=before.reports)
        assert {one: known.report(one) for one in new.unique_ids()} == {
            one: new.report(one) for one in new.unique_ids()
        }
        assert {one: known.begun(one) for one in (A, B, TEST)} == {one: new.begun(one) for one in (A, B, TEST)}
        before = known
