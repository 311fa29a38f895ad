"""`dbt-operator replay`: a saved log in, what the controller makes of it out."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbt_operator.cli.replay import replay
from tests.unit.dbt.logs import LOGS, RECORDED, RunnerLog, data_test, model


def _replay(log: bytes) -> list[dict[str, Any]]:
    out = io.StringIO()
    replay(io.BytesIO(log), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _command(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "dbt_operator.cli.replay", *args]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def test_nodes_in_the_order_of_the_graph_and_the_run_at_the_end() -> None:
    log = RunnerLog().select(model("a"), model("b", "a"), data_test("t", "a", attached_node="model.shop.a"))
    log.run("model.shop.a").run("test.shop.t", "fail", message="Got 2 results", num_failures=2)
    log.end("model.shop.b", "skipped").finish(1)
    first, second, third, run = _replay(b"\n".join(log.lines))
    assert first == {
        "unique_id": "model.shop.a",
        "resource_type": "model",
        "phase": "Failed",
        "reason": "TestsFailed",
        "message": "1 of 1 tests failed: t (Got 2 results)",
        "blockedBy": None,
        "tests": {
            "total": 1,
            "passed": 0,
            "warned": 0,
            "failed": 1,
            "errored": 0,
            "skipped": 0,
            "failing": [{"uniqueId": "test.shop.t", "name": "t", "message": "Got 2 results", "failures": 2}],
            "warning": [],
        },
    }
    assert (second["unique_id"], second["phase"], second["blockedBy"]) == ("model.shop.b", "Skipped", "model.shop.a")
    assert (third["unique_id"], third["phase"], third["tests"]) == ("test.shop.t", "Failed", None)
    assert (run["run"]["phase"], run["run"]["reason"]) == ("Failed", "TestsFailed")
    assert run["run"]["counts"] == {
        "total": 2,
        "pending": 0,
        "running": 0,
        "succeeded": 0,
        "warned": 0,
        "failed": 1,
        "skipped": 1,
        "cancelled": 0,
    }


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_log_ends_with_a_run_that_has_ended(name: str) -> None:
    *nodes, last = _replay((LOGS / name).read_bytes())
    assert last["run"]["phase"] in ("Succeeded", "Failed", "Cancelled")
    assert last["run"]["message"]
    assert all(node["phase"] not in ("Pending", "Running") for node in nodes)
    assert all((node["tests"] is None) == (node["resource_type"] in ("test", "unit_test")) for node in nodes)


@pytest.mark.parametrize(
    "log", [b"", b"\n\n\n", b"\x00\xff" * 1000, b"{", b"Traceback (most recent call last):\n  x\n"]
)
def test_what_is_no_log_is_a_failed_run(log: bytes) -> None:
    (last,) = _replay(log)
    assert (last["run"]["phase"], last["run"]["reason"]) == ("Failed", "PodLost")


def test_an_endless_line_needs_no_memory_and_hides_nothing_after_it() -> None:
    log = RunnerLog().select(model("a")).run("model.shop.a").finish(0).lines

    class Endless(io.RawIOBase):
        """Fifty megabytes without a line end between two lines of a log."""

        def __init__(self) -> None:
            self._chunks: Iterator[bytes] = iter(
                [log[0] + b"\n", *[b"x" * 1_000_000] * 50, b"\n" + b"\n".join(log[1:])]
            )
            self.largest = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            return next(self._chunks, b"")

    out = io.StringIO()
    replay(Endless(), out)  # type: ignore[arg-type]  # as much of a BinaryIO as replay needs
    node, last = (json.loads(line) for line in out.getvalue().splitlines())
    assert (node["phase"], last["run"]["phase"]) == ("Succeeded", "Succeeded")


@settings(max_examples=50)
@given(st.binary(max_size=2000), st.integers(min_value=0, max_value=70_000))
def test_no_bytes_end_in_anything_but_a_run(noise: bytes, at: int) -> None:
    log = (LOGS / "failure.jsonl").read_bytes()
    assert "run" in _replay(log[:at] + noise + log[at:])[-1]
    assert "run" in _replay(noise)[-1]


def test_the_command_reads_files_and_standard_input(tmp_path: Path) -> None:
    path = LOGS / "failure.jsonl"
    from_file, from_stdin = _command(str(path)), _command("-", stdin=path.read_bytes())
    assert from_file.returncode == from_stdin.returncode == 0
    assert from_file.stdout == from_stdin.stdout
    empty = tmp_path / "empty"
    empty.touch()
    assert _command(str(empty)).returncode == 0


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "nope.log", tmp_path):
        result = _command(str(path))
        assert (result.returncode, result.stdout) == (2, b"")
        assert result.stderr.decode().count("\n") == 1
        assert str(path) in result.stderr.decode()
