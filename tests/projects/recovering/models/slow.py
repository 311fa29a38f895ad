# Keeps dbt at work for a while after flaky has failed, so that a retry would find it there.
import time


def model(dbt, session):
    dbt.config(materialized="table")
    time.sleep(10)
    return session.sql("select 1 as id")
