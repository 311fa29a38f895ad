"""The log of a run's decisions, kept by a real API server: decided once, sealed once, read by whoever comes next."""

import asyncio
import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dbt_operator.api.names import attempt_record_name
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.state import EMPTY, Ending
from dbt_operator.dbt.view import node_views
from dbt_operator.kube.client import Client, NameConflictError
from dbt_operator.kube.resources import CONFIG_MAPS
from dbt_operator.plan.attempt import Assessment, Attempt, Checkpoint, Decision, Life, Recorded, Request
from dbt_operator.plan.outcome import Outcome
from dbt_operator.pods.record import room_for_state
from dbt_operator.pods.run import RunRef
from dbt_operator.reconcile.backend import UnreadableRecordError
from dbt_operator.reconcile.records import Records
from tests.contract.backends import backend_of
from tests.unit.plan import lines
from tests.unit.plan.given import NOW, POD
from tests.unit.plan.lines import MODEL, SEED

PRODUCER = Decision(index=1, kind=AttemptKind.PRODUCER, name="nightly-producer-1")
RETRY = Decision(
    index=2,
    kind=AttemptKind.RETRY,
    name="nightly-retry-nodes-1",
    nodes=frozenset({SEED, MODEL}),
    requests=(Request(token="now", unique_id=SEED),),  # noqa: S106 - no secret, but a mark
)
ANOTHER = replace(POD, name="nightly-producer-1-fghij", uid="another")
FAILED = Outcome(phase=RunPhase.FAILED, reason=RunReason.NODES_FAILED, message="1 of 2 nodes failed.")
LOST = Outcome(phase=RunPhase.FAILED, reason=RunReason.POD_LOST, message="The pod ended before dbt did.")


def ended(decision: Decision, outcome: Outcome) -> Assessment:
    """The attempt of a decision at its end."""
    state = close(state=fold_lines(state=EMPTY, lines=lines.RED_LOG), ending=Ending.COMPLETED)
    attempt = Attempt(decision=decision)
    return Assessment(attempt, Life.ENDED, outcome.reason, outcome.message, outcome, state)


def outcome(record: Recorded) -> Outcome | None:
    """How the attempt ended, if that is stored."""
    return record.sealed.outcome if record.sealed is not None else None


async def read(run: RunRef, client: Client) -> Records:
    """The records as a controller reads them that has just been started."""
    records = Records(backend_of(run, client))
    await records.refresh()
    return records


async def test_what_was_decided_and_sealed_is_known_to_the_next_controller(run: RunRef, client: Client) -> None:
    before = await read(run, client)
    assert before.all() == []
    assert await before.record(PRODUCER)
    assert await before.record(RETRY)
    await before.seal(ended(PRODUCER, FAILED))
    producer, retry = (await read(run, client)).all()
    assert (producer.decision, retry) == (PRODUCER, Recorded(RETRY))
    assert outcome(producer) == FAILED
    assert producer.sealed is not None
    assert node_views(state=producer.sealed.state) == node_views(state=ended(PRODUCER, FAILED).state)


def read_so_far(*log: bytes) -> Checkpoint:
    """The checkpoint of an attempt that has said this."""
    return Checkpoint(fold_lines(state=EMPTY, lines=log), NOW)


async def test_how_far_a_log_was_read_is_known_to_the_next_controller(run: RunRef, client: Client) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    await records.release(1, POD)
    for log in (lines.GRAPH, lines.EXECUTING):
        await records.checkpoint(1, read_so_far(*log))
    (record,) = (await read(run, client)).all()
    assert record.checkpoint == read_so_far(*lines.EXECUTING)
    assert record.release is not None
    assert await records.seal(ended(PRODUCER, FAILED))
    (record,) = (await read(run, client)).all()
    assert (record.checkpoint, outcome(record)) == (None, FAILED)


async def test_a_checkpoint_of_another_controller_is_read_and_not_overwritten(run: RunRef, client: Client) -> None:
    late = await read(run, client)
    await late.record(PRODUCER)
    other = await read(run, client)
    await other.checkpoint(1, read_so_far(*lines.EXECUTING))
    await late.checkpoint(1, read_so_far(*lines.GRAPH))
    assert (
        late.all() == (await read(run, client)).all() == [Recorded(PRODUCER, checkpoint=read_so_far(*lines.EXECUTING))]
    )
    await other.seal(ended(PRODUCER, FAILED))
    await late.checkpoint(1, read_so_far(*lines.GREEN_LOG))  # it has ended, whatever it says
    assert outcome(late.all()[0]) == outcome((await read(run, client)).all()[0]) == FAILED


