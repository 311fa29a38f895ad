"""`python -m dev.docs` writes the tables of the documentation that are made of the code: those of the reasons."""

from collections.abc import Mapping
from pathlib import Path

from dbt_operator.api.reason_table import NODE_REASONS, RUN_REASONS, About
from dbt_operator.api.reasons import NodeReason, RunReason

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLES: Mapping[str, Mapping[RunReason, About] | Mapping[NodeReason, About]] = {
    "dbtrun.md": RUN_REASONS,
    "dbtmodel.md": NODE_REASONS,
}
_HEADING = "### Reasons\n"
_TITLES = "| Reason | Phase | Meaning | What to do |\n|---|---|---|---|\n"


def table(reasons: Mapping[RunReason, About] | Mapping[NodeReason, About]) -> str:
    """The reasons as a table in Markdown."""
    rows = (
        f"| `{reason}` | {', '.join(each.phases)} | {each.meaning} | {each.advice} |\n"
        for reason, each in reasons.items()
    )
    return _TITLES + "".join(rows)


def with_table(page: str, reasons: Mapping[RunReason, About] | Mapping[NodeReason, About]) -> str:
    """The text of a page with the table in the place of the one that it has."""
    before, heading, after = page.partition(_HEADING)
    intro, titles, rest = after.partition(_TITLES)
    if not (heading and titles):
        raise ValueError("the page has no table of reasons")
    lines = rest.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return "".join((before, heading, intro, table(reasons), *lines[end:]))


if __name__ == "__main__":
    for name, reasons in TABLES.items():
        path = DOCS / name
        path.write_text(with_table(path.read_text(), reasons))
