"""The documentation's tables name every phase, reason and condition, and none that does not exist."""

from enum import StrEnum
from pathlib import Path

import pytest

from dbt_operator.api.conditions import ConditionType
from dbt_operator.api.phases import NodePhase, RunPhase
from dbt_operator.api.reasons import NodeReason, RunReason

DOCS = Path(__file__).resolve().parents[3] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    section = (DOCS / page).read_text().partition(f"### {heading}\n")[2].partition("\n#")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return table[2:]


@pytest.mark.parametrize(
    ("page", "heading", "kind"),
    [
        ("dbtrun.md", "Reasons", RunReason),
        ("dbtrun.md", "Phases", RunPhase),
        ("dbtrun.md", "Conditions", ConditionType),
        ("dbtmodel.md", "Reasons", NodeReason),
        ("dbtmodel.md", "Phases", NodePhase),
    ],
)
def test_a_table_is_complete(page: str, heading: str, kind: type[StrEnum]) -> None:
    named = [row[0].strip("`") for row in rows(page, heading) if row[0].startswith("`")]
    assert named == [member.value for member in kind]


@pytest.mark.parametrize(("page", "kind"), [("dbtrun.md", RunPhase), ("dbtmodel.md", NodePhase)])
def test_reasons_are_given_phases_that_exist(page: str, kind: type[StrEnum]) -> None:
    for reason, phases, meaning, advice in rows(page, "Reasons"):
        assert set(phases.split(", ")) <= {member.value for member in kind}, reason
        assert meaning.endswith(".")
        assert advice.endswith(".")
