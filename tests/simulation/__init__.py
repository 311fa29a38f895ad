"""Deterministic simulation of the planner: a cluster, dbt, users and faults, all drawn from one number."""
