"""What a run is once its attempt has ended."""

import pytest

from dbt_operator.api.phases import RunPhase
from dbt_operator.api.reasons import RunReason
from dbt_operator.dbt.fold import EMPTY
from dbt_operator.dbt.state import AttemptState, Ending
from dbt_operator.plan.outcome import Outcome, PodEnd, conclude, ending_of
from tests.unit.dbt.logs import RunnerLog, core_line, data_test, folded, model, node_info, recorded, unit_test

A, B, C = (f"model.shop.{name}" for name in "abc")
EXITED = PodEnd(kind="Completed", exit_code=0)


def _outcome(log: RunnerLog | AttemptState, pod: PodEnd | None = None) -> Outcome:
    return conclude(state=log.state if isinstance(log, RunnerLog) else log, pod=pod)


def _said(log: RunnerLog | AttemptState, pod: PodEnd | None = None) -> tuple[RunPhase, RunReason]:
    outcome = _outcome(log, pod)
    return outcome.phase, outcome.reason


@pytest.mark.parametrize(
    ("name", "phase", "reason"),
    [
        ("bad_selector", RunPhase.FAILED, RunReason.NOTHING_SELECTED),
        ("clone", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("compile_error_at_parse", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("compile_error_at_run", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("connection_error", RunPhase.FAILED, RunReason.CONNECTION_FAILED),
        ("docs_generate", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("fail_fast", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("failure", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("failure_debug", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("freshness_err", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("freshness_ok", RunPhase.SUCCEEDED, RunReason.SUCCEEDED_WITH_WARNINGS),
        ("fusion_build", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("fusion_ls", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("jaffle_debug", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("jaffle_info", RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED),
        ("ls_json", RunPhase.FAILED, RunReason.POD_LOST),
        ("microbatch_partial", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("missing_profile", RunPhase.FAILED, RunReason.PROFILE_ERROR),
        ("missing_target", RunPhase.FAILED, RunReason.PROFILE_ERROR),
        ("on_run_start_fail_noexposure", RunPhase.FAILED, RunReason.HOOK_FAILED),
        ("parse_error_jinja", RunPhase.FAILED, RunReason.PARSE_ERROR),
        ("parse_error_missing_ref", RunPhase.FAILED, RunReason.PARSE_ERROR),
        ("parse_error_yaml", RunPhase.FAILED, RunReason.PARSE_ERROR),
        ("retry", RunPhase.FAILED, RunReason.NODES_FAILED),
        ("run_operation", RunPhase.FAILED, RunReason.POD_LOST),
        ("sigint", RunPhase.CANCELLED, RunReason.CANCELLED),
        ("sigkill", RunPhase.FAILED, RunReason.POD_LOST),
        ("sigterm", RunPhase.FAILED, RunReason.POD_LOST),
        ("unit_test_fail", RunPhase.FAILED, RunReason.TESTS_FAILED),
        ("wrapper_sigterm_pid1", RunPhase.CANCELLED, RunReason.CANCELLED),
    ],
)
def test_recorded_logs_without_a_word_of_the_cluster(name: str, phase: RunPhase, reason: RunReason) -> None:
    assert _said(folded(recorded(f"{name}.jsonl"))) == (phase, reason)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "bad_selector",
            "No node that the command executes matches the selection (select: zzz): check spec.command, spec.select, "
            "spec.exclude and spec.selector.",
        ),
        (
            "missing_profile",
            "dbt could not load the profile: Runtime Error: Could not find profile named 'nope'; "
            "check spec.profile and profiles.yml.",
        ),
        (
            "parse_error_missing_ref",
            "The project does not parse: Compilation Error: Model 'model.torture.zz_badref' (models/zz_badref.sql) "
            "depends on a node named 'nope' which was not found.",
        ),
        (
            "failure",
            '1 of 16 nodes failed: bad_sql (Binder Error: Referenced column "nocolumn" not found in FROM clause!); '
            "1 of 6 tests failed: not_null_test_fails_name (Got 1 result, configured to fail if != 0); "
            "3 were skipped because of them.",
        ),
        ("jaffle_info", "8 nodes and 20 tests succeeded."),
        (
            "parse_error_yaml",
            "The project does not parse: Parsing Error: Error reading torture: zz.yml - Runtime Error: Syntax error "
            "near line 3 while parsing a flow sequence in line 2, column 11 did not find expected ',' or ']' in line "
            "3, column 1.",
        ),
        ("sigkill", "The log ends before dbt does; 0 of 2 nodes had succeeded, 2 were running."),
    ],
)
def test_messages_are_one_sentence_for_a_person(name: str, message: str) -> None:
    assert _outcome(folded(recorded(f"{name}.jsonl"))).message == message


def _green() -> RunnerLog:
    return RunnerLog().select(model("a"), model("b", "a")).run(A).run(B)


def test_success_needs_the_runners_record() -> None:
    assert _said(_green()) == (RunPhase.FAILED, RunReason.POD_LOST)
    assert _said(_green(), EXITED) == (RunPhase.FAILED, RunReason.RUNNER_FAILED)
    assert _said(_green().finish(0), EXITED) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_warnings_are_a_success_with_warnings() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node=A)).run(A).run("test.shop.t", "warn")
    outcome = _outcome(log.finish(0), EXITED)
    assert (outcome.phase, outcome.reason) == (RunPhase.SUCCEEDED, RunReason.SUCCEEDED_WITH_WARNINGS)
    assert outcome.message == "1 node and 1 test ended without failure; 1 node and 1 test warned."


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (PodEnd(kind="OOMKilled", exit_code=137), RunReason.OOM_KILLED),
        (PodEnd(kind="Evicted", message="The node was low on memory"), RunReason.EVICTED),
        (PodEnd(kind="Lost"), RunReason.POD_LOST),
        (PodEnd(kind="Error", exit_code=137), RunReason.POD_LOST),
        (PodEnd(kind="Error", exit_code=1), RunReason.RUNNER_FAILED),
        (PodEnd(kind="ImagePullFailed"), RunReason.IMAGE_PULL_FAILED),
        (PodEnd(kind="SomethingNew"), RunReason.POD_LOST),
        (None, RunReason.POD_LOST),
    ],
)
def test_a_pod_that_ended_before_dbt_did(pod: PodEnd | None, reason: RunReason) -> None:
    log = RunnerLog().select(model("a"), model("b")).run(A).start(B)
    outcome = _outcome(log, pod)
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, reason)
    assert "1 of 2 nodes had succeeded, 1 was running" in outcome.message
    if pod is not None and pod.message:
        assert pod.message in outcome.message


def test_a_pod_that_said_nothing_at_all() -> None:
    assert _said(EMPTY, PodEnd(kind="Error", exit_code=1, message="exec: no such file"))[1] is RunReason.RUNNER_FAILED
    # One that crashes at each start would do so again; one that was killed before its first word would not.
    assert _said(EMPTY, PodEnd(kind="Error", exit_code=139))[1] is RunReason.RUNNER_FAILED
    assert _said(EMPTY, PodEnd(kind="Error", exit_code=137))[1] is RunReason.POD_LOST
    assert _said(EMPTY, PodEnd(kind="Error", exit_code=143))[1] is RunReason.POD_LOST
    assert _said(EMPTY, EXITED) == (RunPhase.FAILED, RunReason.RUNNER_FAILED)
    assert _said(EMPTY) == (RunPhase.FAILED, RunReason.POD_LOST)


def test_a_killed_pod_is_no_success_even_when_dbt_had_ended() -> None:
    outcome = _outcome(_green().finish(0), PodEnd(kind="OOMKilled", exit_code=137))
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.OOM_KILLED)
    assert "dbt had come to its end" in outcome.message


def test_an_exit_code_of_0_does_not_hide_a_failed_node() -> None:
    log = RunnerLog().select(model("a")).run(A, "error", message="no such table").finish(0)
    outcome = _outcome(log, EXITED)
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert outcome.message == "1 of 1 node failed: a (no such table). Yet dbt ended as if all had succeeded."


def test_green_nodes_do_not_hide_an_exit_code_of_1() -> None:
    outcome = _outcome(_green().finish(1), PodEnd(kind="Error", exit_code=1))
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert outcome.message == "dbt ended with exit code 1 although no node is known to have failed."


def test_the_pods_exit_code_is_believed_when_it_is_worse() -> None:
    outcome = _outcome(_green().finish(0), PodEnd(kind="Error", exit_code=3))
    assert outcome.phase is RunPhase.FAILED
    assert "exit code 3" in outcome.message


def test_more_errors_counted_than_seen() -> None:
    log = RunnerLog().select(model("a"), model("b")).run(A, "error").run(B)
    log.add("StatsLine", {"stats": {"error": 3, "pass": 1, "total": 4}}).finish(1)
    assert "dbt itself counted 3 errors" in _outcome(log).message
    green = _green().add("StatsLine", {"stats": {"error": 1, "pass": 1, "total": 2}}).finish(0)
    assert _said(green)[0] is RunPhase.FAILED


def test_a_node_without_a_word_about_it_is_no_success() -> None:
    outcome = _outcome(RunnerLog().select(model("a"), model("b")).run(A).finish(0), EXITED)
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.NODES_FAILED)
    assert outcome.message == "dbt ended, but 1 node did not run to success: b."


def test_only_tests_failed() -> None:
    log = RunnerLog().select(model("a"), data_test("t", "a", attached_node=A)).run(A)
    assert _said(log.run("test.shop.t", "fail").finish(1)) == (RunPhase.FAILED, RunReason.TESTS_FAILED)
    log = RunnerLog().select(model("a"), unit_test("ut", A)).run("unit_test.shop.a.ut", "fail").end(A, "skipped")
    assert _said(log.finish(1)) == (RunPhase.FAILED, RunReason.TESTS_FAILED)


def test_only_a_hook_at_the_end_failed() -> None:
    log = _green().run("operation.shop.shop-on-run-end-0", "error", message="no rights").finish(1)
    assert _said(log) == (RunPhase.FAILED, RunReason.HOOK_FAILED)
    assert _outcome(log).message == "1 hook failed: shop-on-run-end-0 (no rights)."


def test_nothing_selected_is_a_failure_although_dbt_exits_with_0() -> None:
    log = RunnerLog().add("SelectedNodes", {"part": 1, "parts": 1, "total": 0, "nodes": []})
    log.add("NoNodesForSelectionCriteria", {"spec_raw": "tag:nope"}, level="warn").add("NothingToDo", {}, level="warn")
    outcome = _outcome(log.finish(0), EXITED)
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.NOTHING_SELECTED)
    assert "tag:nope" in outcome.message


def test_one_criterion_of_several_may_match_nothing() -> None:
    log = RunnerLog().add("NoNodesForSelectionCriteria", {"spec_raw": "tag:nope"}, level="warn")
    assert _said(log.select(model("a")).run(A).finish(0)) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("usage", RunReason.USAGE_ERROR),
        ("selector", RunReason.SELECTOR_ERROR),
        ("profile", RunReason.PROFILE_ERROR),
        ("project", RunReason.PROJECT_NOT_FOUND),
        ("parse", RunReason.PARSE_ERROR),
        ("dependencies", RunReason.DEPENDENCIES_MISSING),
        ("connection", RunReason.CONNECTION_FAILED),
        ("database", RunReason.DATABASE_ERROR),
        ("nothing_selected", RunReason.NOTHING_SELECTED),
        ("dbt_not_found", RunReason.DBT_NOT_FOUND),
        ("other", RunReason.DBT_ERROR),
        ("from-the-future", RunReason.DBT_ERROR),
    ],
)
def test_errors_that_ended_the_invocation(kind: str, reason: RunReason) -> None:
    log = RunnerLog().finish(2, phase="parse", error={"kind": kind, "message": "what dbt said"})
    outcome = _outcome(log, PodEnd(kind="Error", exit_code=2))
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, reason)
    assert "what dbt said" in outcome.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Runtime Error\n  No dbt_project.yml found at expected path /x/dbt_project.yml", RunReason.PROJECT_NOT_FOUND),
        (
            "Compilation Error\n  dbt found 2 package(s) specified in packages.yml, but only 0 package(s) installed in "
            'dbt_packages. Run "dbt deps" to install package dependencies.',
            RunReason.DEPENDENCIES_MISSING,
        ),
        ("Runtime Error\n  Could not find selector named nightly, expected one of []", RunReason.SELECTOR_ERROR),
        ("Runtime Error\n  'unique_id' is not a valid method name", RunReason.SELECTOR_ERROR),
        ('Database Error\n  connection to server at "db" failed: Connection refused', RunReason.CONNECTION_FAILED),
        ('IO Error: Could not set lock on file "x.duckdb": Conflicting lock', RunReason.CONNECTION_FAILED),
        ("Database Error\n  permission denied for schema analytics", RunReason.DATABASE_ERROR),
        (
            'Database Error\n  connection to server at "db", port 5432 failed: FATAL:  permission denied for database '
            '"x"\n  DETAIL:  User does not have CONNECT privilege.',
            RunReason.DATABASE_ERROR,
        ),
        (
            "Database Error\n  Access Denied: Project shop: User does not have bigquery.jobs.create permission.",
            RunReason.DATABASE_ERROR,
        ),
        (
            "Database Error\n  003001 (42501): SQL access control error:\n  Insufficient privileges to operate on X",
            RunReason.DATABASE_ERROR,
        ),
        ("Database Error\n  could not parse the YAML in schema.yml: disk full", RunReason.DATABASE_ERROR),
        (
            'Database Error\n  FATAL:  password authentication failed for "x"\n  could not connect',
            RunReason.CONNECTION_FAILED,
        ),
        (
            "Compilation Error\n  The selection criterion 'x' does not match any enabled nodes",
            RunReason.NOTHING_SELECTED,
        ),
        ("Runtime Error\n  Got a state selector method, but no comparison manifest", RunReason.STATE_UNAVAILABLE),
        ("Internal Error\n  No comparison run_results", RunReason.STATE_UNAVAILABLE),
        ("Usage Error\n  --full-refreshh", RunReason.USAGE_ERROR),
        ("Compilation Error in operation shop-on-run-end-0 (./dbt_project.yml)\n  no", RunReason.HOOK_FAILED),
        ("Runtime Error\n  at path ['on-run-start']: {} is no list\n\nError in dbt_project.yml", RunReason.PARSE_ERROR),
        ("Database error while running on-run-start", RunReason.HOOK_FAILED),
        ("list index out of range", RunReason.DBT_ERROR),
    ],
)
def test_errors_of_a_plain_dbt_are_told_by_their_text(text: str, reason: RunReason) -> None:
    lines = [core_line("MainReportVersion", {"version": "=1.12.6"}), core_line("MainEncounteredError", {"exc": text})]
    assert _said(folded(lines), PodEnd(kind="Error", exit_code=2)) == (RunPhase.FAILED, reason)


