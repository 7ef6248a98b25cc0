"""Published claims about curvature, on small networks."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lottery.landscape.lanczos import extreme_eigenvalues
from lottery.landscape.matrices import curvature
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Surface
from lottery.values import Part
from tests.support.surfaces import streams

pytestmark = pytest.mark.slow


def sharpnesses(rate: float, momentum: float, steps: int, every: int = 100) -> list[float]:
    """Return lambda_max of a tanh network with two hidden layers along training by full-batch gradient descent."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(200, 20, generator=draws)
    y = torch.eye(5)[torch.randint(5, (200,), generator=draws)]
    model = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 5))

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, y

    at = Surface(model, batches, loss=nn.MSELoss())
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    found = []
    for step in range(steps):
        if step % every == 0:
            top = extreme_eigenvalues(curvature(at), streams(), Memo(), f"{step}", steps=40)
            found.append(float(top.values[0]))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return found


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.0), (2.0, 0.0), (2.0, 0.9)])
def test_the_largest_eigenvalue_climbs_to_the_edge_of_stability(rate: float, momentum: float) -> None:
    """Cohen et al. 2021: full-batch gradient descent sharpens until 2 / rate, (2 + 2 beta) / rate with momentum."""
    edge = (2 + 2 * momentum) / rate
    found = sharpnesses(rate, momentum, steps=2000)
    assert found[0] < 0.9 * edge
    assert statistics.median(found[-5:]) == pytest.approx(edge, rel=0.05)


@pytest.mark.data
def test_about_as_many_eigenvalues_stand_out_as_there_are_classes(real_data: Path) -> None:
    """Papyan 2019; Ghorbani et al. 2019: one outlier for each class, or one less, above a bulk."""
    from torchvision.datasets import MNIST

    data = MNIST(str(real_data), train=True)
    x, y = data.data[:2000].flatten(1).float() / 255, data.targets[:2000]
    x = x - x.mean(0)
    draws = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(10):
        for part in torch.randperm(len(x), generator=draws).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, y

    at = Surface(model, batches, loss=nn.CrossEntropyLoss())
    values = extreme_eigenvalues(curvature(at), streams(), Memo(), "top", largest=20).values[:20]
    outliers = 1 + int((values[:-1] / values[1:]).argmax())  # those before the widest gap on a log axis
    assert outliers in (9, 10)
