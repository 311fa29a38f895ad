"""dbt on Kubernetes without a workflow engine."""

__version__ = "0.1.0"
