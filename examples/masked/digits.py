"""Share what the scripts beside this one have in common: images of digits, a small network, what came of a mask."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lottery

TRAINED_ON = 1400  # of 1,797 images; the others test


def images() -> tuple[Tensor, Tensor]:
    """Return the images (n, 64), scaled to [0, 1], and their classes (n,), in the order of scikit-learn."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)


def batches(size: int = 32) -> DataLoader:
    """Return shuffled batches of the training images."""
    x, y = images()
    data = TensorDataset(x[:TRAINED_ON], y[:TRAINED_ON])
    return DataLoader(data, batch_size=size, shuffle=True, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    """Return a new network, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Return the share of the test images that are recognized."""
    x, y = images()
    return float((model(x[TRAINED_ON:]).argmax(1) == y[TRAINED_ON:]).float().mean())


def revived(model: nn.Module, mask: lottery.Mask) -> int:
    """Return how many of the pruned weights are not zero."""
    state = model.state_dict()
    return sum(int(state[name][~alive].count_nonzero()) for name, alive in mask.items())


def report(network: str, model: nn.Module, mask: lottery.Mask) -> None:
    """Print what a training under a mask came to."""
    pruned = sum(mask.sizes().values()) - sum(mask.alive().values())
    print(
        f"{network}: density {mask.density:.4f}, test accuracy {accuracy(model):.4f}, "
        f"{revived(model, mask):,} of {pruned:,} pruned weights are not zero"
    )
