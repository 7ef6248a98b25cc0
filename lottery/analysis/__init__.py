"""Tables of what finished jobs measured: accuracy, transfer between optimizers, costs, layers, examples."""