def _fatal(kind: str, message: str, *before: str) -> Outcome:
    log = RunnerLog()
    for said in before:
        log.add("SemanticValidationFailure", {"msg": said}, level="error", said=said)
    return _outcome(log.finish(2, error={"kind": kind, "message": message}), PodEnd(kind="Error", exit_code=2))


TWO_MODELS = """Compilation Error
  dbt found two models with the name "a".

  Since these resources have the same name, dbt will be unable to find the correct resource
  when looking for ref("a").

  To fix this, change the name of one of these resources:
  - model.shop.a (models/x/a.sql)
  - model.shop.a (models/a.sql)"""
TWO_DESCRIPTIONS = """Compilation Error
  dbt found two schema.yml entries for the same resource named a. To fix this, remove the resource entry for a in one of
  these files:
   - models/t.yml
  models/s.yml"""
TWO_MACROS = """Compilation Error
  dbt found multiple macros named "f" in the project "shop".
   All macros require unique names, to fix this error rename or remove any
  duplicates. They can be found in these files:
      - macros/g.sql
      - macros/f.sql"""
IN_A_MACRO = """Compilation Error in model orders (models/orders.sql)
  no such thing

  > in macro load (macros/load.sql)
  > called by model orders (models/orders.sql)"""


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            TWO_MODELS,
            "change the name of one of these resources: model.shop.a (models/x/a.sql), model.shop.a (models/a.sql).",
        ),
        (TWO_DESCRIPTIONS, "remove the resource entry for a in one of these files: models/t.yml, models/s.yml."),
        (TWO_MACROS, "remove any duplicates. They can be found in these files: macros/g.sql, macros/f.sql."),
        (
            IN_A_MACRO,
            "in model orders (models/orders.sql): no such thing > in macro load (macros/load.sql) > called by",
        ),
    ],
)
def test_all_files_that_an_error_names_are_in_the_message(text: str, part: str) -> None:
    assert part in _fatal("parse", text).message


