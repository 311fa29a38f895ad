"""Secrets in a run of a real dbt: wherever a text is cut they are masked, and nothing is decided by a masked text."""

import pytest

from tests.unit.runner.conftest import Project

SECRET = "".join(f"{number:02d}-" for number in range(40))  # each part of it occurs once

_PRINTS = """
import os
import time

SECRET = os.environ["SHOUTED"]


def model(dbt, session):
    dbt.config(materialized="table")
    # Around each place where a line is cut in pieces, and within what is read at once.
    for before in range(1800 - len(SECRET), 1801, 7):
        print("x" * before + SECRET)
    print("x" * 65500 + SECRET)
    # As a process does that is interrupted in the middle of a line.
    os.write(1, b"written in two steps: " + SECRET[:60].encode())
    time.sleep(0.6)
    os.write(1, SECRET[60:].encode() + b" end\\n")
    for letter in SECRET:
        os.write(2, letter.encode())
    os.write(2, b"\\nand a part of it: " + SECRET[:50].encode())
    return session.sql("select 1 as id")
"""
_JINJA = """
{% if execute %}
  {% for before in range(1790 - 120, 1800, 7) %}
    {% do print('y' * before ~ env_var('SHOUTED')) %}
    {% do log('y' * before ~ env_var('SHOUTED'), info=True) %}
  {% endfor %}
  {% do exceptions.warn('z' * 2000 ~ env_var('SHOUTED')) %}
{% endif %}
select 1 as id
"""


def _fails(length: int) -> str:
    return (
        f"{{% if execute %}}{{{{ exceptions.raise_compiler_error('z' * {length} ~ env_var('SHOUTED')) }}}}{{% endif %}}"
    )


@pytest.fixture
def shouting(project: Project) -> Project:
    models = {"prints.py": _PRINTS, "says.sql": _JINJA}
    # A message begins with a line that names the model: about 80 characters.
    models |= {f"fails_{length}.sql": _fails(length) for length in (60, 100, 150, 900, 1850, 1900, 1950, 2000, 4000)}
    (project.path / "models" / "shouting").mkdir()
    for name, text in models.items():
        (project.path / "models" / "shouting" / name).write_text(text)
    return project


def test_wherever_a_text_is_cut_no_part_of_a_secret_is_printed(shouting: Project) -> None:
    run = shouting.run(
        "build",
        *("--select", "path:models/shouting"),
        options=["--secret-env", "SHOUTED"],
        environment={"SHOUTED": SECRET},
    )
    assert run.results["model.torture.prints"]["status"] == "success", run.results
    assert [one["status"] for one in run.results.values()].count("error") == 9
    # What stands in several lines would be read as one text.
    said = "".join(text for _, text in run.output)
    printed = b"".join(run.lines).decode() + said
    parts = {SECRET[at : at + 8] for at in range(len(SECRET) - 7)}
    assert [part for part in parts if part in printed] == []
    assert "written in two steps: ***** end" in said
    assert "and a part of it: *****" in said


def test_a_secret_that_is_a_word_of_dbts_changes_nothing_that_is_decided(project: Project) -> None:
    environment = {
        "TYPE": "duckdb",
        "A": "torture",
        "B": "2026",
        "C": "bad_sql",
        "D": "sha256",
        "E": "ucces",
        "F": "dev",
    }
    options = [item for name in environment for item in ("--secret-env", name)]
    run = project.run("build", "--select", "+bad_sql", options=options, environment=environment)
    assert {event["adapter_name"] for event in run.named("AdapterRegistered")} == {"duckdb"}
    assert run.named("ConcurrencyLine")[-1]["target_name"] == "dev"
    assert {one: result["status"] for one, result in run.results.items() if one.startswith(("model", "seed"))} == {
        "seed.torture.s_users": "success",
        "model.torture.stg_users": "success",
        "model.torture.bad_sql": "error",
    }
    assert all(result["started_at"].startswith("20") for result in run.results.values() if result["started_at"])
    assert run.finished["digest"].startswith("sha256:")
    assert "bad_sql" not in run.results["model.torture.bad_sql"]["message"]


def test_an_adapters_name_among_the_secrets_is_no_reason_to_leave_out_files(project: Project) -> None:
    run = project.run("build", "--select", "s_users", options=["--secret-env", "TYPE"], environment={"TYPE": "duckdb"})
    assert set(run.parsed) == {"partial_parse.msgpack", "manifest.json"}
