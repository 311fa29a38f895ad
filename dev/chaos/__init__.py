"""Real faults on the local cluster while runs are going on, and a check of what became of them."""
