"""Compiled code outlives the pod, without secrets, and the lines that an error names stand beside it."""

import gzip
import json
import random

import pytest

from dbt_operator.runner.compiled import content, excerpt
from dbt_operator.runner.masking import REPLACEMENT, Masker
from tests.unit.runner.conftest import Project, Run

NOTHING = Masker(values=[])
QUERY = "\n".join(
    ["/* comment */", "create table x as (", *(f"    select {row} as c{row}," for row in range(3, 90)), ")"]
)


def marked(text: str) -> str:
    """The line that is marked in an excerpt."""
    (line,) = (line for line in text.splitlines() if line.startswith(">"))
    return line


@pytest.mark.parametrize(
    "message",
    [
        "Database Error in model x (models/x.sql)\n  LINE 78:     select 78 as c78,\n              ^\n  compiled",
        "LINE 78: ...elect 78 as c...",  # as Postgres cuts it
        "000904 (42000): SQL compilation error: error line 78 at position 11\ninvalid identifier 'C78'",
        "Unrecognized name: c78 at [78:12]",
        "TrinoUserError(type=USER_ERROR, message=\"line 78:12: Column 'c78' cannot be resolved\")",
        "[PARSE_SYNTAX_ERROR] Syntax error at or near 'c78'. SQLSTATE: 42601 (line 78, pos 12)",
        "DB::Exception: Syntax error: failed at position 900 (line 78, col 12): c78",
    ],
)
def test_the_lines_around_the_one_that_the_database_names(message: str) -> None:
    shown = excerpt(query=QUERY, message=message, masker=NOTHING)
    assert marked(shown) == "> 78 | select 78 as c78,"
    assert [line[2:4] for line in shown.splitlines()] == ["75", "76", "77", "78", "79", "80"]


def test_the_text_of_the_line_says_which_it_is_where_the_database_counts_otherwise() -> None:
    # DuckDB does not count the comment before the query.
    shown = excerpt(query=QUERY, message="LINE 77: select 78 as c78,", masker=NOTHING)
    assert marked(shown) == "> 77 | select 78 as c78,"


@pytest.mark.parametrize(
    "message",
    [
        "relation does not exist",
        "LINE 5: select of another query",
        "Unrecognized name at [900:1]",
        "error line 0 at position 0",
        'Traceback\n  File "/tmp/a.py", line 3, in model\n    raise ValueError\n',
        "CSV Error on Line: 3\nOriginal Line: a,b",
        'invalid input syntax for type integer\nCONTEXT:  COPY t, line 3, column id: "x"',
        "PL/pgSQL function f() line 3 at RAISE",
    ],
)
def test_where_no_line_of_the_query_is_named_none_is_shown(message: str) -> None:
    assert excerpt(query=QUERY, message=message, masker=NOTHING) == ""
    assert excerpt(query="", message="LINE 1: x", masker=NOTHING) == ""


def test_long_lines_are_cut_around_the_error_and_an_excerpt_is_short() -> None:
    columns = [f"column_{number}" for number in range(5000)]
    query = "\n".join(["select " + ", ".join(columns)] * 9)
    named = excerpt(query=query, message=f"at [5:{query.index('column_2500') + 1}]", masker=NOTHING)
    quoted = excerpt(query=query, message="LINE 5: ...2499, column_2500, colum...", masker=NOTHING)
    for shown in (named, quoted):
        assert "column_2500" in marked(shown)
        assert len(shown) < 700


def test_a_secret_in_the_query_is_masked_also_where_it_has_several_lines_or_is_cut() -> None:
    key = "-----BEGIN\nabcdefghijklmnop\nqrstuvwxyz"
    query = f"select 1,\n'{key}' as a,\n{'x' * 60} '{'0123456789' * 4}'\nfrom nothing"
    shown = excerpt(query=query, message="LINE 6: from nothing", masker=Masker(values=[key, "0123456789" * 4]))
    assert marked(shown) == "> 6 | from nothing"
    assert REPLACEMENT in shown
    assert not any(part in shown for part in ("01234567", "abcdefgh", "qrstuvwx", "-----BEGIN"))


