"""The real dbt, as the tests of the runner have it."""

from tests.unit.runner.conftest import archive, dbt_python, session_folder, warm_python

__all__ = ["archive", "dbt_python", "session_folder", "warm_python"]
