"""The engines that compute training steps: torch, CUDA graphs, compiled kernels; and the choice among them.

`choose` takes one, `support` says which networks and optimizers each can train, `cuda_graph` replays recorded steps on
a GPU. `lockstep` trains several networks at a time, of one shape as one (`stacked`) or side by side (`branches`). The
sparse engine and the one that skips the background of images are in `compiled`; the dense one, torch's own steps, is
`lottery.training.engine`.
"""
