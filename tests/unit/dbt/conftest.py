"""The real dbt, where what we write is read by it."""

from tests.unit.runner.conftest import archive, dbt_python, session_folder, warm_python

__all__ = ["archive", "dbt_python", "session_folder", "warm_python"]
