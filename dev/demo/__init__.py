"""The demo: two runs of the jaffle shop on the cluster, shown as they happen."""
