"""How adapters cancel the queries of one node: what the runner calls is there in each of which it says that it can."""

import json
import os
import re
import subprocess
from pathlib import Path

from dbt_operator.runner.queries import WAYS
from dev import dbt_venv
from tests.adapters.test_connections import ALL, FEW
from tests.conftest import CHECKOUT

BY_JOB = "bigquery"
# Of the class that the adapter has for its connections: whether it has a cancel of its own, and what it keeps of jobs.
LOOK = """
import importlib, inspect, json, sys
from dbt.adapters.sql import SQLConnectionManager
found = {}
for name in sys.argv[1:]:
    plugin = importlib.import_module(f"dbt.adapters.{name}").Plugin
    manager = plugin.adapter.ConnectionManager
    own = getattr(manager, "cancel", SQLConnectionManager.cancel) is not SQLConnectionManager.cancel
    jobs = "jobs_by_thread" in inspect.getsource(manager.__init__)
    found[name] = [plugin.adapter.type(), own, jobs]
print(json.dumps(found))
"""


def test_each_adapter_that_can_has_what_is_called() -> None:
    names = tuple(WAYS) if ALL in os.environ else FEW
    python = os.environ.get(ALL) or os.environ.get("DBT_OPERATOR_TEST_DBT_PYTHON")
    argv = [python or str(dbt_venv.location() / "bin" / "python"), "-c", LOOK, *names]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {name: [name, name != BY_JOB, name == BY_JOB] for name in names}


def test_the_documentation_names_them() -> None:
    page = (Path(CHECKOUT) / "docs" / "dbtrun.md").read_text().partition("#### Deadlines of nodes")[2]
    rows = (line.split("|")[1] for line in page.partition("\n### ")[0].splitlines() if line.startswith("| `"))
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(WAYS)
