"""The one door to the cluster: the client, the log reader and the status writer."""
