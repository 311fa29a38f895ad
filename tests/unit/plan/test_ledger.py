"""Where the nodes of a run stand over all its attempts."""

from dataclasses import replace
from datetime import UTC, datetime

from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.api.spec import RetryReason
from dbt_operator.dbt.fold import close
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.plan.attempt import Assessment, Attempt, Decision, Life, Release, history_of_run
from dbt_operator.plan.ledger import Ledger, Standing, ledger_of
from dbt_operator.plan.outcome import Outcome
from dbt_operator.plan.retries import build_of, retry_of
from tests.unit.dbt.logs import RunnerLog, data_test, ephemeral, model, unit_test

A, B, C, TEST = "model.shop.a", "model.shop.b", "model.shop.c", "test.shop.t"


def ended(log: RunnerLog, *, nodes: frozenset[str] | None = None, ending: Ending = Ending.COMPLETED) -> Assessment:
    """An attempt that came to its end by itself, or was lost."""
    reason = RunReason.NODES_FAILED if ending is Ending.COMPLETED else RunReason.POD_LOST
    outcome = Outcome(phase=RunPhase.FAILED, reason=reason, message="")
    return replace(
        live(log, nodes=nodes, state=close(state=log.state, ending=ending)), life=Life.ENDED, outcome=outcome
    )


def live(log: RunnerLog, *, nodes: frozenset[str] | None = None, state: AttemptState | None = None) -> Assessment:
    """An attempt at work."""
    kind = AttemptKind.PRODUCER if nodes is None else AttemptKind.RETRY
    attempt = Attempt(decision=Decision(index=1, kind=kind, name="x", nodes=nodes))
    return Assessment(attempt, Life.RUNNING, RunReason.EXECUTING, "", state=state or log.state)


def ledger(*assessments: Assessment, since: int = 0) -> Ledger:
    found = ledger_of(assessments=assessments, history=history_of_run(assessments), since=since)
    assert found is not None
    return found


def standings(*assessments: Assessment) -> dict[str, Standing]:
    return {one.split(".")[-1]: standing for one, standing in ledger(*assessments).standings.items()}


def chain() -> RunnerLog:
    """The beginning of a run of a, b below it, and c alone."""
    return RunnerLog().select(model("a"), model("b", "a"), model("c"))


def test_nothing_is_known_before_dbt_has_said_what_is_selected() -> None:
    silent = [live(RunnerLog())]
    assert ledger_of(assessments=silent, history=history_of_run(silent), since=0) is None


def test_a_live_attempt_has_all_that_it_has_not_brought_to_an_end() -> None:
    log = chain().end(A).start(C)
    assert standings(live(log)) == {"a": Standing.DONE, "b": Standing.BUSY, "c": Standing.BUSY}


def test_what_a_lost_attempt_left_is_open() -> None:
    log = chain().end(A).start(C)
    expected = {"a": Standing.DONE, "b": Standing.OPEN, "c": Standing.OPEN}
    assert standings(ended(log, ending=Ending.LOST)) == expected


def test_what_was_to_be_executed_again_is_open_where_nobody_heard_whether_it_was_begun() -> None:
    before = ended(chain().end(A).end(B).end(C).finish())
    again = RunnerLog().select(model("a"), model("b", "a"))
    silent = ended(again, nodes=frozenset({A, B}), ending=Ending.LOST)
    with_a_process = replace(silent, attempt=replace(silent.attempt, release=Release(pod="uid", at=datetime.now(UTC))))
    assert standings(before, with_a_process) == {"a": Standing.OPEN, "b": Standing.OPEN, "c": Standing.DONE}
    done = {"a": Standing.DONE, "b": Standing.DONE, "c": Standing.DONE}
    assert standings(before, silent) == done  # it never had one
    reported = replace(with_a_process, state=close(state=again.finish(2, cancelled=True).state, ending=Ending.LOST))
    assert standings(before, reported) == done  # dbt came to say what it had begun
    later = ended(again.end(A).end(B).finish(), nodes=frozenset({A, B}))
    assert standings(before, with_a_process, later) == done


def test_what_a_failure_blocked_is_blocked_and_what_dbt_never_spoke_of_is_unheard() -> None:
    log = chain().end(A, "error").end(B, "skipped").finish(1)
    assert standings(ended(log)) == {"a": Standing.FAILED, "b": Standing.BLOCKED, "c": Standing.UNREPORTED}


def test_an_attempt_has_only_the_nodes_of_its_decision() -> None:
    first = ended(chain().end(A, "error").end(B, "skipped").end(C).finish(1))
    retry = live(RunnerLog().select(model("a")), nodes=frozenset({A}))
    assert standings(first, retry) == {"a": Standing.BUSY, "b": Standing.BLOCKED, "c": Standing.DONE}


def test_a_query_that_was_cancelled_is_no_failure() -> None:
    log = chain().start(A).add("LogCancelLine", {"conn_name": A}).end(A, "error")
    assert standings(ended(log, ending=Ending.CANCELLED))["a"] is Standing.OPEN


