"""Each manifest that the API server refuses: what the user is told."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import Api
from tests.bad_input.cases import Manifest, manifests
from tests.contract.crd_copies import RUN_SPEC, Kind, copy_of, install, remove

CASES = manifests()
COPIES = {"DbtRun": "BadRun", "DbtConnection": "BadConnection"}
PLURALS = {"DbtRun": "dbtruns", "DbtConnection": "dbtconnections"}
SPECS: dict[str, dict[str, Any]] = {"DbtRun": RUN_SPEC, "DbtConnection": {"type": "postgres"}}


@pytest.fixture(scope="module")
def kinds(api: Api) -> Iterator[dict[str, Kind]]:
    """Copies of the CRDs, by the kinds that they are copies of."""
    group = f"t{uuid.uuid4().hex[:8]}.dbt-operator.io"
    made = {kind: install(api, copy_of(PLURALS[kind], group=group, kind=name)) for kind, name in COPIES.items()}
    yield made
    for kind in made.values():
        remove(kind)


@pytest.mark.parametrize("case", CASES, ids=[each.case for each in CASES])
def test_the_api_server_says_in_one_sentence_why(kinds: dict[str, Kind], case: Manifest) -> None:
    kind = kinds[case.kind]
    spec = SPECS[case.kind] | case.spec
    manifest = {"apiVersion": f"{kind.group}/v1alpha1", "kind": kind.kind, "metadata": {"name": "bad"}, "spec": spec}
    told = kind.api.creation_refused(kind.path("default"), manifest | own_group(case.manifest, kind))
    assert users_words(told, kind, case) == case.message


def own_group(changes: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The changes of a manifest, with the group of the copy."""
    version = changes.get("apiVersion")
    return changes | ({"apiVersion": version.replace("dbt-operator.io", kind.group)} if version else {})


def users_words(told: str, kind: Kind, case: Manifest) -> str:
    """What is said, with the names of the CRD itself."""
    names = ((kind.group, "dbt-operator.io"), (kind.plural, PLURALS[case.kind]), (kind.kind, case.kind))
    for copied, original in names:
        told = told.replace(copied, original)
    return told
