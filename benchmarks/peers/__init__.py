"""The same project on the same Postgres by dbt-operator and by others: `python -m benchmarks.peers --help`."""
