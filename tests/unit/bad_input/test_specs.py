"""Each spec that the operator cannot use: what the user is told, and that nothing is begun."""

import asyncio
from typing import Any

import pytest

from dbt_operator.api.names import DEFAULTS, DEFAULTS_KEY
from tests.bad_input.cases import Spec, specs
from tests.unit.bad_input.checks import assert_nothing_is_left, assert_one_sentence
from tests.unit.reconcile.api_server import ApiServer
from tests.unit.reconcile.operator import Operator, run, until

CASES = specs()
NAMESPACES = {case.case: f"case-{number}" for number, case in enumerate(CASES)}


@pytest.fixture(scope="module")
def server() -> ApiServer:
    """An API server with a namespace for each case, after an operator has ended all of the runs."""
    server = ApiServer()
    for case in CASES:
        namespace = NAMESPACES[case.case]
        server.put("dbtruns", run(namespace=namespace, **case.spec))
        if case.defaults is not None:
            metadata = {"name": DEFAULTS, "namespace": namespace}
            server.put("configmaps", {"metadata": metadata, "data": {DEFAULTS_KEY: case.defaults}})
    asyncio.run(ended(server))
    return server


async def ended(server: ApiServer) -> None:
    """Let an operator end all runs."""
    operator = Operator(server)
    async with operator.at_work():
        await until(lambda: all(status(server, one).get("completionTime") for one in NAMESPACES.values()))
        await until(lambda: not operator.loops)


def status(server: ApiServer, namespace: str) -> dict[str, Any]:
    """Of the run in a namespace."""
    found: dict[str, Any] = server.objects["dbtruns", namespace, "nightly"].get("status") or {}
    return found


@pytest.mark.parametrize("case", CASES, ids=[each.case for each in CASES])
def test_the_user_is_told_in_one_sentence(case: Spec, server: ApiServer) -> None:
    told = status(server, NAMESPACES[case.case])
    assert (told["phase"], told["reason"], told["message"]) == ("Failed", case.reason, case.message)
    assert_one_sentence(told["message"])


def test_nothing_is_begun(server: ApiServer) -> None:
    assert_nothing_is_left(server.objects.items())
    assert server.names("jobs") == []
    assert server.names("dbtmodels") == []
