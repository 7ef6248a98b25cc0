"""Streams of randomness, and the seeds of torch's own generators."""

from __future__ import annotations

import torch

from lottery.seed import seed_torch


def test_a_seed_gives_the_draws_on_a_cpu_that_torch_itself_gives_for_it() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2**62 + 5)
        expected = torch.rand(4)
        seed_torch(2**62 + 5, torch.device("cpu"))
        assert torch.equal(torch.rand(4), expected)
