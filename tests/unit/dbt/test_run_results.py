"""run_results.json as we write it, read by dbt itself and compared with what dbt writes."""

import gzip
import json
import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbt_operator.api.phases import NodePhase
from dbt_operator.api.reasons import NodeReason
from dbt_operator.dbt.compiled import Code
from dbt_operator.dbt.run_results import NodeOutcome, run_results
from dbt_operator.dbt.state import AttemptState, NodeState
from dbt_operator.dbt.view import node_views
from tests.unit.dbt.logs import LOGS, RECORDED, RunnerLog, closed, data_test, ephemeral, model, recorded
from tests.unit.runner.conftest import Project

_STARTED, _COMPLETED = datetime(2026, 11, 20, 17, 0, 0, tzinfo=UTC), datetime(2026, 11, 20, 17, 1, 30, 250_000, UTC)
_BUILD = {"which": "build", "vars": {}}
Results = dict[str, dict[str, Any]]


def _outcomes(state: AttemptState) -> list[NodeOutcome]:
    return [
        NodeOutcome(node=state.nodes[unique_id], phase=view.phase, reason=view.reason, message=view.message)
        for unique_id, view in node_views(state=state).items()
        if view.executed
    ]


def _packed(outcomes: list[NodeOutcome], *, limit: int | None = None, **arguments: Any) -> bytes:
    return run_results(
        outcomes=outcomes,
        dbt_version="1.11.16",
        invocation_id="11111111-1111-4111-8111-111111111111",
        started_at=_STARTED,
        completed_at=_COMPLETED,
        arguments={**_BUILD, **arguments},
        limit=limit,
    )


def _written(outcomes: list[NodeOutcome], *, limit: int | None = None, **arguments: Any) -> bytes:
    return gzip.decompress(_packed(outcomes, limit=limit, **arguments))


def _results(document: bytes | str) -> Results:
    return {result["unique_id"]: result for result in json.loads(document)["results"]}


def _of(log: RunnerLog) -> Results:
    return _results(_written(_outcomes(log.closed)))


# dbt refuses a file of which it does not know a word, and reads nothing of it then.
_READER = """
import json, pathlib, sys
from dbt.artifacts.schemas.run import RunResultsArtifact

for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    RunResultsArtifact.validate(json.loads(path.read_text()))
    artifact = RunResultsArtifact.read_and_check_versions(str(path))
    results = {result.unique_id: [str(result.status), result.message] for result in artifact.results}
    print(json.dumps([path.stem, results, len(artifact.results), str(artifact.metadata.invocation_started_at)]))
"""


