"""The files that the runner prints in pieces, put together again from whatever lines arrive."""

import base64
import gzip
import hashlib
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_operator.dbt.artifacts import LARGEST, Artifact, Collector
from tests.unit.dbt.logs import RECORDED, RunnerLog, folded, model, recorded

MANIFEST, CACHE = "manifest.json", "partial_parse.msgpack"


def _content(seed: int, size: int = 2000) -> bytes:
    return gzip.compress(random.Random(seed).randbytes(size), mtime=0)  # noqa: S311 - the same bytes in each run


def artifact_lines(name: str, content: bytes, /, *, piece: int = 300, **fields: Any) -> list[bytes]:
    """The events of a file; `fields` replace what they say."""
    pieces = [content[start : start + piece] for start in range(0, len(content), piece)]
    log = RunnerLog()
    for number, data in enumerate(pieces):
        said = {
            "name": name,
            "part": number,
            "parts": len(pieces),
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "data": base64.b64encode(data).decode(),
        }
        log.add("Artifact", {**said, **fields})
    return log.lines[1:]


def _collected(lines: Iterable[bytes]) -> list[Artifact]:
    return Collector().take(lines)


def test_a_file_is_handed_out_with_its_last_piece_and_nothing_of_it_is_kept() -> None:
    content, collector = _content(1), Collector()
    *first, last = artifact_lines(MANIFEST, content)
    assert collector.take(first) == []
    assert collector.held == sum(len(base64.b64decode(json.loads(line)["data"]["data"])) for line in first)
    assert collector.take([last]) == [Artifact(name=MANIFEST, content=content)]
    assert collector.held == 0
    assert collector.take([*first, last]) == []


def test_a_line_may_have_the_time_of_its_arrival_before_it() -> None:
    content = _content(1)
    lines = [b"2026-11-20T17:11:13.219457123Z " + line for line in artifact_lines(CACHE, content)]
    assert _collected(lines) == [Artifact(name=CACHE, content=content)]


_SHUFFLED = st.randoms(use_true_random=False)


@settings(max_examples=50)
@given(_SHUFFLED, st.integers(min_value=3, max_value=700))
def test_pieces_in_any_order_repeated_and_among_other_lines(shuffled: random.Random, piece: int) -> None:
    files = {MANIFEST: _content(1, 1000), CACHE: _content(2, 1500)}
    lines = [line for name, content in files.items() for line in artifact_lines(name, content, piece=piece)]
    lines += [*shuffled.choices(lines, k=5), *recorded("runner_build.jsonl"), b'{"info": {"name": "Artifact"', b"\xff"]
    shuffled.shuffle(lines)
    collector = Collector()
    found = [artifact for line in lines for artifact in collector.take([line])]
    assert len(found) == len(files)
    assert {artifact.name: artifact.content for artifact in found} == files


@settings(max_examples=50)
@given(st.data())
def test_a_gap_is_waited_for(data: st.DataObject) -> None:
    content = _content(1)
    lines, collector = artifact_lines(MANIFEST, content), Collector()
    missing = data.draw(st.sets(st.sampled_from(lines), min_size=1))
    assert collector.take(line for line in lines if line not in missing) == []
    assert collector.take(lines) == [Artifact(name=MANIFEST, content=content)]


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_line_costs_nothing_but_itself(data: st.DataObject) -> None:
    content = _content(1)
    lines, collector = artifact_lines(MANIFEST, content), Collector()
    at = data.draw(st.integers(min_value=0, max_value=len(lines) - 1))
    where = data.draw(st.integers(min_value=0, max_value=len(lines[at]) - 1))
    byte = data.draw(st.integers(min_value=0, max_value=255))
    damaged = lines[at][:where] + bytes([byte]) + lines[at][where + 1 :]
    found = collector.take([*lines[:at], damaged, *lines[at + 1 :]])
    found += collector.take(lines)
    assert found == [Artifact(name=MANIFEST, content=content)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": "!!!!"},
        {"data": "QUJD="},
        {"data": "ä"},
        {"data": ""},
        {"data": None},
        {"data": ["QUJD"]},
        {"part": -1},
        {"part": 7},
        {"part": "first"},
        {"parts": 0},
        {"parts": 10**9},
        {"size": 1},
        {"size": 0},
        {"size": -5},
        {"size": LARGEST + 1},
        {"size": "large"},
        {"sha256": "0" * 64},
        {"sha256": ""},
        {"sha256": "../../etc/passwd"},
        {"name": "graph.gpickle"},
        {"name": None},
    ],
)
def test_pieces_that_cannot_be_true_are_no_file_and_do_not_stand_in_its_way(wrong: dict[str, Any]) -> None:
    content, collector = _content(1), Collector()
    assert collector.take(artifact_lines(MANIFEST, content, **wrong)) == []
    assert collector.take(artifact_lines(MANIFEST, content)) == [Artifact(name=MANIFEST, content=content)]


