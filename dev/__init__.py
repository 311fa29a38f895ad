"""Commands for development: the local cluster and the container images."""