def test_failed_nodes_come_first_and_what_does_not_fit_is_left_out_whole() -> None:
    chance = random.Random(1)  # noqa: S311 - not for secrets: what cannot be compressed
    codes = [(f"model.a.n{number}", "success", chance.randbytes(1000).hex()) for number in range(20)]
    codes += [("model.a.huge", "error", chance.randbytes(50_000).hex()), ("model.a.bad", "error", "select nope")]
    found = [({"unique_id": one, "status": status}, code) for one, status, code in codes]
    text = content(found=found, masker=NOTHING, limit=10_000)
    assert len(gzip.compress(text)) <= 10_000
    kept = [entry["unique_id"] for entry in json.loads(text)]
    assert kept[0] == "model.a.bad"
    assert kept[1:] == [f"model.a.n{number}" for number in range(len(kept) - 1)]
    assert 5 < len(kept) < 20
    assert {entry["unique_id"]: entry["code"] for entry in json.loads(text)}.items() <= {
        one: code for one, _, code in codes
    }.items()


def compiled(run: Run) -> dict[str, str]:
    entries = json.loads(gzip.decompress(run.artifacts["compiled.json"]))
    return {entry["unique_id"]: entry["code"] for entry in entries}


@pytest.mark.needs("dbt-core", "1.9", "unit tests that are disabled")
def test_the_code_is_the_one_that_dbt_wrote(green: Run, torture: Run) -> None:
    for run in (green, torture):
        theirs = {
            result["unique_id"]: result["compiled_code"]
            for result in run.run_results()["results"]
            if (result["compiled_code"] or "").strip()
        }
        assert compiled(run) == theirs
        assert len(theirs) > 3
        assert max(map(len, run.lines)) <= 8192
    assert "model.torture.bad_sql" in compiled(torture)


def test_the_code_of_a_run_that_was_stopped_is_kept_as_far_as_it_came(project: Project) -> None:
    run = project.run(
        "build",
        *("--select", "+slow_a", "bad_sql", "+ok_model"),
        environment={"SLOW": "yes"},
        stop_at=lambda event: event["data"].get("unique_id") == "model.torture.ok_model",
    )
    assert run.finished["cancelled"]
    assert "select nocolumn" in compiled(run)["model.torture.bad_sql"]


def test_an_error_of_the_database_has_the_lines_of_its_query(project: Project) -> None:
    secret = "hunter2-hunter2"  # noqa: S105 - of this test
    (project.path / "models" / "wrong.sql").write_text(
        f"select 1 as id\n\nunion all\n\nselect 2 fro m x\nwhere y = '{secret}'\n"
    )
    (project.path / "models" / "late.sql").write_text("{{ config(post_hook='selectx 1') }}\nselect 1 as id")
    (project.path / "tests" / "wrong_test.sql").write_text("select *\nfro m range(3)")
    run = project.run(
        "build",
        *("--select", "wrong", "late", "wrong_test", "bad_jinja"),
        *("--vars", json.dumps({"badjinja": True})),
        options=["--secret-env", "SHOUTED"],
        environment={"SHOUTED": secret},
    )
    results = run.results
    for name, line in {"model.torture.wrong": "select 2 fro m x", "test.torture.wrong_test": "fro m range(3)"}.items():
        assert marked(results[name]["excerpt"]).partition(" | ")[2] == line
    assert f"where y = '{REPLACEMENT}'" in results["model.torture.wrong"]["excerpt"]
    assert "selectx 1" in marked(results["model.torture.late"]["excerpt"])
    assert "excerpt" not in results["model.torture.bad_jinja"]
    assert secret not in b"".join(run.lines).decode()
    assert compiled(run)["model.torture.wrong"].endswith(f"where y = '{REPLACEMENT}'")
