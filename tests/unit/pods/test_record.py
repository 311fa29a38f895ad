"""The records that a run keeps its memory in: what is written is what is read, and nothing of it is lost."""

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_operator.api.commands import Stage
from dbt_operator.api.phases import AttemptKind, RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import close, fold_lines
from dbt_operator.dbt.state import EMPTY, Ending
from dbt_operator.dbt.stored import encode
from dbt_operator.dbt.view import node_views
from dbt_operator.plan.attempt import (
    Assessment,
    Checkpoint,
    Decision,
    Left,
    Life,
    PodChoice,
    Recorded,
    Release,
    Request,
    Sealed,
)
from dbt_operator.plan.outcome import Outcome
from dbt_operator.pods.record import (
    STATE_FILE,
    attempt_record,
    checkpointing,
    parse_record,
    releasing,
    room_for_state,
    same_decision,
    sealing,
)
from tests.unit.plan import lines
from tests.unit.plan.given import known
from tests.unit.plan.lines import MODEL, SEED
from tests.unit.pods.test_pod_template import RUN

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)
DECISION = Decision(
    index=2,
    kind=AttemptKind.RETRY,
    name="nightly-retry-nodes-1",
    nodes=frozenset({SEED, MODEL}),
    requests=(Request(token="now", unique_id=SEED), Request(token="all")),  # noqa: S106 - no secret, but a mark
    roots=(SEED,),
    microbatch_end="2026-11-19T17:00:00+00:00",
    left=(Left(MODEL, (("2026-11-18T00:00:00", "2026-11-19T00:00:00"),), incremental=True),),
    continued={MODEL: 1},
    found={"project.commit": "a" * 40},
    stage=Stage.TEST,
    pod=PodChoice((0, 3), resources=(("limits", (("memory", "4Gi"),)), ("requests", (("cpu", "1"),)))),
)
STATE = fold_lines(state=EMPTY, lines=lines.RED_LOG)


def recorded(decision: Decision = DECISION) -> dict[str, Any]:
    return attempt_record(run=RUN, decision=decision)


