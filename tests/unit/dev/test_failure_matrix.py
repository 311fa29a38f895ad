"""docs/failure-matrix.md names what proves each claim: a test, an invariant of the simulation, or a chaos fault.

Each of them exists. Each promise of docs/reliability.md has one, and each failure has one or says why it has none.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dev.chaos.faults import FAULTS

CHECKOUT = Path(__file__).resolve().parents[3]
TESTS = CHECKOUT / "tests"
RELIABILITY = (CHECKOUT / "docs" / "reliability.md").read_text()
PAGE = (CHECKOUT / "docs" / "failure-matrix.md").read_text()
PROOF = re.compile(r"`(?:(?P<file>[\w/]+\.py)::(?P<test>[\w:]+)|(?P<kind>simulation|chaos): (?P<name>[^`]+))`")
NONE = re.compile(r"^No test: .+\.$")


def section(page: str, heading: str) -> str:
    """What stands under a heading of the second level."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(section: str) -> list[list[str]]:
    """The cells of the tables of a section, without their heads."""
    tables = [list(lines) for lines in _tables(section)]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for table in tables for line in table[2:]]


def _tables(section: str) -> Iterator[list[str]]:
    table: list[str] = []
    for line in [*section.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            yield table
            table = []


@cache
def functions(file: str) -> frozenset[str]:
    """The tests of a file, those of classes as Class::test."""
    path = TESTS / file
    if not path.is_file():
        return frozenset()
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found.update(f"{node.name}::{method.name}" for method in methods)
    return frozenset(found)


@cache
def invariants() -> frozenset[str]:
    """What the simulation calls its invariants: the first argument wherever it says that one is broken."""
    trees = (ast.parse(path.read_text()) for path in sorted((TESTS / "simulation").glob("*.py")))
    calls = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    names = (
        node.args[0].value
        for node in calls
        if isinstance(node.args[0], ast.Constant) and getattr(node.func, "id", "") == "broken"
    )
    return frozenset(name for name in names if isinstance(name, str))


def _exists(proof: re.Match[str]) -> bool:
    if proof["file"]:
        return proof["test"].rpartition("::")[2].startswith("test_") and proof["test"] in functions(proof["file"])
    return proof["name"] in (invariants() if proof["kind"] == "simulation" else FAULTS)


@pytest.mark.parametrize("named", sorted({proof[0] for proof in PROOF.finditer(PAGE)}))
def test_what_is_named_as_a_proof_exists(named: str) -> None:
    proof = PROOF.fullmatch(named)
    assert proof is not None
    assert _exists(proof), f"docs/failure-matrix.md names {named}, which does not exist"


@pytest.mark.parametrize("row", rows(section(PAGE, "What may happen")), ids=lambda row: row[0])
def test_a_failure_has_a_proof_or_a_reason_why_it_has_none(row: list[str]) -> None:
    happens, does, proofs = row
    assert happens
    assert does.endswith(".")
    listed = proofs.split(", ")
    assert NONE.match(proofs) or all(PROOF.fullmatch(one) for one in listed), f"neither proofs nor a reason: {proofs}"


def test_each_promise_has_a_proof() -> None:
    promises = rows(section(PAGE, "What is promised"))
    named = re.findall(r"^- \*\*(.+?)[.,]?\*\*", section(RELIABILITY, "What is promised"), re.MULTILINE)
    assert [promise for promise, _, _ in promises] == named
    for promise, how, proofs in promises:
        assert how.endswith("."), promise
        assert all(PROOF.fullmatch(one) for one in proofs.split(", ")), promise


def test_each_limit_that_has_a_proof_is_explained() -> None:
    limits = rows(section(PAGE, "What is not promised"))
    assert limits
    for limit, proofs in limits:
        assert f"\n### {limit}\n" in RELIABILITY
        assert all(PROOF.fullmatch(one) for one in proofs.split(", ")), limit
