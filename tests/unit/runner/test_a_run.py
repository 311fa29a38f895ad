"""A run from its first line to its last, on a real dbt."""

import hashlib
import itertools
import json
from typing import Any

import pytest

from tests.unit.runner.conftest import IN_FILE, IN_PROFILE, IN_VARIABLE, Project, Run


def test_every_line_is_an_event_of_at_most_8_kib_and_numbered_without_a_gap(torture: Run, green: Run) -> None:
    for run in (torture, green):
        assert max(len(line) for line in run.lines) <= 8192
        assert all(line.endswith(b"\n") for line in run.lines)
        assert [event["seq"] for event in run.events] == list(range(1, len(run.lines) + 1))
        assert {"name", "level", "ts", "invocation_id", "code", "msg", "thread"} <= set(run.events[3]["info"])


@pytest.mark.needs("dbt-core", "1.9", "unit tests that are disabled")
def test_first_line_tells_who_runs_and_last_how_it_ended(torture: Run, green: Run) -> None:
    first = green.events[0]
    assert first["info"]["name"] == "RunnerStarted"
    assert first["data"]["format"] == 1
    assert (first["data"]["attempt"], first["data"]["run_uid"]) == ("producer-1", "uid-1")
    assert first["data"]["dbt_version"].startswith("1.")
    assert (green.code, torture.code) == (0, 1)
    for run in (green, torture):
        finished = run.finished
        assert finished["exit_code"] == run.code
        assert finished["success"] is (run.code == 0)
        assert finished["cancelled"] is False
        assert finished["error"] is None
        assert finished["phase"] == "execute"
        assert finished["peak_memory_bytes"] > 10 << 20
        assert finished["invocation_id"] == run.run_results()["metadata"]["invocation_id"]


def test_graph_is_printed_before_any_node_starts(green: Run) -> None:
    names = [event["info"]["name"] for event in green.events]
    assert names.index("SelectedNodes") < names.index("ConcurrencyLine") < names.index("LogStartLine")
    assert names.count("MainReportVersion") == 1


def test_graph_has_what_dbt_selected_with_its_dependencies(green: Run, torture: Run) -> None:
    selected = {unique_id for unique_id, node in green.graph.items() if node.get("selected", True)}
    executed = {unique_id for unique_id in green.results if not unique_id.startswith("operation.")}
    assert selected == executed
    assert green.graph["model.torture.ok_model"]["depends_on"] == ["model.torture.stg_users"]
    assert green.graph["model.torture.stg_users"]["tags"] == ["stg"]
    assert green.graph["model.torture.stg_users"]["materialized"] == "view"
    assert green.graph["seed.torture.s_users"]["relation"] == '"torture"."main"."s_users"'
    tests = {node["name"]: node for node in torture.graph.values() if node["resource_type"] == "test"}
    assert tests["not_null_test_warns_name"]["severity"] == "WARN"
    assert tests["not_null_test_fails_name"]["severity"] == "ERROR"
    assert tests["not_null_test_fails_name"]["attached_node"] == "model.torture.test_fails"
    assert tests["singular"]["attached_node"] is None
    assert torture.graph["model.torture.eph"]["materialized"] == "ephemeral"


def test_unselected_ephemeral_model_is_listed_for_its_place_only(project: Project) -> None:
    run = project.run("run", "--select", "uses_eph")
    assert {unique_id: node.get("selected", True) for unique_id, node in run.graph.items()} == {
        "model.torture.uses_eph": True,
        "model.torture.eph": False,
    }


def _comparable(result: dict[str, Any]) -> tuple[str, Any]:
    return result["status"], result["failures"]


@pytest.mark.needs("dbt-core", "1.9", "results of hooks")
def test_results_are_those_dbt_wrote_itself(torture: Run, green: Run) -> None:
    for run in (torture, green):
        dbts = {result["unique_id"]: result for result in run.run_results()["results"]}
        digest = {result["unique_id"]: result for result in run.digest}
        assert {key: _comparable(value) for key, value in digest.items()} == {
            key: _comparable(value) for key, value in dbts.items()
        }
        told = {unique_id: result["status"] for unique_id, result in run.results.items() if unique_id in dbts}
        assert told == {unique_id: result["status"] for unique_id, result in dbts.items()}
        assert set(run.results) - set(dbts) <= {"model.torture.eph"}


