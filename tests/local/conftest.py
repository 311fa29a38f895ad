"""Whole runs without a cluster, by the command, with the real dbt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.desk import Desk, make_desk
from tests.unit.runner.conftest import dbt_python, session_folder, warm_python
from tests.unit.runner.postgres_server import postgres_server, programs, query
from tests.warm import warm_operator

__all__ = ["dbt_python", "session_folder", "warm_python"]


@pytest.fixture
def desk(tmp_path: Path, dbt_python: str) -> Desk:
    """A small project, for what is stopped or has to be gone at once: with processes as outside of tests."""
    return make_desk(tmp_path, Path(dbt_python))


@pytest.fixture(scope="session")
def operator(session_folder: Path) -> Path:
    """A Python whose processes need not import the operator."""
    return warm_operator(session=session_folder)


@pytest.fixture
def quick(tmp_path: Path, warm_python: Path, operator: Path) -> Desk:
    """The same, for all else."""
    return make_desk(tmp_path, warm_python, operator)


@pytest.fixture(scope="class")
def shop(warm_python: Path, operator: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A folder to work in, for runs of the tests' own projects on one database."""
    folder = tmp_path_factory.mktemp("shop")
    database = str(folder / "shop.duckdb")
    variables = ("COMMANDS_DUCKDB", "SHOP_DUCKDB", "RECOVERING_DUCKDB", "PACKAGES_DUCKDB", "DBT_DUCK")
    return Desk(folder, warm_python, dict.fromkeys(variables, database), python=operator)


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The variables with which clients find a Postgres of the tests of a module, and its database `warehouse`."""
    if programs() is None:
        pytest.skip("there is no Postgres on this machine")
    with postgres_server() as found:
        query("create database warehouse", found)
        yield found | {"PGDATABASE": "warehouse"}
