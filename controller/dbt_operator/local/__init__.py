"""A DbtRun without a cluster: the same planner and loop, with processes for pods and a file for an API server."""
