"""The development cluster: a single-node Kubernetes on this machine, kind, or the current context."""