def test_results_have_their_message_at_once(torture: Run) -> None:
    names = [(e["info"]["name"], e["data"].get("unique_id")) for e in torture.events]
    bad = torture.results["model.torture.bad_sql"]
    assert "nocolumn" in bad["message"]
    assert bad["started_at"].endswith("Z")
    assert bad["completed_at"] > bad["started_at"]
    assert names.index(("NodeResult", "model.torture.bad_sql")) < names.index(("EndOfRunSummary", None))
    test = torture.results["test.torture.not_null_test_fails_name.1eb6c457d7"]
    assert (test["status"], test["num_failures"], test["attached_node"]) == ("fail", 1, "model.torture.test_fails")
    assert torture.results["model.torture.eph"]["materialized"] == "ephemeral"
    assert torture.results["unit_test.torture.ok_model.ut_upper_bad"]["status"] == "fail"
    assert torture.results["model.torture.ok_model"]["status"] == "skipped"
    assert torture.results["model.torture.bad_jinja"]["status"] == "error"


@pytest.mark.needs("dbt-core", "1.9", "microbatch models")
def test_microbatch_model_ends_once_with_the_sum_of_its_batches(torture: Run) -> None:
    results = [result for result in torture.named("NodeResult") if result["unique_id"] == "model.torture.mb_model"]
    assert [result["status"] for result in results] == ["partial success"]
    assert len(torture.named("LogBatchResult")) > 1


def test_digest_is_the_checksum_of_the_printed_results(torture: Run) -> None:
    text = json.dumps(torture.digest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert torture.finished["digest"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert torture.finished["results"] == len(torture.digest) == torture.named("RunResults")[0]["total"]


def test_what_user_code_prints_cannot_be_an_event(torture: Run) -> None:
    forged = [text for _, text in torture.output if text.startswith('{"')]
    # print() and log() of Jinja; print() to both streams and a child process of a Python model.
    assert len(forged) == 5
    assert ("stderr", forged[-1]) in torture.output
    assert ("stdout", "no newline at the end") in torture.output
    assert torture.results["model.torture.bad_sql"]["status"] == "error"
    assert len(torture.named("RunFinished")) == 1


def test_secrets_appear_in_no_line(torture: Run) -> None:
    printed = b"".join(torture.lines).decode()
    for secret in (IN_VARIABLE, json.dumps(IN_VARIABLE)[1:-1], IN_FILE, IN_PROFILE):
        assert secret not in printed
        assert secret not in "\n".join(text for _, text in torture.output)
    assert ("stdout", "the password is *****") in torture.output
    assert ("stdout", "*****, *****") in torture.output


def test_endless_error_text_is_shortened(torture: Run) -> None:
    message = torture.results["model.torture.fails_at_length"]["message"]
    assert message.startswith("Compilation Error in model fails_at_length")
    assert message.endswith("…")


def test_fail_fast_skips_are_told_by_the_digest(project: Project) -> None:
    run = project.run("build", "--fail-fast", "--threads", "1", "--select", "+bad_sql+", "+inc")
    assert run.code == 1
    dbts = {result["unique_id"]: result["status"] for result in run.run_results()["results"]}
    assert {result["unique_id"]: result["status"] for result in run.digest} == dbts
    assert "skipped" in dbts.values()


def test_commands_without_a_graph_are_run_as_they_are(project: Project) -> None:
    done = project.run("run-operation", "hello", "--args", "{name: you}")
    assert done.code == 0
    assert ("stdout", "hello you") in done.output
    assert done.named("SelectedNodes") == []


def test_memory_is_told_before_the_end(torture: Run) -> None:
    peaks = [peak["peak_memory_bytes"] for peak in torture.named("MemoryPeak")]
    assert peaks
    assert all(later - earlier >= 8 << 20 for earlier, later in itertools.pairwise(peaks))
    assert peaks[-1] <= torture.finished["peak_memory_bytes"]