def merged(record: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    annotations = record["metadata"]["annotations"] | patch["metadata"]["annotations"]
    files = record.get("binaryData", {}) | patch.get("binaryData", {})
    return record | {"metadata": record["metadata"] | {"annotations": annotations}, "binaryData": files}


@pytest.mark.parametrize(
    "decision",
    [
        DECISION,
        replace(DECISION, requests=(), roots=None),
        Decision(index=2, kind=AttemptKind.PRODUCER, name="p-2", began_in=1),
        replace(DECISION, billed=10**12),
    ],
)
def test_a_decision_is_read_as_it_was_made(decision: Decision) -> None:
    assert parse_record(recorded(decision)) == Recorded(decision)


def test_how_an_attempt_ended_is_read_as_it_was_sealed() -> None:
    state = close(state=STATE, ending=Ending.COMPLETED)
    outcome = Outcome(phase=RunPhase.FAILED, reason=RunReason.NODES_FAILED, message="1 of 2 nodes failed.")
    attempt = known(DECISION, began=NOW)
    assessment = Assessment(attempt, Life.ENDED, outcome.reason, outcome.message, outcome, state)
    sealed = Sealed.of(assessment, now=NOW)
    patch = sealing(sealed, DECISION, version="7")
    said = parse_record(merged(recorded(), patch))
    assert (said.decision, said.release) == (DECISION, None)
    assert said.sealed is not None
    read = said.sealed
    assert (read.outcome, read.ended_at, read.gone, read.started) == (outcome, NOW, sealed.gone, NOW)
    assert node_views(state=read.state) == node_views(state=state)
    assert patch["metadata"]["resourceVersion"] == "7"  # another controller may have sealed it meanwhile


def test_which_pod_was_released_is_read_as_it_was_stored() -> None:
    release = Release(pod="0b5c", at=NOW)
    patch = releasing(release, version="7")
    assert parse_record(merged(recorded(), patch)) == Recorded(DECISION, release=release)
    assert patch["metadata"]["resourceVersion"] == "7"  # another controller may have released another one meanwhile
    assert parse_record(attempt_record(run=RUN, decision=DECISION, release=release)).release == release


def test_what_an_attempt_decides_on_besides_its_nodes_is_read_as_it_was_stored() -> None:
    decision = replace(DECISION, decides_on=frozenset({SEED}))
    assert parse_record(recorded(decision)).decision == decision


def test_two_controllers_that_decide_differently_are_told_apart() -> None:
    other = replace(DECISION, nodes=frozenset({SEED}))
    assert same_decision(recorded(), recorded())
    assert not same_decision(recorded(), recorded(other))
    assert not same_decision(recorded(), recorded(replace(DECISION, decides_on=frozenset({SEED}))))
    assert recorded()["metadata"]["name"] == recorded(other)["metadata"]["name"]  # only one of them can be created


OUTCOME = Outcome(phase=RunPhase.FAILED, reason=RunReason.NODES_FAILED, message="1 of 2 nodes failed.")


def sealed() -> dict[str, Any]:
    """A record of an attempt that has ended."""
    state = close(state=STATE, ending=Ending.COMPLETED)
    attempt = known(DECISION, began=NOW)
    assessment = Assessment(attempt, Life.ENDED, OUTCOME.reason, OUTCOME.message, OUTCOME, state)
    return merged(recorded(), sealing(Sealed.of(assessment, now=NOW), DECISION, version="7"))


def rewritten(record: dict[str, Any], annotation: str, **changes: Any) -> dict[str, Any]:
    """The record with something else in an annotation."""
    name = f"dbt-operator.io/{annotation}"
    said = json.loads(record["metadata"]["annotations"][name]) | changes
    return merged(record, {"metadata": {"annotations": {name: json.dumps(said)}}})


def repacked(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The record with something else in the state of the attempt."""
    document = json.loads(gzip.decompress(base64.b64decode(record["binaryData"]["state.json.gz"]))) | changes
    packed = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    return record | {"binaryData": record["binaryData"] | {"state.json.gz": packed}}


def with_checkpoint() -> dict[str, Any]:
    """A record of an attempt whose log is being read."""
    return merged(recorded(), checkpointing(encode(STATE), position=NOW, version="7"))


def test_how_far_a_log_was_read_is_read_as_it_was_stored_until_the_attempt_has_ended() -> None:
    assert parse_record(with_checkpoint()) == Recorded(DECISION, checkpoint=Checkpoint(STATE, NOW))
    patch = checkpointing(encode(STATE), position=None, version="7")
    assert patch["metadata"]["resourceVersion"] == "7"  # another controller may have read more
    assert parse_record(merged(with_checkpoint(), sealed())) == parse_record(sealed())


def test_a_checkpoint_that_cannot_be_read_is_none() -> None:
    """The log is read from its beginning then; of a version that came later, too, so that one can go back."""
    damaged = {"metadata": {"annotations": {}}, "binaryData": {STATE_FILE: "AAAA"}}
    for record in (merged(with_checkpoint(), damaged), repacked(with_checkpoint(), format=3)):
        assert parse_record(record) == Recorded(DECISION)


def test_an_end_of_which_a_later_version_has_another_word_is_an_end() -> None:
    before = parse_record(sealed()).sealed
    assert before is not None
    said = parse_record(rewritten(sealed(), "end", reason="Odd", phase="Odd", later={"more": 1})).sealed
    assert said is not None
    assert (said.outcome.phase, said.outcome.reason.value, said.outcome.message) == (
        RunPhase.FAILED,
        "Odd",
        OUTCOME.message,
    )
    assert not said.outcome.reason.known
    assert (said.state, said.ended_at, said.gone) == (before.state, before.ended_at, before.gone)


def test_an_attempt_of_a_kind_that_a_later_version_has_added_is_not_executed_and_its_end_stands() -> None:
    with pytest.raises(ValueError, match=r"nightly-attempt-2 was written by a later version .* install that version"):
        parse_record(rewritten(recorded(), "decision", kind="Listing"))
    said = parse_record(rewritten(sealed(), "decision", kind="Listing"))
    assert (said.decision, said.sealed) == (replace(DECISION, kind=AttemptKind.RESUME), parse_record(sealed()).sealed)


@pytest.mark.parametrize(
    "changes", [{"format": 2}, {"format": 2, "nodes": 7}, {"state": {"closed": {"ending": "Odd"}}}]
)
def test_what_a_later_version_has_stored_of_an_attempt_is_not_taken_for_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"nightly-attempt-2 was written by a later version"):
        parse_record(repacked(sealed(), **changes))


def test_a_record_is_read_without_its_labels() -> None:
    record = sealed()
    record["metadata"]["labels"] = {}
    assert parse_record(record) == parse_record(sealed())
    del record["metadata"]["labels"]
    assert parse_record(record).decision.index == DECISION.index


@pytest.mark.parametrize("annotation", ["decision", "end", "released-pod"])
def test_a_record_that_somebody_has_changed_is_refused_by_name(annotation: str) -> None:
    broken = merged(sealed(), {"metadata": {"annotations": {f"dbt-operator.io/{annotation}": "nonsense"}}})
    with pytest.raises(ValueError, match=r"nightly-attempt-2 does not hold the record .* Delete it"):
        parse_record(broken)


@pytest.mark.parametrize("file", ["nodes.json.gz", "state.json.gz"])
@pytest.mark.parametrize("content", ["", "!", "AAAA", "H4sIAAAAAAAA/w=="])
def test_a_file_of_a_record_that_somebody_has_changed_is_refused_by_name(file: str, content: str) -> None:
    broken = sealed()
    broken["binaryData"] = broken["binaryData"] | {file: content}
    with pytest.raises(ValueError, match=r"nightly-attempt-2 does not hold the record .* Delete it"):
        parse_record(broken)


def test_a_record_without_its_decision_is_refused_by_name() -> None:
    broken = recorded()
    broken["metadata"]["annotations"] = {}
    with pytest.raises(ValueError, match="nightly-attempt-2"):
        parse_record(broken)


def test_a_state_has_the_room_that_the_list_of_nodes_leaves() -> None:
    many = frozenset(f"model.shop.{hashlib.sha256(bytes([n % 256, n // 256])).hexdigest()}" for n in range(10_000))
    manifest = attempt_record(run=RUN, decision=replace(DECISION, nodes=many))
    listed = sum(len(base64.b64decode(each)) for each in manifest["binaryData"].values())
    room = room_for_state(replace(DECISION, nodes=many))
    assert listed > 300 * 1024
    assert 1000 * 1024 - 4 < listed + room <= 1000 * 1024
    assert room_for_state(replace(DECISION, nodes=None)) == 1000 * 1024