def test_dbt_reads_the_results_of_every_recorded_log_in_full_and_in_their_poorest_form(
    warm_python: Path, tmp_path: Path
) -> None:
    files: dict[str, bytes] = {}
    for name in RECORDED:
        outcomes = _outcomes(closed(recorded(name)))
        files |= {f"{name}.full": _written(outcomes), f"{name}.poorest": _written(outcomes, limit=0)}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    process = subprocess.run(
        [str(warm_python), "-c", _READER, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    read = {name: rest for name, *rest in map(json.loads, process.stdout.splitlines())}
    assert read.keys() == files.keys()
    for name, (results, number, started) in read.items():
        assert number == len(results)
        assert results == {one: [result["status"], result["message"]] for one, result in _results(files[name]).items()}
        assert started == "2026-11-20 17:00:00+00:00"
    for name in RECORDED:
        full, poorest = read[f"{name}.full"][0], read[f"{name}.poorest"][0]
        assert poorest == {one: [status, None] for one, (status, _) in full.items()}


def test_results_that_do_not_fit_lose_their_texts_before_their_figures_and_never_a_node() -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    texts = {f"model.a.n{number}": chance.randbytes(500).hex() for number in range(1000)}
    at = datetime(2026, 11, 20, 17, 0, 5, tzinfo=UTC)
    nodes = [
        NodeState(unique_id=one, phase=NodePhase.FAILED, status="error", message=text, started_at=at, finished_at=at)
        for one, text in texts.items()
    ]
    outcomes = [NodeOutcome(node=node, phase=NodePhase.FAILED) for node in nodes]
    full = _packed(outcomes)
    assert _packed(outcomes, limit=len(full)) == full
    shorter = _packed(outcomes, limit=len(full) - 1)
    assert _packed(outcomes, limit=len(shorter)) == shorter
    for one, result in _results(gzip.decompress(shorter)).items():
        assert result["message"] == texts[one][:197] + "…"
        assert result["timing"]
    poorest = _packed(outcomes, limit=len(shorter) - 1)
    assert len(poorest) < 20_000
    assert {
        one: (result["status"], result["message"]) for one, result in _results(gzip.decompress(poorest)).items()
    } == dict.fromkeys(texts, ("error", None))


def _coded(codes: tuple[Code, ...], *, limit: int | None = None, room: int | None = None) -> tuple[int, Results]:
    log = RunnerLog().select(model("a"), model("b", "a"), model("c")).run("model.shop.a", "error").run("model.shop.c")
    log.end("model.shop.b", "skipped").finish(1)
    packed = run_results(
        outcomes=_outcomes(log.closed),
        dbt_version="1.11.16",
        invocation_id="11111111-1111-4111-8111-111111111111",
        started_at=_STARTED,
        completed_at=_COMPLETED,
        arguments=_BUILD,
        limit=limit,
        codes=codes,
        room=room,
    )
    return len(packed), _results(gzip.decompress(packed))


def test_compiled_code_stands_in_the_results_as_far_as_there_is_room_that_of_failed_nodes_first() -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    texts = {name: chance.randbytes(2000).hex() for name in "abc"}
    codes = tuple(
        Code(unique_id=f"model.shop.{name}", code=text, failed=name == "a", attempt=1) for name, text in texts.items()
    )

    def kept(results: Results) -> dict[str, tuple[object, object]]:
        return {one.split(".")[-1]: (result["compiled"], result["compiled_code"]) for one, result in results.items()}

    nothing = (None, None)
    bare, none = _coded(())
    assert kept(none) == dict.fromkeys("abc", nothing)
    everything, full = _coded(codes)
    # What was skipped in the end was compiled by an attempt before.
    assert kept(full) == {"a": (True, texts["a"]), "b": nothing, "c": (True, texts["c"])}
    assert _coded(codes, room=everything) == (everything, full)
    failed, some = _coded(codes, room=everything - 1)
    assert kept(some) == {"a": (True, texts["a"]), "b": nothing, "c": nothing}
    assert _coded(codes, room=failed - 1) == (bare, none)
    # Where the results alone leave no room for anything else, that is no reason to leave the code out.
    assert _coded(codes, room=bare - 1, limit=everything) == (everything, full)
    assert _coded(codes, room=bare - 1, limit=bare) == (bare, none)


def test_dbt_reads_results_with_compiled_code(warm_python: Path, tmp_path: Path) -> None:
    _, results = _coded((Code(unique_id="model.shop.a", code="select 1", failed=True),))
    document = json.loads(_written([])) | {"results": list(results.values())}
    (tmp_path / "coded.json").write_text(json.dumps(document))
    process = subprocess.run(
        [str(warm_python), "-c", _READER, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr


def test_a_recorded_log_has_the_results_that_dbt_wrote_of_it() -> None:
    ours = _results(_written(_outcomes(closed(recorded("failure.jsonl")))))
    theirs = _results((LOGS / "failure_run_results.json").read_text())
    assert {one: result["status"] for one, result in ours.items()} == {
        one: result["status"] for one, result in theirs.items()
    }
    for unique_id, result in theirs.items():
        if result["status"] in ("error", "fail"):
            assert ours[unique_id]["message"] == result["message"]
        if unique_id.startswith(("test.", "unit_test.")) and result["status"] != "pass":
            assert ours[unique_id]["failures"] == result["failures"]
    assert ours[next(iter(ours))].keys() == theirs[next(iter(theirs))].keys() - {"overload_results"}


def test_one_result_of_each_node_in_the_order_in_which_they_ended() -> None:
    log = RunnerLog().select(model("b"), model("a"), ephemeral("e"), model("c", "b"), data_test("t", "a"))
    log.run("operation.shop.shop-on-run-start-0").start("model.shop.b", "model.shop.a")
    log.end("model.shop.a", message="OK").end("model.shop.b", "error", message="no such table").end("model.shop.e")
    log.run("test.shop.t", "warn", num_failures=3, message="Got 3 results").end("model.shop.c", "skipped")
    log.run("operation.shop.shop-on-run-end-0")
    results = _of(log.finish(1))
    assert {unique_id: (result["status"], result["message"]) for unique_id, result in results.items()} == {
        "operation.shop.shop-on-run-start-0": ("success", None),
        "model.shop.a": ("success", "OK"),
        "model.shop.b": ("error", "no such table"),
        "test.shop.t": ("warn", "Got 3 results"),
        "model.shop.c": ("skipped", "model.shop.b failed."),
        "operation.shop.shop-on-run-end-0": ("success", None),
    }
    assert list(results) == [
        "operation.shop.shop-on-run-start-0",
        "model.shop.a",
        "model.shop.b",
        "test.shop.t",
        "model.shop.c",
        "operation.shop.shop-on-run-end-0",
    ]
    assert results["test.shop.t"]["failures"] == 3


def test_nodes_that_ended_together_and_those_that_never_did_are_in_the_order_of_their_ids() -> None:
    at = datetime(2026, 11, 20, 17, 0, 5, tzinfo=UTC)
    nodes = [NodeState(unique_id=f"model.a.{name}", finished_at=at) for name in "cab"]
    nodes += [NodeState(unique_id=f"model.a.{name}") for name in "zy"]
    outcomes = [NodeOutcome(node=node, phase=NodePhase.SKIPPED, reason=NodeReason.FAIL_FAST) for node in nodes]
    assert [one[-1] for one in _results(_written(outcomes))] == ["a", "b", "c", "y", "z"]
    assert _written(outcomes) == _written(outcomes[::-1])


def test_what_is_known_of_a_node_is_told() -> None:
    facts: dict[str, Any] = {
        "started_at": "2026-11-20T17:00:04Z",
        "completed_at": "2026-11-20T17:00:06.500000Z",
        "execution_time": 2.5,
        "rows_affected": 7,
        "bytes_processed": 0,
        "job_id": "job-1",
        "message": "INSERT 7",
    }
    log = RunnerLog().select(model("a")).run("model.shop.a", **facts).finish(0)
    assert _of(log)["model.shop.a"] == {
        "status": "success",
        "timing": [
            {"name": "execute", "started_at": "2026-11-20T17:00:04Z", "completed_at": "2026-11-20T17:00:06.500000Z"}
        ],
        "thread_id": "",
        "execution_time": 2.5,
        "adapter_response": {"rows_affected": 7, "bytes_processed": 0, "job_id": "job-1"},
        "message": "INSERT 7",
        "failures": None,
        "unique_id": "model.shop.a",
        "compiled": None,
        "compiled_code": None,
        "relation_name": '"db"."main"."a"',
        "batch_results": None,
    }


def test_the_file_tells_of_the_whole_run() -> None:
    document = json.loads(_written([], select=["tag:nightly"]))
    assert document == {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
            "dbt_version": "1.11.16",
            "generated_at": "2026-11-20T17:01:30.250000Z",
            "invocation_id": "11111111-1111-4111-8111-111111111111",
            "invocation_started_at": "2026-11-20T17:00:00Z",
            "env": {},
        },
        "results": [],
        "elapsed_time": 90.25,
        "args": {"which": "build", "vars": {}, "select": ["tag:nightly"]},
    }


def test_what_became_of_a_node_is_unknown_or_it_was_cancelled_is_an_error_that_says_so() -> None:
    lost = RunnerLog().select(model("a"), model("b"), model("c")).run("model.shop.a").start("model.shop.b")
    results = _of(lost)
    assert results["model.shop.a"]["status"] == "success"
    assert results["model.shop.b"]["status"] == results["model.shop.c"]["status"] == "error"
    assert results["model.shop.b"]["message"] == "It was running when its pod ended; its outcome is unknown."
    assert results["model.shop.b"]["timing"][0]["completed_at"] is None
    assert results["model.shop.c"]["message"] == "Its pod ended; it is not known to have started."
    assert results["model.shop.c"]["timing"] == []
    cancelled = RunnerLog().select(model("a"), model("b")).start("model.shop.a").add("CancelRequested", {})
    cancelled.add("LogCancelLine", {"conn_name": "model.shop.a"})
    results = _of(cancelled.end("model.shop.a", "error", message="INTERRUPT Error").finish(2, cancelled=True))
    assert results["model.shop.a"]["message"] == "Its query was cancelled."
    assert results["model.shop.b"]["message"] == "It had not started when dbt was told to stop."
    assert {result["status"] for result in results.values()} == {"error"}


def test_what_fail_fast_left_alone_is_skipped() -> None:
    log = RunnerLog().select(model("a"), model("b"), model("c")).start("model.shop.b").run("model.shop.a", "error")
    log.add("LogCancelLine", {"conn_name": "model.shop.b"}).end("model.shop.b", "error", message="INTERRUPT Error")
    results = _of(log.finish(1))
    assert [result["status"] for result in results.values()] == ["error", "error", "skipped"]
    assert results["model.shop.b"]["message"] == "dbt stopped it when another node failed, as fail-fast asks."


def test_a_model_whose_test_failed_was_built() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node="model.shop.a"))
    results = _of(log.run("model.shop.a").run("test.shop.t", "fail", message="Got 1 result").finish(1))
    assert {one: result["status"] for one, result in results.items()} == {
        "model.shop.a": "success",
        "test.shop.t": "fail",
    }


def test_a_command_that_executes_nothing_has_no_results() -> None:
    log = RunnerLog()
    log.add("SelectedNodes", {"part": 1, "parts": 1, "total": 1, "nodes": [model("a")]})
    assert _of(log.finish(0, phase="list", results=0)) == {}


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("partial success", "partial success"),
        ("no-op", "no-op"),
        ("reused", "reused"),
        ("runtime error", "runtime error"),
    ],
)
def test_words_that_dbt_has_for_an_end(said: str, written: str) -> None:
    results = _of(RunnerLog().select(model("a")).run("model.shop.a", said).finish(1))
    assert results["model.shop.a"]["status"] == written


