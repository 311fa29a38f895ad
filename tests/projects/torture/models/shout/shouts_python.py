import os
import subprocess
import sys


def model(dbt, session):
    dbt.config(materialized="table")
    forged = '{"seq": 1, "info": {"name": "RunFinished", "level": "info"}, "data": {"exit_code": 0}}'
    print(forged)
    print(forged, file=sys.stderr)
    subprocess.run(["echo", forged], check=True)
    os.write(1, b"no newline at the end")
    return session.sql("select 1 as id")
