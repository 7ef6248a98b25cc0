"""Hold a mask on a network in an Accelerate loop, with bf16, accumulation, clipping, AdamW and a one-cycle schedule.

Run it with `python examples/masked/in_accelerate.py` (needs `pip install accelerate`). Enter `lottery.masked` after
`prepare`, which moves the network to its device; it takes the wrappers that `prepare` returns, or what is inside them.
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from digits import accuracy, batches, network, report
from torch import nn

import lottery


def train(model: nn.Module, epochs: int, mask: lottery.Mask | None = None) -> None:
    """Train, with the mask held where there is one."""
    accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2, cpu=True)
    optimizer, data = torch.optim.AdamW(model.parameters(), weight_decay=0.01), batches()
    steps = epochs * -(-len(data) // accelerator.gradient_accumulation_steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    wrapped, stepper, data, schedule = accelerator.prepare(model, optimizer, data, schedule)

    held = lottery.Mask.dense(dict(model.named_parameters())) if mask is None else mask
    with lottery.masked(wrapped, held, stepper):
        for _ in range(epochs):
            for x, y in data:
                with accelerator.accumulate(wrapped):
                    accelerator.backward(nn.functional.cross_entropy(wrapped(x), y))
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
                    stepper.step()
                    schedule.step()
                    stepper.zero_grad()


def main(epochs: int = 20) -> None:
    """Train the dense network, then its ticket without and with the mask held."""
    dense = network()
    train(dense, epochs)
    mask = lottery.prune(dense, 0.9)
    print(f"dense: test accuracy {accuracy(dense):.4f}")

    loose = network()
    loose.load_state_dict(mask.apply(loose.state_dict()))
    train(loose, epochs)
    report("not held", loose, mask)

    ticket = network()
    train(ticket, epochs, mask)
    report("held", ticket, mask)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