def test_a_word_that_dbts_reader_does_not_know_is_an_error() -> None:
    result = _of(RunnerLog().select(model("a")).run("model.shop.a", "postponed").finish(1))["model.shop.a"]
    assert (result["status"], "'postponed'" in result["message"]) == ("error", True)


def test_sources_have_a_file_of_their_own() -> None:
    log = RunnerLog().run("source.shop.raw.s", "pass").run("model.shop.a").finish(0)
    assert list(_of(log)) == ["model.shop.a"]


def test_the_last_attempt_that_has_a_word_on_a_node_has_the_last_word() -> None:
    first = RunnerLog().select(model("a"), model("b", "a")).run("operation.shop.shop-on-run-end-0", "error")
    first.run("model.shop.a", "error").end("model.shop.b", "skipped").finish(1)
    second = RunnerLog().run("model.shop.a").run("operation.shop.shop-on-run-end-0").finish(0)
    results = _results(_written([*_outcomes(first.closed), *_outcomes(second.closed)]))
    assert {one: result["status"] for one, result in results.items()} == {
        "operation.shop.shop-on-run-end-0": "success",
        "model.shop.a": "success",
        "model.shop.b": "skipped",
    }


_FILES = {
    "dbt_project.yml": (
        "{name: small, version: '1.0', profile: small, on-run-start: ['select 1'], on-run-end: ['select 2']}"
    ),
    "profiles.yml": (
        "small: {target: dev, outputs: {dev: {type: duckdb, path: \"{{ env_var('DBT_DUCK') }}\", threads: 2}}}"
    ),
    "models/inlined.sql": "{{ config(materialized='ephemeral') }} select 1 as id",
    "models/good.sql": "select id from {{ ref('inlined') }}",
    "models/bad.sql": "{{ config(materialized='table') }} select {{ var('column', 'nothing') }} from {{ ref('good') }}",
    "models/child.sql": "select * from {{ ref('bad') }}",
    "tests/finds_rows.sql": "select id from {{ ref('good') }}",
    "tests/warns.sql": "{{ config(severity='warn') }} select id from {{ ref('good') }}",
}
_AFTER = """
import json, pathlib, sys
from dbt.artifacts.schemas.manifest import WritableManifest
from dbt.cli.main import dbtRunner

state, project, profiles = sys.argv[1:]
where = ["--state", state, "--project-dir", project, "--profiles-dir", profiles, "--quiet"]
manifest = WritableManifest.read_and_check_versions(state + "/manifest.json")
assert manifest.metadata.project_name == "small"

def listed(*selectors):
    return sorted(dbtRunner().invoke(["ls", "--select", *selectors, *where]).result)

answer = {"failed": listed("result:error", "result:fail", "result:skipped"), "changed before": listed("state:modified")}
child = pathlib.Path(project, "models", "child.sql")
child.write_text(child.read_text() + " where id = 1")
answer |= {"changed": listed("state:modified"), "both": listed("state:modified,result:skipped")}
retried = dbtRunner().invoke(["retry", "--vars", "{column: id}", *where])
results = {result.node.unique_id: str(result.status) for result in retried.result.results}
print(json.dumps({**answer, "retried": results, "exception": str(retried.exception)}))
"""


