"""Count the pruned weights that retraining without a mask revives: `python benchmarks/unmasked.py`; LeNet needs MNIST.

A network is trained with Adam, its smallest weights are set to zero, the others back to where they started, and it is
trained again in a plain loop that knows no mask: what many scripts do that prune by zeroing."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from logbook import keep
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lottery
from lottery.data.load import load
from lottery.data.loader import Data
from lottery.network.build import build_model, prunable
from lottery.paths import data_root
from lottery.pruning.mask import keep_top
from lottery.values import Component

STEPS = (1, 10, 100, 1500)
CASES = {  # data, model, init, learning rate, batch size, density
    "lenet-mnist": ("mnist", Component("lenet"), "glorot_normal", 1.2e-3, 60, 0.2),
    "quickstart, 0.02": (
        "mnist1d",
        Component("mlp", {"widths": [500, 500], "residual": True}),
        "torch",
        2e-2,
        100,
        0.125,
    ),
    "quickstart, 0.005": (
        "mnist1d",
        Component("mlp", {"widths": [500, 500], "residual": True}),
        "torch",
        5e-3,
        100,
        0.125,
    ),
}


def batches(data: Data, size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the first `steps` batches, pass after pass."""
    per_epoch = data.steps_per_epoch(size)
    for step in range(steps):
        if step % per_epoch == 0:
            epoch = data.epoch(step // per_epoch, size)
        yield next(epoch)


def revived(model: nn.Module, mask: lottery.Mask) -> float:
    """Return the share of the weights pruned by `mask` that are not zero."""
    weights = prunable(model)
    pruned = sum(int((~mask[name]).sum()) for name in mask)
    return sum(int(torch.count_nonzero(weights[name][~mask[name]])) for name in mask) / pruned


def measure(
    data: str, model: Component, init: str, lr: float, batch_size: int, density: float, steps: tuple[int, ...] = STEPS
) -> dict[int, float]:
    """Return the share of pruned weights that are not zero after each of `steps` steps of retraining."""
    splits = load(Component(data), data_root())
    source = Data(splits, seed=0, device=torch.device("cpu"))
    net = build_model(model, source.input_shape, splits.classes, init=Component(init), seed=0)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    dense = lottery.Mask.dense(prunable(net))

    def train() -> dict[int, float]:
        optimizer, shares = torch.optim.Adam(net.parameters(), lr=lr), {}
        for step, (x, y) in enumerate(batches(source, batch_size, max(steps)), 1):
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
            optimizer.step()
            if step in steps:
                shares[step] = revived(net, mask) if mask.density < 1 else 0.0
        return shares

    mask = dense
    train()
    scores = {name: weight.detach().abs() for name, weight in prunable(net).items()}
    mask = keep_top(scores, dense, {name: round(density * size) for name, size in dense.sizes().items()})
    net.load_state_dict(mask.apply(start))
    return train()


def main() -> None:
    results: list[dict[str, object]] = []
    for name, case in CASES.items():
        shares = measure(*case)
        print(f"{name:18} density {case[-1]}  " + "  ".join(f"{step}: {share:.1%}" for step, share in shares.items()))
        results.append({"case": name, "density": case[-1], "revived": shares})
    keep("unmasked", results)


if __name__ == "__main__":
    main()
