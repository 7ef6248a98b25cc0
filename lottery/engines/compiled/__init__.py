"""Training steps on a CPU compiled by numba, for fully connected networks."""