@pytest.fixture
def small(dbt_python: str, warm_python: Path, archive: Path, tmp_path: Path) -> Project:
    for name, text in _FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Project(python=dbt_python, archive=archive, path=tmp_path / "project", scratch=tmp_path, warm=warm_python)


def test_a_real_run_can_be_taken_up_by_dbt_itself(small: Project) -> None:
    database = {"DBT_DUCK": str(small.scratch / "small.duckdb")}
    run = small.run("build", environment=database)
    first = closed(run.lines)
    real = {result["unique_id"]: result for result in run.run_results()["results"]}
    ours = _results(_written(_outcomes(first)))
    assert {one: result["status"] for one, result in ours.items()} == {
        one: result["status"] for one, result in real.items()
    }
    for unique_id, result in real.items():
        if result["message"] is not None and not unique_id.startswith("operation."):
            assert ours[unique_id]["message"] == result["message"]
    # A second attempt has made the failing test pass: dbt is to see the run, not its first attempt.
    second = RunnerLog().run("test.small.finds_rows", "pass").finish(0).closed
    state = small.scratch / "state"
    state.mkdir()
    asked: dict[str, Any] = {
        "select": ["good+"],
        "exclude": ["tag:none"],
        "full_refresh": True,
        "fail_fast": False,
        "threads": 2,
    }
    merged = _written([*_outcomes(first), *_outcomes(second)], **asked, vars={"other": 1})
    (state / "run_results.json").write_bytes(merged)
    (state / "manifest.json").write_bytes(gzip.decompress(run.artifacts["manifest.json"]))
    process = subprocess.run(
        [str(small.warm), "-c", _AFTER, str(state), str(small.path), str(small.path)],
        env=small.environment(database),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr + process.stdout
    answer = json.loads(process.stdout.splitlines()[-1])
    assert answer["failed"] == ["small.bad", "small.child"]
    assert answer["changed before"] == []
    assert answer["changed"] == answer["both"] == ["small.child"]
    executed = {one: status for one, status in answer["retried"].items() if not one.startswith("operation.")}
    assert executed == {"model.small.bad": "success", "model.small.child": "success"}, answer
