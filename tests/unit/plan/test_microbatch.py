"""Microbatch models in later attempts: the batches of the run's first one, and of them what is left."""

from dbt_operator.api.spec import RetryReason
from dbt_operator.plan.attempt import Left
from tests.unit.dbt.logs import data_test, model
from tests.unit.plan.story import Dbt, Story

DAYS = "model.shop.days"
BEGIN, FIRST, SECOND, THIRD, END = (f"2026-11-{day}T00:00:00+00:00" for day in (16, 17, 18, 19, 20))
NOW = "2026-11-19T23:59:59+00:00"
ALL, FAILED, FEWER = ((BEGIN, END),), ((FIRST, SECOND), (THIRD, END)), ((THIRD, END),)


def _run() -> Story:
    return Story(model("days"), model("report", "days"), reasons=frozenset(RetryReason), limit=3)


def _tells(dbt: Dbt, **data: object) -> Dbt:
    said = {"unique_id": DAYS, **data} if "end" not in data else data
    dbt.log.add("Microbatch", said, at=dbt.run.now)
    return dbt


def _partial(dbt: Dbt, left: object, *, status: str = "partial success") -> Dbt:
    _tells(dbt, left=left)
    rest = {"report": "skipped"} if dbt.decision.nodes is None else {}
    return dbt.reports(days=status, **rest).ends()


def _first(run: Story) -> Dbt:
    return _tells(_tells(run["Producer"].starts(), end=NOW), window=ALL)


def _decided(run: Story) -> tuple[str | None, tuple[Left, ...]]:
    decision = run.attempts[-1].decision
    return decision.microbatch_end, decision.left


def test_only_the_failed_batches_are_retried_and_then_only_those_that_failed_again() -> None:
    run = _run()
    _partial(_first(run), FAILED)
    assert run.later(seconds=86_400) == ["Retry days"]
    assert _decided(run) == (NOW, (Left(DAYS, FAILED, incremental=True),))
    _partial(_tells(run["Retry days"].starts(), window=FAILED), FEWER)
    assert run.later(seconds=86_400) == ["Retry days"]
    assert _decided(run) == (NOW, (Left(DAYS, FEWER, incremental=True),))
    _partial(_tells(run["Retry days"].starts(), window=FEWER), FEWER, status="error")
    assert run.later(seconds=86_400) == ["Retry days"]
    assert _decided(run) == (NOW, (Left(DAYS, FEWER, incremental=True),))


def test_a_model_that_has_failed_altogether_or_was_cut_off_is_executed_altogether() -> None:
    run = _run()
    _first(run).reports(days="error", report="skipped").ends()
    assert run.later(seconds=86_400) == ["Retry days"]
    assert _decided(run) == (NOW, (Left(DAYS, ALL, incremental=False),))
    run = _run()
    _first(run).reports(days="running").is_killed()
    assert run.later(seconds=86_400) == ["Resume days report"]
    assert _decided(run) == (NOW, (Left(DAYS, ALL, incremental=False),))


def test_a_retry_of_what_was_left_that_is_lost_leaves_the_same() -> None:
    run = _run()
    _partial(_first(run), FAILED)
    run.later(seconds=60)
    _tells(run["Retry days"].starts(), window=FAILED).reports(days="running").is_killed()
    run.later(seconds=86_400)
    assert _decided(run) == (NOW, (Left(DAYS, FAILED, incremental=True),))


def test_a_model_that_is_built_again_for_a_test_of_it_is_built_altogether() -> None:
    run = Story(model("days"), data_test("positive", "days"), reasons=frozenset(RetryReason), limit=3)
    _tells(_first(run), left=FAILED).reports(days="partial success", positive="skipped").ends()
    assert run.later(seconds=60) == ["Retry days positive"]
    _tells(run.attempts[-1].starts(), window=FAILED).reports(days="success", positive="fail").ends()
    assert run.later(seconds=60) == ["Retry days positive"]
    assert _decided(run) == (NOW, (Left(DAYS, ALL, incremental=False),))


def test_what_had_not_begun_is_executed_until_the_same_time() -> None:
    run = _run()
    _tells(run["Producer"].starts(), end=NOW).is_killed()
    run.later(seconds=86_400)
    assert _decided(run) == (NOW, ())


def test_the_first_attempt_whose_dbt_came_so_far_says_until_when() -> None:
    run = _run()
    run["Producer"].starts(loaded=False).is_killed()
    run.later(seconds=86_400)
    assert _decided(run) == (None, ())
    _first(run).reports(days="error", report="skipped").ends()
    run.later(seconds=86_400)
    assert _decided(run) == (NOW, (Left(DAYS, ALL, incremental=False),))


def test_where_that_was_rotated_away_it_is_when_the_container_started() -> None:
    run = _run()
    producer = _first(run).reports(days="error", report="skipped")
    started = run.now
    producer.log.lines = [
        line for line in producer.log.lines if b"SelectedNodes" not in line and b"Microbatch" not in line
    ]
    producer.is_killed()
    run.later(seconds=86_400)
    assert run.attempts[-1] is not producer
    assert _decided(run) == (started.isoformat(), ())