BROKEN_PROFILE = """Runtime Error

  dbt encountered an error while trying to read your profiles.yml file.

  Runtime Error
    Syntax error near line 3
    ------------------------------
    1  | shop:
    2  |   password: hunter2
    3  | \toutputs: {}
    4  |

    Raw Error:
    ------------------------------
    while scanning a plain scalar
      in "<unicode string>", line 2, column 11
    found a tab character that violates indentation
      in "<unicode string>", line 3, column 1"""


def test_a_syntax_error_in_a_profile_has_its_place_and_nothing_of_the_file() -> None:
    outcome = _fatal("profile", BROKEN_PROFILE)
    assert outcome.reason is RunReason.PROFILE_ERROR
    assert "Syntax error near line 3 while scanning a plain scalar in line 2, column 11" in outcome.message
    assert "found a tab character that violates indentation in line 3, column 1" in outcome.message
    assert "hunter2" not in outcome.message


def test_an_error_that_points_back_comes_with_what_was_said_before() -> None:
    text, first = "Parsing Error\n  Semantic Manifest validation failed.", "In semantic model `sm`, `b` is used twice"
    assert _fatal("parse", text, first).message.endswith(f"validation failed: {first}.")
    assert f"{first} (and 2 more errors)." in _fatal("parse", text, first, "second", first, "third").message
    assert _fatal("other", "", first).message == f"dbt ended with an error: {first}."
    # Other errors have words of their own.
    assert first not in _fatal("parse", "Parsing Error\n  no such column", first).message


