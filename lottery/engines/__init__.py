"""The engines that compute training steps: torch, CUDA graphs, compiled kernels; and the choice among them."""
