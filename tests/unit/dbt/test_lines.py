"""Cutting the byte stream of a log."""

from hypothesis import given
from hypothesis import strategies as st

from dbt_operator.dbt.lines import LineSplitter


def test_only_a_line_feed_ends_a_line() -> None:
    splitter = LineSplitter()
    text = "a\x0b\x0c\x1c\x85\u2028\u2029b\r".encode()
    assert splitter.feed(text + b"\nrest") == [text]
    assert splitter.flush() == b"rest"


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    splitter = LineSplitter(limit=10)
    for _ in range(1000):
        assert splitter.feed(b"x" * 7) == []
        assert splitter._size <= 14
    assert splitter.feed(b"\nnext\n") == [b"next"]
    assert splitter.dropped == 1


def test_a_dropped_last_line_is_counted() -> None:
    splitter = LineSplitter(limit=3)
    splitter.feed(b"four")
    assert splitter.flush() is None
    assert splitter.dropped == 1


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=9))
def test_lines_do_not_depend_on_how_the_stream_is_cut(pieces: list[bytes], size: int) -> None:
    stream = b"\n".join(pieces)
    splitter = LineSplitter()
    lines: list[bytes] = []
    for start in range(0, len(stream), size):
        lines += splitter.feed(stream[start : start + size])
    rest = splitter.flush()
    assert [*lines, rest or b""] == stream.split(b"\n")