def test_what_fails_after_the_wish_to_stop_is_taken_up_again() -> None:
    log = chain().start(A).add("CancelRequested", {"signal": "SIGTERM"}).end(A, "error")
    assert standings(ended(log, ending=Ending.CANCELLED))["a"] is Standing.OPEN


def test_unselected_nodes_have_no_standing() -> None:
    log = RunnerLog().select(model("a"), model("u", selected=False))
    assert standings(live(log)) == {"a": Standing.BUSY}


def test_an_ephemeral_model_is_done_where_something_that_contains_it_has_begun() -> None:
    nodes = (ephemeral("e"), model("a", "e"), model("b"))
    log = RunnerLog().select(*nodes).end(A, "success").end("model.shop.b", "error", message="boom").finish(1)
    assert standings(ended(log))["e"] is Standing.DONE
    lost = RunnerLog().select(*nodes).end("model.shop.b", "success")
    assert standings(ended(lost, ending=Ending.LOST))["e"] is Standing.OPEN


def test_failures_are_counted_within_the_episode() -> None:
    first = ended(chain().end(A, "error", message="one").finish(1))
    second = ended(RunnerLog().select(model("a")).end(A, "error", message="two").finish(1), nodes=frozenset({A}))
    assert ledger(first, second).failures[A].count == 2
    assert ledger(first, second, since=1).failures[A].count == 1
    assert ledger(first, second, since=2).failures[A].count == 0


def test_the_kind_of_a_failure_is_that_of_the_last_word() -> None:
    nodes = (model("a"), data_test("t", "a"))
    kinds = {
        "error": ("error", "Database Error", RetryReason.ERROR),
        "compile": ("error", "Compilation Error in model a", RetryReason.COMPILE_ERROR),
        "partial": ("partial success", "", RetryReason.PARTIAL_SUCCESS),
    }
    for status, message, kind in kinds.values():
        log = RunnerLog().select(*nodes).end(A, status, message=message).finish(1)
        assert ledger(ended(log)).failures[A].kind is kind
    for status, kind in (("fail", RetryReason.TESTS_FAILED), ("error", RetryReason.ERROR)):
        log = RunnerLog().select(*nodes).end(A).end(TEST, status, message="Got 3 results").finish(1)
        assert ledger(ended(log)).failures[TEST].kind is kind


def test_the_part_that_one_attempt_can_execute_is_closed_under_what_it_needs() -> None:
    nodes = (model("a"), model("b", "a"), model("c", "b"), model("d"))
    log = RunnerLog().select(*nodes).end(A, "error").end(B, "skipped").end(C, "skipped").finish(1)
    found = ledger(ended(log))
    assert found.ready([B, C]) == frozenset()
    assert found.ready([A, B, C]) == {A, B, C}
    assert found.ready([A, C]) == {A}


def test_a_retry_takes_the_unit_tests_and_only_those_tests_that_can_run() -> None:
    nodes = (model("a"), model("b"), unit_test("u", "a"), data_test("t", "a"), data_test("both", "a", "b"))
    log = RunnerLog().select(*nodes).end(A, "error").end(B, "error").finish(1)
    assert build_of(ledger(ended(log)), [A]) == {A, "unit_test.shop.a.u", TEST}
    assert build_of(ledger(ended(log)), [A, B]) == {A, B, "unit_test.shop.a.u", TEST, "test.shop.both"}


def test_a_failed_test_of_two_nodes_builds_both_again() -> None:
    log = RunnerLog().select(model("a"), model("b"), data_test("t", "a", "b"), data_test("own", "b"))
    log.end(A).end(B).end("test.shop.own", "pass").end(TEST, "fail").finish(1)
    key, nodes = retry_of(ledger(ended(log)), TEST)
    assert key in (A, B)
    assert nodes == {A, B, TEST, "test.shop.own"}


def test_what_a_test_had_found_does_not_stand_after_its_node_was_built_again() -> None:
    nodes = (model("a"), data_test("t", "a"))
    first = ended(RunnerLog().select(*nodes).end(A).end(TEST, "fail").finish(1))
    again = RunnerLog().select(*nodes).end(A)
    assert standings(first, live(again, nodes=frozenset({A, TEST})))["t"] is Standing.BUSY
    lost = ended(again, nodes=frozenset({A, TEST}), ending=Ending.LOST)
    assert standings(first, lost)["t"] is Standing.OPEN


def test_a_graph_of_a_later_attempt_is_a_part_of_the_first_one() -> None:
    first = ended(chain().end(A, "error").end(B, "skipped").end(C).finish(1))
    retry = ended(RunnerLog().select(model("a")).end(A).finish(), nodes=frozenset({A}))
    assert list(ledger(first, retry).standings) == [A, B, C]
    assert standings(first, retry) == {"a": Standing.DONE, "b": Standing.BLOCKED, "c": Standing.DONE}
