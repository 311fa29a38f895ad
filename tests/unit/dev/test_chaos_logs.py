"""dbt's words, read on the node: nothing that happens to the file or its pod takes them away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.chaos.logs import Logs

FOLDER = Path("chaos-1_chaos-producer-1-abcde_0f0f/dbt")


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    (tmp_path / FOLDER).mkdir(parents=True)
    logs = Logs(folder=tmp_path, namespace="chaos-1")
    yield logs
    logs.close()


def _line(node: str, *, invocation: str = "i1") -> str:
    info = {"name": "NodeResult", "ts": "2026-01-01T00:00:00.5Z", "invocation_id": invocation}
    data = {"unique_id": f"model.chaos.{node}", "name": node, "resource_type": "model", "status": "success"}
    return f"2026-01-01T00:00:00.6Z stdout F {json.dumps({'info': info, 'data': data})}\n"


def _names(logs: Logs) -> list[str]:
    logs.read()
    return [report.name for report in logs.reports]


def test_a_line_counts_once_and_when_it_is_whole(logs: Logs, tmp_path: Path) -> None:
    text = _line("a") + _line("b")
    with (tmp_path / FOLDER / "0.log").open("w") as file:
        file.write(text[:-20])
        file.flush()
        assert _names(logs) == ["a"]
        file.write(text[-20:])
        file.flush()
        assert _names(logs) == ["a", "b"]
    assert _names(logs) == ["a", "b"]
    assert logs.pods == {"i1": "chaos-producer-1-abcde"}


@pytest.mark.parametrize(
    ("event", "data", "status"),
    [
        ("LogModelResult", {"node_info": {"unique_id": "model.chaos.a", "node_name": "a", "node_status": "success"},
                            "status": "SELECT 1"}, "success"),
        ("LogTestResult", {"node_info": {"unique_id": "test.chaos.a", "node_name": "a", "node_status": "None"},
                           "status": "pass"}, "pass"),
        ("NodeResult", {"unique_id": "test.chaos.a", "name": "a", "status": "fail"}, "fail"),
    ],
)  # fmt: skip
def test_dbts_own_words_count_as_well(
    logs: Logs, tmp_path: Path, event: str, data: dict[str, object], status: str
) -> None:
    info = {"name": event, "ts": "2026-01-01T00:00:00.5Z", "invocation_id": "i1"}
    line = f"2026-01-01T00:00:00.6Z stdout F {json.dumps({'info': info, 'data': data})}\n"
    (tmp_path / FOLDER / "0.log").write_text(line)
    assert _names(logs) == ["a"]
    assert logs.reports[0].status == status


def test_a_rotated_file_is_read_to_its_end_and_once(logs: Logs, tmp_path: Path) -> None:
    log = tmp_path / FOLDER / "0.log"
    log.write_text(_line("a"))
    assert _names(logs) == ["a"]
    with log.open("a") as file:
        file.write("2026-01-01T00:00:01Z stdout F much was said\n" + _line("b"))
    log.rename(log.with_name("0.log.20260101-000001"))
    log.write_text(_line("c"))
    assert sorted(_names(logs)) == ["a", "b", "c"]


def test_what_was_said_before_the_pod_was_deleted_stays(logs: Logs, tmp_path: Path) -> None:
    log = tmp_path / FOLDER / "0.log"
    log.write_text(_line("a"))
    assert _names(logs) == ["a"]
    with log.open("a") as file:
        shutil.rmtree(tmp_path / FOLDER.parts[0])
        file.write(_line("b"))
    assert _names(logs) == ["a", "b"]


def test_pods_of_other_namespaces_and_other_lines_do_not_count(logs: Logs, tmp_path: Path) -> None:
    other = tmp_path / "chaos-10_chaos-producer-1-abcde_0f0f" / "dbt"
    other.mkdir(parents=True)
    (other / "0.log").write_text(_line("other"))
    (tmp_path / FOLDER / "0.log").write_text('2026-01-01T00:00:00Z stdout F a model prints "NodeResult"\n')
    assert _names(logs) == []


def test_a_pod_with_a_second_file_had_its_log_rotated(logs: Logs, tmp_path: Path) -> None:
    log = tmp_path / FOLDER / "0.log"
    log.write_text(_line("a"))
    assert _names(logs) == ["a"]
    assert logs.rotated == set()
    log.rename(log.with_name("0.log.20260101-000000"))
    log.write_text(_line("b"))
    assert _names(logs) == ["a", "b"]
    assert logs.rotated == {"chaos-producer-1-abcde"}
