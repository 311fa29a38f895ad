"""Connections against the adapters of dbt themselves."""
