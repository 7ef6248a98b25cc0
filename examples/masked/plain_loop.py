"""Hold a mask on a network in a plain PyTorch loop, with bf16, accumulation, clipping, AdamW and a one-cycle schedule.

Run it with `python examples/masked/plain_loop.py`. A dense network is trained, a tenth of its weights is kept and put
back to its initial values, and this ticket is trained in the same loop, without and with its mask held. Without it,
momentum and weight decay bring the pruned weights back to life.
"""

from __future__ import annotations

import sys

import torch
from digits import accuracy, batches, network, report
from torch import nn

import lottery

ACCUMULATE = 2  # batches to a step


def train(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    """Train; nothing here knows of masks."""
    data = batches()
    steps = epochs * -(-len(data) // ACCUMULATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(epochs):
        for number, (x, y) in enumerate(data, start=1):
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(x), y) / ACCUMULATE
            loss.backward()
            if number % ACCUMULATE == 0 or number == len(data):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Return a fresh optimizer of the model."""
    return torch.optim.AdamW(model.parameters(), weight_decay=0.01)


def main(epochs: int = 20) -> None:
    """Train the dense network, then its ticket without and with the mask held."""
    dense = network()
    train(dense, adamw(dense), epochs)
    mask = lottery.prune(dense, 0.9)
    print(f"dense: test accuracy {accuracy(dense):.4f}")

    loose = network()  # the same initial values as the dense network had
    loose.load_state_dict(mask.apply(loose.state_dict()))
    train(loose, adamw(loose), epochs)
    report("not held", loose, mask)

    ticket = network()
    optimizer = adamw(ticket)
    with lottery.masked(ticket, mask, optimizer):  # pruned weights are zero from here on
        train(ticket, optimizer, epochs)
    report("held", ticket, mask)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
