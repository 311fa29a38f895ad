"""The DbtRuns that the examples for other tools create are ones that the API server accepts."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import Api
from tests.contract.crd_copies import Kind, copy_of, install, remove
from tests.embedding.examples import runs

RUNS = list(runs())


@pytest.fixture(scope="module")
def kind(api: Api) -> Iterator[Kind]:
    """A copy of the CRD."""
    made = install(api, copy_of("dbtruns", group=f"t{uuid.uuid4().hex[:8]}.dbt-operator.io", kind="EmbeddedRun"))
    yield made
    remove(made)


@pytest.mark.parametrize("run", [run for _, run in RUNS], ids=[where for where, _ in RUNS])
def test_an_embedded_run_is_accepted(run: dict[str, Any], kind: Kind) -> None:
    assert (run["apiVersion"], run["kind"]) == ("dbt-operator.io/v1alpha1", "DbtRun")
    assert set(run["metadata"]) <= {"name", "generateName", "labels", "annotations", "ownerReferences"}
    kind.made(run["spec"])
