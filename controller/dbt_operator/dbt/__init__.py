"""What dbt says: decoding its events, the graph, folding events into node states. Pure."""
