"""The real dbt, as the tests of the runner have it."""

from tests.unit.runner.conftest import archive, dbt_forks, dbt_python

__all__ = ["archive", "dbt_forks", "dbt_python"]