def test_a_missing_right_is_told_as_one() -> None:
    outcome = _fatal("database", "Database Error\n  permission denied for database shop")
    assert outcome.reason is RunReason.DATABASE_ERROR
    assert outcome.message == (
        "The warehouse refused what dbt asked of it: Database Error: permission denied for database shop; "
        "check the rights of the user in spec.profile."
    )
    # The runner goes by the class of the exception, which is that of a lost connection here.
    refused = 'connection to server at "db" failed: FATAL:  permission denied for database "shop"'
    assert _fatal("connection", f"Database Error\n  {refused}").reason is RunReason.DATABASE_ERROR
    assert _fatal("connection", "Database Error\n  what only this driver says").reason is RunReason.CONNECTION_FAILED
    assert _fatal("database", "Database Error\n  server closed the connection").reason is RunReason.CONNECTION_FAILED


def test_a_hook_that_finds_no_warehouse_may_be_tried_again_as_others_are() -> None:
    hook = "  > called by operation shop-on-run-start-0"
    assert _fatal("database", f"Database Error\n  no such table\n{hook}").reason is RunReason.HOOK_FAILED
    lost = f"Database Error\n  connection to server failed: Connection refused\n{hook}"
    assert _fatal("connection", lost).reason is RunReason.CONNECTION_FAILED


