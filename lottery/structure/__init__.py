"""The structure of pruned networks: connected weights and dead units, compact networks, multiply-adds."""
