def model(dbt, session):  # noqa: ARG001 - dbt calls it with both
    dbt.config(materialized="table")
    return dbt.ref("stg_payments")
