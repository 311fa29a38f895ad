"""What the documents tell a person to apply: each manifest is one that kubectl and the API server accept.

The text is handed to kubectl as it stands, for it is kubectl's reader of YAML that decides what a word means.
"""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import Api
from tests.conftest import CHECKOUT, Kubectl
from tests.contract.crd_copies import RUN_SPEC, Kind, copy_of, install, remove

BLOCK = re.compile(r"^```ya?ml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATCH = re.compile(r"kubectl patch dbtrun \S+ .*-p '(.*?)'")
# A block that begins with the name of such a file belongs to dbt, and is no manifest.
OF_DBT = re.compile(r"# (dbt_project|profiles|schema)\.yml\n")
OF_CHART = "# values.yaml\n"  # … and this one to the chart
# Each kind, and what its copy is called here.
KINDS = {"dbtruns": "DocumentedRun", "dbtmodels": "DocumentedModel", "dbtconnections": "DocumentedConnection"}
APPLY = ("apply", "--dry-run=server", "--validate=strict", "--namespace=default", "--filename=-")


def place(path: Path, page: str, offset: int = 0) -> str:
    line = page.count("\n", 0, offset) + 1
    return f"{path.relative_to(CHECKOUT)}:{line}"


def completed(fragment: str) -> str:
    """A block that shows a part of the spec of a DbtRun, with what else the spec needs."""
    head = "apiVersion: dbt-operator.io/v1alpha1\nkind: DbtRun\nmetadata: {name: fragment}\n"
    missing = (f"  {name}: {json.dumps(value)}\n" for name, value in RUN_SPEC.items() if f"\n  {name}:" not in fragment)
    return head + fragment + "".join(missing)


def patched(patch: str) -> str:
    """A DbtRun as it is after a merge patch, which is JSON."""
    wanted = json.loads(patch)
    spec = RUN_SPEC | wanted.pop("spec")
    kind = {"apiVersion": "dbt-operator.io/v1alpha1", "kind": "DbtRun", "metadata": {"name": "patched"}}
    return json.dumps(kind | wanted | {"spec": spec})


def of_page(path: Path) -> Iterator[tuple[str, str]]:
    """The manifests of a page: its blocks of YAML and its patches."""
    page = path.read_text()
    for block in BLOCK.finditer(page):
        if not OF_DBT.match(block[1]) and not block[1].startswith(OF_CHART):
            text = block[1] if "apiVersion:" in block[1] else completed(block[1])
            yield place(path, page, block.start()), text
    for patch in PATCH.finditer(page):
        yield place(path, page, patch.start()), patched(patch[1])


def pages() -> list[Path]:
    """The documents."""
    found = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").rglob("*.md")]
    return sorted([*found, *(CHECKOUT / "examples").rglob("*.md")])


def chart_values() -> list[tuple[str, str]]:
    """Where each of the chart's values stands, and its text."""
    blocks = ((path, page, block) for path in pages() for page in [path.read_text()] for block in BLOCK.finditer(page))
    return [(place(path, page, at.start()), at[1]) for path, page, at in blocks if at[1].startswith(OF_CHART)]


def manifests() -> list[tuple[str, str]]:
    """Where each manifest stands, and its text."""
    files = sorted((CHECKOUT / "examples").glob("*/*.yaml"))
    found = [(place(path, ""), path.read_text()) for path in files]
    return found + [each for path in pages() for each in of_page(path)]


@pytest.fixture(scope="module")
def kinds(api: Api) -> Iterator[tuple[Kind, ...]]:
    """The CRDs of the checkout under other names."""
    group = f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"
    own = [install(api, copy_of(plural, group=group, kind=kind)) for plural, kind in KINDS.items()]
    yield tuple(own)
    for kind in own:
        remove(kind)


def renamed(text: str, kinds: tuple[Kind, ...]) -> str:
    """The same manifest for the copies of the CRDs."""
    text = re.sub(r"\bdbt-operator\.io/v1alpha1\b", f"{kinds[0].group}/v1alpha1", text)
    return re.sub(r"\bDbt(Run|Model|Connection)\b", r"Documented\1", text)


@pytest.mark.parametrize("manifest", [pytest.param(text, id=where) for where, text in manifests()])
def test_a_manifest_of_the_documents_is_accepted(manifest: str, kubectl: Kubectl, kinds: tuple[Kind, ...]) -> None:
    applied = kubectl(*APPLY, stdin=renamed(manifest, kinds))
    assert "(server dry run)" in applied


@pytest.mark.parametrize("wrong", ["  retry:\n    on: [Error]\n", "  selekt: [orders]\n", "  fullRefresh: on_\n"])
def test_a_wrong_word_in_a_document_would_be_refused(wrong: str, kubectl: Kubectl, kinds: tuple[Kind, ...]) -> None:
    kubectl.refused(*APPLY, stdin=renamed(completed(f"spec:\n{wrong}"), kinds))
