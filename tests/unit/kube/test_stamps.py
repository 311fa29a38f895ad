"""The kubelet's stamps are taken off, and a reconnected stream's repetitions dropped, without losing a line."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.kube.stamps import Deduplicator, parse_stamp, split_stamp


@pytest.mark.parametrize(
    ("raw", "stamp", "line"),
    [
        (b"2026-11-20T17:11:13.219457123Z {}", b"2026-11-20T17:11:13.219457123Z", b"{}"),
        (b"2026-11-20T19:11:13.219457123+02:00 {}", b"2026-11-20T19:11:13.219457123+02:00", b"{}"),
        (b"2026-11-20T17:11:13Z ", b"2026-11-20T17:11:13Z", b""),
        (b"2026-11-20T17:11:13.2Z  two spaces\r", b"2026-11-20T17:11:13.2Z", b" two spaces\r"),
        (b"unable to retrieve container logs", b"", b"unable to retrieve container logs"),
        (b"", b"", b""),
        (b"\xff\x00", b"", b"\xff\x00"),
    ],
)
def test_the_stamp_is_taken_off(raw: bytes, stamp: bytes, line: bytes) -> None:
    assert split_stamp(raw) == (stamp, line)


def test_a_stamp_is_read_as_utc() -> None:
    expected = datetime(2026, 11, 20, 17, 11, 13, 219457, tzinfo=UTC)
    assert parse_stamp(b"2026-11-20T19:11:13.219457123+02:00") == expected
    assert parse_stamp(b"2026-13-40T19:11:13Z") is None
    assert parse_stamp(b"") is None


@given(raw=st.binary(max_size=60))
def test_any_bytes_can_be_a_line(raw: bytes) -> None:
    stamp, line = split_stamp(raw)
    parse_stamp(stamp)
    assert raw.endswith(line)


def stamped(moment: int, number: int) -> bytes:
    """Ten stamps to the second; numbers make the lines differ."""
    return f"2026-11-20T17:11:{moment // 10:02}.{moment % 10}00000000Z line {number}".encode()


@given(
    jumps=st.lists(st.integers(-2, 5), max_size=60),
    cuts=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3)), max_size=6),
)
def test_all_lines_arrive_once_whatever_the_cuts(jumps: list[int], cuts: list[tuple[int, int]]) -> None:
    """The stamps may step back within a second; a stream starts with the whole second of the position."""
    moment, file = 30, []
    for number, jump in enumerate(jumps):
        moment = max(moment + jump, moment // 10 * 10)  # never back into an earlier second: those lines would be lost
        file.append(stamped(moment, number))
    dedup, arrived = Deduplicator(), list[bytes]()
    for length, piece in [*cuts, (len(file), 0)]:
        dedup.reconnected()
        since = dedup.position.replace(microsecond=0) if dedup.position else None
        stream = [raw for raw in file if since is None or _time(raw) >= since][:length]
        for start in range(0, len(stream), piece + 1):
            news = dedup.fresh(stream[start : start + piece + 1])
            dedup.delivered(news)
            arrived += news
    assert arrived[: len(set(arrived))] == file[: len(arrived)]
    assert len(arrived) == len(set(arrived))


def _time(raw: bytes) -> datetime:
    found = parse_stamp(split_stamp(raw)[0])
    assert found is not None
    return found


def test_lines_after_a_rotation_are_not_taken_for_repetitions() -> None:
    dedup = Deduplicator()
    dedup.delivered([stamped(11, 1)])
    dedup.reconnected()
    assert dedup.fresh([stamped(12, 2), stamped(13, 3)]) == [stamped(12, 2), stamped(13, 3)]


def test_the_tail_of_a_long_line_that_began_before_the_position_is_dropped() -> None:
    dedup = Deduplicator()
    dedup.delivered([stamped(10, 1), stamped(12, 2)])
    dedup.reconnected()
    assert dedup.fresh([stamped(11, 99), stamped(12, 2), stamped(12, 3)]) == [stamped(12, 3)]
    assert dedup.repeated == 2


def test_of_lines_that_are_the_same_as_many_are_dropped_as_were_delivered() -> None:
    dedup, same = Deduplicator(), stamped(11, 1)
    for batch in ([stamped(10, 0), same, same], [same]):
        assert dedup.fresh(batch) == batch
        dedup.delivered(batch)
    dedup.reconnected()
    assert dedup.fresh([stamped(10, 0), same]) == []
    assert dedup.fresh([same, same, same, stamped(11, 2)]) == [same, stamped(11, 2)]
    assert dedup.repeated == 4


def test_the_first_stream_is_taken_as_it_is() -> None:
    dedup = Deduplicator()
    dedup.reconnected()
    assert dedup.fresh([b"no stamp", stamped(1, 1)]) == [b"no stamp", stamped(1, 1)]
