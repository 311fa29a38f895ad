"""A fake of BigQuery: what its REST interface promises of jobs, and as much of a catalog as dbt needs.

It knows no SQL: a statement has the effect that its first words say. What it is for is the life of jobs: their ids,
states, errors, lost answers. It is no proof of what Google's service does.
"""