def test_a_line_without_a_sequence_number_was_printed_by_somebody_else() -> None:
    content = _content(1)
    forged = [json.dumps({**json.loads(line), "seq": None}).encode() for line in artifact_lines(MANIFEST, content)]
    assert _collected(forged) == []
    others = [json.dumps({**json.loads(line), "seq": None}).encode() for line in artifact_lines(MANIFEST, _content(2))]
    assert _collected([*others, *artifact_lines(MANIFEST, content)]) == [Artifact(name=MANIFEST, content=content)]


def test_a_file_that_is_left_out_is_said_to_be_so_once() -> None:
    said = {"name": MANIFEST, "reason": "TooLarge", "size": 2_000_000, "limit": LARGEST}
    (line,) = RunnerLog().add("ArtifactOmitted", said).lines[1:]
    assert _collected([line, line]) == [Artifact(name=MANIFEST, content=None)]
    (other,) = RunnerLog().add("ArtifactOmitted", {"name": "graph.gpickle"}).lines[1:]
    forged = json.dumps({**json.loads(line), "seq": None}).encode()
    assert _collected([other, forged]) == []


def test_two_versions_of_a_file_do_not_mix() -> None:
    first, second = _content(1), _content(2)
    pairs = zip(artifact_lines(MANIFEST, first), artifact_lines(MANIFEST, second), strict=True)
    found = _collected(line for pair in pairs for line in pair)
    assert [artifact.content for artifact in found] == [first, second]


def test_the_largest_files_are_taken_both_at_once() -> None:
    files = {name: random.Random(name).randbytes(LARGEST) for name in (MANIFEST, CACHE)}  # noqa: S311 - the same bytes in each run
    pairs = zip(*(artifact_lines(name, content, piece=5000) for name, content in files.items()), strict=True)
    found = _collected(line for pair in pairs for line in pair)
    assert {artifact.name: artifact.content for artifact in found} == files


def test_what_grew_last_stays_when_there_is_no_room() -> None:
    content, collector = random.Random(3).randbytes(LARGEST), Collector()  # noqa: S311 - the same bytes in each run
    *lines, last = artifact_lines(MANIFEST, content, piece=5000)
    collector.take(lines[:1])
    others = [artifact_lines(CACHE, random.Random(n).randbytes(LARGEST - 5000), piece=5000)[:-1] for n in range(2)]  # noqa: S311 - the same bytes in each run
    collector.take(others[0])
    collector.take(lines[1:])
    collector.take(others[1])
    assert collector.take([last]) == [Artifact(name=MANIFEST, content=content)]


def test_memory_is_bounded_whatever_is_never_completed() -> None:
    collector, data = Collector(), "QUJD" * 250_000
    for number in range(60):
        sha256 = hashlib.sha256(str(number % 20).encode()).hexdigest()
        fields: dict[str, Any] = {"sha256": sha256, "size": LARGEST, "part": number, "parts": 1000, "data": data}
        assert collector.take(artifact_lines(MANIFEST, b"x", **fields)) == []
        assert collector.held <= 2 * LARGEST
    content = _content(1)
    assert collector.take(artifact_lines(CACHE, content)) == [Artifact(name=CACHE, content=content)]


@pytest.mark.parametrize("name", RECORDED)
def test_a_log_without_files_yields_none(name: str) -> None:
    assert _collected(recorded(name)) == []


def test_the_state_of_the_attempt_holds_nothing_of_the_files() -> None:
    log = RunnerLog().select(model("a"))
    before = list(log.lines)
    for line in artifact_lines(MANIFEST, _content(1)):
        log.add("Artifact", json.loads(line)["data"])
    log.add("ArtifactOmitted", {"name": CACHE, "size": 2_000_000, "limit": LARGEST})
    end = RunnerLog().run("model.shop.a").finish().lines[1:]
    end = [line.replace(b"T17:", b"T18:") for line in end]
    assert folded([*log.lines, *end]) == folded([*before, *end])