def test_a_cancelled_run() -> None:
    log = RunnerLog().select(model("a"), model("b")).run(A).start(B).add("CancelRequested", {"signal": "SIGTERM"})
    assert ending_of(state=log.state, pod=PodEnd(kind="Lost")) is Ending.CANCELLED
    assert _said(log, PodEnd(kind="Error", exit_code=137)) == (RunPhase.CANCELLED, RunReason.CANCELLED)
    log.finish(2, cancelled=True, success=False, error={"kind": "interrupted", "message": ""})
    outcome = _outcome(log, PodEnd(kind="Error", exit_code=2))
    assert (outcome.phase, outcome.reason) == (RunPhase.CANCELLED, RunReason.CANCELLED)
    assert outcome.message == "The run was cancelled; 1 of 2 nodes had succeeded."


def test_a_cancel_that_came_too_late_changes_nothing() -> None:
    log = _green().add("CancelRequested", {"signal": "SIGTERM"}).finish(0)
    assert _said(log, EXITED) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)


def test_a_plain_command_without_a_last_event_ends_as_its_process_does() -> None:
    state = folded(recorded("run_operation.jsonl"))
    assert _said(state, EXITED) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert _said(state, PodEnd(kind="Error", exit_code=1))[0] is RunPhase.FAILED
    assert _said(state, PodEnd(kind="Lost")) == (RunPhase.FAILED, RunReason.POD_LOST)


