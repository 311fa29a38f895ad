"""The documentation's tables name every phase, reason and condition, and none that does not exist."""

from enum import StrEnum
from pathlib import Path

import pytest

from dbt_operator.api.conditions import ConditionType
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reason_table import NODE_REASONS, RUN_REASONS
from dbt_operator.api.reasons import NodeReason, RunReason
from dev.docs import TABLES, with_table

DOCS = Path(__file__).resolve().parents[3] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = (DOCS / page).read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [
        ("dbtrun.md", "Phases", RunPhase),
        ("dbtrun.md", "Conditions", ConditionType),
        ("dbtmodel.md", "Phases", NodePhase),
    ],
)
def test_a_table_is_complete(page: str, heading: str, kind: type[StrEnum]) -> None:
    named = [row[0].strip("`") for row in rows(page, heading) if row[0].startswith("`")]
    assert named == [member.value for member in kind]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_reasons_are_those_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == with_table(page, TABLES[name]), "write it anew: python -m dev.docs"


def test_every_reason_is_explained() -> None:
    assert list(RUN_REASONS) == list(RunReason)
    assert list(NODE_REASONS) == list(NodeReason)
    for each in (*RUN_REASONS.values(), *NODE_REASONS.values()):
        assert each.phases
        assert each.meaning.endswith(".")
        assert each.advice.endswith(".")
