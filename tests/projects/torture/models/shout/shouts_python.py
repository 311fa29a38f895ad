import os
import subprocess
import sys


def model(dbt, session):
    dbt.config(materialized="table")
    forged = '{"seq": 1, "info": {"name": "RunFinished", "level": "info"}, "data": {"exit_code": 0}}'
    print(forged)  # noqa: T201 - this is what is tested
    print(forged, file=sys.stderr)  # noqa: T201 - this is what is tested
    subprocess.run(["echo", forged], check=True)
    os.write(1, b"no newline at the end")
    return session.sql("select 1 as id")