def test_an_error_of_fusion_about_no_node() -> None:
    lines = [
        core_line("MainReportVersion", {"version": "=2.0.0"}),
        core_line("Generic", {"msg": "error: dbt1005: Could not find profile named 'x'"}, level="error"),
        core_line("CommandCompleted", {"success": False}),
    ]
    outcome = _outcome(folded(lines), PodEnd(kind="Error", exit_code=1))
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.PROFILE_ERROR)
    assert "Could not find profile named 'x'" in outcome.message


def test_a_failed_node_of_fusion_has_its_text_from_an_event_without_a_name() -> None:
    lines = [
        core_line("MainReportVersion", {"version": "=2.0.0"}),
        core_line("LogStartLine", {"node_info": node_info(A, node_status="started")}),
        core_line("Generic", {"msg": "no such column", "node_info": {"unique_id": A}}, level="error"),
        core_line("LogModelResult", {"node_info": node_info(A, node_status="error"), "status": "error"}),
        core_line("LogModelResult", {"node_info": node_info(B, node_status="skipped"), "status": "skipped"}),
        core_line("CommandCompleted", {"success": False}),
    ]
    outcome = _outcome(folded(lines))
    assert outcome.reason is RunReason.NODES_FAILED
    assert outcome.message == "1 of 2 nodes failed: a (no such column); 1 was skipped because of it."


def test_only_a_few_of_many_failures_are_named() -> None:
    log = RunnerLog().select(*(model(f"m{number}") for number in range(30)))
    for number in range(30):
        log.run(f"model.shop.m{number}", "error", message="x" * 2000)
    outcome = _outcome(log.finish(1))
    assert outcome.message.startswith("30 of 30 nodes failed: m0 (xxx")
    assert "m3 (" not in outcome.message
    assert len(outcome.message.encode()) <= 1100


def test_success_that_names_neither_what_was_asked_for_nor_any_result_is_none() -> None:
    outcome = _outcome(RunnerLog().digest({}).finish(0, results=0), EXITED)
    assert (outcome.phase, outcome.reason) == (RunPhase.FAILED, RunReason.DBT_ERROR)
    assert "not known which nodes it was asked for" in outcome.message


def test_success_needs_the_whole_digest_where_it_is_not_known_what_was_asked_for() -> None:
    log = RunnerLog().run(A).digest({A: "success"})
    assert _said(log.finish(0, results=1), EXITED) == (RunPhase.SUCCEEDED, RunReason.ALL_SUCCEEDED)
    assert _said(RunnerLog().run(A).finish(0, results=2), EXITED) == (RunPhase.FAILED, RunReason.POD_LOST)