async def test_a_checkpoint_that_does_not_fit_is_not_stored(run: RunRef, client: Client) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    noise = (random.Random(number).randbytes(600).hex() for number in range(2500))  # noqa: S311 - the same each time
    failed = [lines.result(6, f"model.shop.m{number}", "error", text) for number, text in enumerate(noise)]
    checkpoint = read_so_far(*lines.GRAPH, *failed)
    assert await records.checkpoint(1, checkpoint) > room_for_state(PRODUCER)
    assert records.all() == (await read(run, client)).all() == [Recorded(PRODUCER)]


@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
async def test_a_record_is_full_and_is_taken(run: RunRef, client: Client) -> None:
    noise = random.Random(1)  # noqa: S311 - the same each time
    many = replace(RETRY, index=1, nodes=frozenset(f"model.shop.{noise.randbytes(20).hex()}" for _ in range(20_000)))
    records = await read(run, client)
    assert await records.record(many)
    said = [lines.result(6, f"model.shop.m{n}", "error", noise.randbytes(600).hex()) for n in range(2500)]
    state = close(state=fold_lines(state=EMPTY, lines=[*lines.GRAPH, *said]), ending=Ending.COMPLETED)
    assert await records.seal(replace(ended(many, FAILED), state=state))
    (again,) = (await read(run, client)).all()
    assert (again.decision.nodes, outcome(again)) == (many.nodes, FAILED)
    assert again.sealed is not None
    assert again.sealed.state.failures == state.failures


async def test_of_a_run_that_has_ended_the_end_is_read_that_another_controller_has_stored(
    run: RunRef, client: Client
) -> None:
    late = await read(run, client)
    assert await late.record(PRODUCER)
    await (await read(run, client)).seal(ended(PRODUCER, FAILED))
    await late.refresh()
    assert late.all() == [Recorded(PRODUCER)]
    await late.refresh(ended=True)
    (record,) = late.all()
    assert outcome(record) == FAILED


async def test_before_something_is_decided_the_ends_are_read_that_another_controller_has_stored(
    run: RunRef, client: Client
) -> None:
    late = await read(run, client)
    assert await late.record(PRODUCER)
    assert not await late.ended_elsewhere()
    await (await read(run, client)).seal(ended(PRODUCER, FAILED))
    assert await late.ended_elsewhere()
    (record,) = late.all()
    assert outcome(record) == FAILED
    assert not await late.ended_elsewhere()


async def test_a_decision_that_another_controller_has_stored_is_known_with_its_end(run: RunRef, client: Client) -> None:
    late = await read(run, client)
    first = await read(run, client)
    assert await first.record(PRODUCER)
    await first.seal(ended(PRODUCER, FAILED))
    assert await late.record(PRODUCER)
    (record,) = late.all()
    assert outcome(record) == FAILED  # or else it would be sealed a second time, in other words


async def test_of_two_controllers_only_one_decides(run: RunRef, client: Client) -> None:
    resume = replace(RETRY, index=1, kind=AttemptKind.RESUME, name="nightly-resume-1", requests=())
    both = [await read(run, client), await read(run, client)]
    decided = await asyncio.gather(both[0].record(PRODUCER), both[1].record(resume))
    assert sorted(decided) == [False, True]
    for records in both:
        await records.refresh()
    assert both[0].all() == both[1].all() == [Recorded(PRODUCER if decided[0] else resume)]


async def test_a_decision_whose_answer_was_lost_is_taken_once(run: RunRef, client: Client) -> None:
    assert await (await read(run, client)).record(PRODUCER)
    again = Records(backend_of(run, client))  # it has not read what is there
    assert await again.record(PRODUCER)
    assert again.all() == [Recorded(PRODUCER)]


async def test_an_attempt_is_sealed_once(run: RunRef, client: Client) -> None:
    first = await read(run, client)
    await first.record(PRODUCER)
    second = await read(run, client)
    assert await first.seal(ended(PRODUCER, FAILED))
    assert not await second.seal(ended(PRODUCER, LOST))  # it has not seen that the first one was quicker
    for records in (first, second, await read(run, client)):
        (record,) = records.all()
        assert outcome(record) == FAILED


