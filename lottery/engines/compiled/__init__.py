"""Training steps on a CPU compiled by numba, for fully connected networks.

`sparse` is the engine whose cost follows the density, with the arithmetic of `kernels`; `background` the one whose
first layer skips the background of images, with that of `background_kernels`. `base` is what both share, `simd` has
sums and products of rows, `jit` compiles all of it and keeps it on disk.
"""
