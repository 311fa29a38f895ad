"""Datasets and tables, and what a statement does to them, by its first words."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Resource = dict[str, Any]
Name = tuple[str, str, str]
"""Project, dataset, table."""

_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_QUOTED = r"((?:`[^`]+`|[\w$-]+)(?:\s*\.\s*(?:`[^`]+`|[\w$-]+))*)"
_KINDS = (
    (rf"create\s+schema\s+(?:if\s+not\s+exists\s+)?{_QUOTED}", "CREATE_SCHEMA"),
    (rf"drop\s+schema\s+(?:if\s+exists\s+)?{_QUOTED}", "DROP_SCHEMA"),
    (rf"create\s+(?:or\s+replace\s+)?(?:temp\s+)?table\s+(?:if\s+not\s+exists\s+)?{_QUOTED}", "CREATE_TABLE"),
    (rf"create\s+(?:or\s+replace\s+)?view\s+(?:if\s+not\s+exists\s+)?{_QUOTED}", "CREATE_VIEW"),
    (rf"drop\s+table\s+(?:if\s+exists\s+)?{_QUOTED}", "DROP_TABLE"),
    (rf"drop\s+view\s+(?:if\s+exists\s+)?{_QUOTED}", "DROP_VIEW"),
    (rf"alter\s+(?:table|view)\s+(?:if\s+exists\s+)?{_QUOTED}", "ALTER_TABLE"),
    (rf"truncate\s+table\s+{_QUOTED}", "TRUNCATE_TABLE"),
    (rf"merge\s+(?:into\s+)?{_QUOTED}", "MERGE"),
    (rf"insert\s+(?:into\s+)?{_QUOTED}", "INSERT"),
    (rf"update\s+{_QUOTED}", "UPDATE"),
    (rf"delete\s+(?:from\s+)?{_QUOTED}", "DELETE"),
    (r"(?:select|with|\()", "SELECT"),
)
DML = frozenset(("MERGE", "INSERT", "UPDATE", "DELETE", "TRUNCATE_TABLE"))


@dataclass(frozen=True)
class Statement:
    """What a text does. `name`: of the relation that it makes, changes or drops, as the text has it."""

    kind: str
    name: tuple[str, ...] = ()
    parts: tuple["Statement", ...] = ()  # of a script


def read(text: str) -> Statement:
    """What this text does; a text of several statements is a script."""
    bare = _COMMENT.sub(" ", text).strip().rstrip(";").strip()
    parts = tuple(_one(part.strip()) for part in bare.split(";") if part.strip())
    return parts[0] if len(parts) == 1 else Statement("SCRIPT", parts=parts)


def _one(text: str) -> Statement:
    for pattern, kind in _KINDS:
        found = re.match(pattern, text, re.IGNORECASE)
        if found is None:
            continue
        name = tuple(found[1].replace("`", "").replace(" ", "").split(".")) if found.groups() else ()
        if kind == "CREATE_TABLE" and re.search(r"\bas\s*\(|\bas\s+(select|with)\b", text, re.IGNORECASE):
            kind = "CREATE_TABLE_AS_SELECT"
        return Statement(kind, name)
    return Statement("SCRIPT")


@dataclass
class Table:
    """A table or a view. `created` and `modified`: milliseconds."""

    name: Name
    kind: str
    created: int
    modified: int
    rows: int = 0
    body: Resource = field(default_factory=dict)

    def resource(self) -> Resource:
        """As tables.get shows it."""
        project, dataset, table = self.name
        view = {"view": {"query": "select 1", "useLegacySql": False}} if self.kind == "VIEW" else {}
        return {
            "kind": "bigquery#table",
            "id": f"{project}:{dataset}.{table}",
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": table},
            "type": self.kind,
            "creationTime": str(self.created),
            "lastModifiedTime": str(self.modified),
            "numRows": str(self.rows),
            "numBytes": str(self.rows * 8),
            "schema": {"fields": [{"name": "id", "type": "INTEGER", "mode": "NULLABLE"}]},
            "location": "US",
            **view,
            **self.body,
        }


class Catalog:
    """What there is. Times are given, so that what a job does has the time of its end."""

    def __init__(self) -> None:
        self.datasets: dict[tuple[str, str], Resource] = {}
        self.tables: dict[Name, Table] = {}
        self.applied: list[Statement] = []

    def full(self, name: tuple[str, ...], *, project: str, dataset: str = "") -> Name:
        """The whole name of a relation."""
        if len(name) == 1 and "." in name[0]:
            name = tuple(name[0].split("."))
        whole = (project, dataset, *name)[-3:] if len(name) < 3 else name[-3:]
        return whole[0], whole[1], whole[2].partition("$")[0]

    def add_dataset(self, project: str, dataset: str, body: Mapping[str, Any] | None = None) -> Resource:
        """Make it, or change it."""
        reference = {"projectId": project, "datasetId": dataset}
        resource = {"kind": "bigquery#dataset", "id": f"{project}:{dataset}", "location": "US", "access": []}
        found = self.datasets.setdefault((project, dataset), resource)
        found.update(body or {})
        found["datasetReference"] = reference
        return found

    def tables_in(self, project: str, dataset: str) -> Iterator[Table]:
        """The relations of a dataset."""
        return (table for name, table in sorted(self.tables.items()) if name[:2] == (project, dataset))

    def drop_dataset(self, project: str, dataset: str) -> bool:
        """With all that is in it; whether it was there."""
        self.tables = {name: table for name, table in self.tables.items() if name[:2] != (project, dataset)}
        return self.datasets.pop((project, dataset), None) is not None

    def apply(self, statement: Statement, *, project: str, at: int) -> str:
        """Do what the statement says; what the service would answer if it cannot."""
        for part in statement.parts:
            problem = self.apply(part, project=project, at=at)
            if problem:
                return problem
        if not statement.name:
            return ""
        if statement.kind.endswith("_SCHEMA"):
            owner, dataset = (project, *".".join(statement.name).split("."))[-2:]
            if statement.kind.startswith("CREATE"):
                self.add_dataset(owner, dataset)
            else:
                self.drop_dataset(owner, dataset)
            return ""
        name = self.full(statement.name, project=project)
        if statement.kind.startswith("CREATE"):
            self.put(name, kind="VIEW" if statement.kind == "CREATE_VIEW" else "TABLE", at=at)
        elif statement.kind.startswith("DROP"):
            self.tables.pop(name, None)
        elif name not in self.tables:
            return f"Not found: Table {name[0]}:{name[1]}.{name[2]} was not found in location US"
        else:
            self.tables[name].modified = at
            self.tables[name].rows += statement.kind in ("INSERT", "MERGE")
        self.applied.append(statement)
        return ""

    def put(self, name: Name, *, kind: str, at: int, rows: int = 1) -> None:
        """Make a relation, in the place of any other of this name."""
        self.tables[name] = Table(name=name, kind=kind, created=at, modified=at, rows=rows)