async def test_of_two_controllers_only_one_releases_a_pod(run: RunRef, client: Client) -> None:
    await (await read(run, client)).record(PRODUCER)
    both = [await read(run, client), await read(run, client)]
    released = await asyncio.gather(*(one.release(1, pod) for one, pod in zip(both, (POD, ANOTHER), strict=True)))
    assert sorted(released) == [False, True]
    chosen = POD if released[0] else ANOTHER
    for records in (*both, await read(run, client)):
        (record,) = records.all()
        assert record.release is not None
        assert record.release.pod == chosen.uid


async def test_no_pod_is_released_of_an_attempt_that_has_ended(run: RunRef, client: Client) -> None:
    late = await read(run, client)
    await late.record(PRODUCER)
    await (await read(run, client)).seal(ended(PRODUCER, FAILED))
    assert not await late.release(1, POD)
    (record,) = late.all()
    assert (record.release, outcome(record)) == (None, FAILED)


async def test_no_attempt_ends_unseen_whose_pod_was_released_meanwhile(run: RunRef, client: Client) -> None:
    late = await read(run, client)
    await late.record(PRODUCER)
    assert await (await read(run, client)).release(1, POD)
    assert not await late.seal(ended(PRODUCER, LOST))  # as if it had never had a process
    (record,) = late.all()
    assert (record.release is not None, outcome(record)) == (True, None)
    assert await late.seal(ended(PRODUCER, LOST))
    assert outcome(late.all()[0]) == LOST


async def test_a_record_that_is_written_again_still_tells_which_pod_was_released(run: RunRef, client: Client) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    await records.release(1, POD)
    await client.delete(resource=CONFIG_MAPS, namespace=run.namespace, name=attempt_record_name(run.name, index=1))
    await records.seal(ended(PRODUCER, FAILED))
    (record,) = (await read(run, client)).all()
    assert record.release is not None
    assert record.release.pod == POD.uid


async def test_an_end_whose_answer_was_lost_is_known_before_anything_else_is_planned(
    run: RunRef, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    patch = client.patch

    async def unanswered(**request: Any) -> None:
        await patch(**request)
        raise ConnectionResetError

    monkeypatch.setattr(client, "patch", unanswered)
    with pytest.raises(ConnectionResetError):
        await records.seal(ended(PRODUCER, FAILED))
    await records.refresh()
    (record,) = records.all()
    assert outcome(record) == FAILED  # or else it would be planned as if the attempt were still alive


async def test_a_record_that_somebody_has_deleted_is_written_again(run: RunRef, client: Client) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    name = attempt_record_name(run.name, index=1)
    await client.delete(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
    await records.seal(ended(PRODUCER, FAILED))
    assert (await read(run, client)).all() == [Recorded(PRODUCER)]
    await records.seal(ended(PRODUCER, FAILED))
    (record,) = (await read(run, client)).all()
    assert outcome(record) == FAILED


async def test_a_record_that_somebody_has_changed_is_named_and_left_alone(run: RunRef, client: Client) -> None:
    records = await read(run, client)
    await records.record(PRODUCER)
    name = attempt_record_name(run.name, index=1)
    nonsense = {"metadata": {"annotations": {"dbt-operator.io/decision": "producer"}}}
    await client.patch(resource=CONFIG_MAPS, namespace=run.namespace, name=name, patch=nonsense)
    for write in (partial(records.seal, ended(PRODUCER, FAILED)), partial(records.release, 1, POD)):
        with pytest.raises(UnreadableRecordError, match=name):
            await write()
    with pytest.raises(UnreadableRecordError, match=name):
        await read(run, client)  # on what the others say alone nothing may be decided
    await client.delete(resource=CONFIG_MAPS, namespace=run.namespace, name=name)
    await records.seal(ended(PRODUCER, FAILED))  # writes it again
    await records.seal(ended(PRODUCER, FAILED))
    assert outcome((await read(run, client)).all()[0]) == FAILED


async def test_an_object_of_somebody_elses_is_no_record_and_is_left_alone(run: RunRef, client: Client) -> None:
    name = attempt_record_name(run.name, index=1)
    theirs = {"metadata": {"name": name, "namespace": run.namespace}, "data": {"a": "1"}}
    await client.create(resource=CONFIG_MAPS, manifest=theirs)
    records = await read(run, client)
    assert records.all() == []
    with pytest.raises(NameConflictError, match=name) as conflict:
        await records.record(PRODUCER)
    assert not conflict.value.stale
    assert (await client.get(resource=CONFIG_MAPS, namespace=run.namespace, name=name))["data"] == {"a": "1"}
