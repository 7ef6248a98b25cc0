"""What computes the training steps: torch, CUDA graphs, compiled kernels; which is used where."""
