"""Whole runs without a cluster, by the command, with the real dbt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.desk import Desk, make_desk
from tests.local.warm import warm
from tests.unit.runner.conftest import dbt_python

__all__ = ["dbt_python"]


@pytest.fixture
def desk(tmp_path: Path, dbt_python: str) -> Desk:
    """A small project, for what is killed: with processes as they are made outside of tests."""
    return make_desk(tmp_path, Path(dbt_python))


@pytest.fixture(scope="session")
def warm_python(dbt_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python whose processes need not import dbt."""
    with warm(Path(dbt_python), tmp_path_factory.mktemp("warm")) as program:
        yield program


@pytest.fixture
def quick(tmp_path: Path, warm_python: Path) -> Desk:
    """The same, for all else."""
    return make_desk(tmp_path, warm_python)


@pytest.fixture(scope="class")
def shop(warm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A folder to work in, for runs of the tests' own projects on one database."""
    folder = tmp_path_factory.mktemp("shop")
    database = str(folder / "shop.duckdb")
    variables = ("COMMANDS_DUCKDB", "SHOP_DUCKDB", "RECOVERING_DUCKDB", "PACKAGES_DUCKDB", "DBT_DUCK")
    return Desk(folder, warm_python, dict.fromkeys(variables, database))
