"""A dbt that is a program, as images with dbt 2 have it: dbt 2 itself, and dbt 1 behind a script of the shell."""

import os
import subprocess
from pathlib import Path

# The Python with dbt 2, as `make test` and `python -m dev.versions 2` set it.
DBT_2 = "DBT_OPERATOR_TEST_DBT_2_PYTHON"
# dbt 2 downloads its drivers when it needs them. This one is in the wheel of DuckDB, which expects a Python around it.
DRIVER = """manifest_version = 1
name = "DuckDB"
version = "{version}"
[ADBC]
version = "v1.1.0"
[Driver]
entrypoint = "duckdb_adbc_init"
shared = "{library}"
"""
_ABOUT = """
import _duckdb, duckdb, os, sysconfig
print(_duckdb.__file__, duckdb.__version__, os.path.join(*sysconfig.get_config_vars("LIBDIR", "INSTSONAME")))
"""


def script(folder: Path, *, program: Path) -> Path:
    """A folder for the PATH in which `dbt` is a script that starts this program."""
    folder.mkdir()
    (folder / "dbt").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (folder / "dbt").chmod(0o755)
    return folder


def drivers(folder: Path, *, python: Path) -> dict[str, str]:
    """The variables with which dbt 2 finds its driver for DuckDB in the environment of this Python."""
    answer = subprocess.run([str(python), "-c", _ABOUT], check=True, capture_output=True, text=True).stdout
    library, version, around = answer.split()
    folder.mkdir()
    (folder / "duckdb.toml").write_text(DRIVER.format(version=version, library=library))
    return {"ADBC_DRIVER_PATH": str(folder), "LD_PRELOAD": around}


def dbt_2() -> Path | None:
    """The Python of an environment with dbt 2, where there is one."""
    named = os.environ.get(DBT_2)
    return Path(named) if named else None
