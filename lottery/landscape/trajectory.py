"""The plane of a training: principal components of the states along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery.errors import UsageError


@dataclass(frozen=True)
class Components:
    """The principal components of a trajectory.

    Attributes:
        directions: The first ones, orthonormal, (k, n).
        coordinates: Where the states are along them as seen from the last state, (states, k).
        explained: Fraction of the variance that each component explains, all of them, the highest first.
    """

    directions: Tensor
    coordinates: Tensor
    explained: Tensor


def components(vectors: Sequence[Tensor], count: int = 2) -> Components:
    """Return the first principal components of states along a training, each (n,).

    Differences from the last state are centered, as in Li et al. 2018. Two components explain much of any long walk,
    82 % of a random one in many dimensions (Antognini & Sohl-Dickstein 2018): read `explained` against that. They come
    from the inner products of the states, so that memory is that of two more of them, in double precision. A sign is
    chosen so that the first state's coordinate is not positive.

    Raises:
        UsageError: The states vary in fewer directions than asked for, or are not finite.
    """
    last = vectors[-1].double()
    products = torch.empty(len(vectors), len(vectors), dtype=torch.float64)
    for i, one in enumerate(vectors):
        difference = one.double() - last
        for j in range(i + 1):
            products[i, j] = products[j, i] = float(difference @ (vectors[j].double() - last))
    if not bool(products.isfinite().all()):
        raise UsageError("a state of the training is not finite, so that it has no principal components")
    centered = products - products.mean(0) - products.mean(1, keepdim=True) + products.mean()
    values, vectors_of = torch.linalg.eigh(centered)
    values, vectors_of = values.flip(0).clamp(min=0), vectors_of.flip(1)
    if len(values) <= count or not bool(values[count - 1] > 1e-12 * values.sum()):
        raise UsageError(
            f"the {len(vectors)} states that were kept along the training vary in fewer than {count} directions; keep "
            "more of them"
        )
    directions = torch.zeros(count, len(last), dtype=torch.float64, device=last.device)
    for one, weights in zip(vectors, vectors_of[:, :count], strict=True):
        directions += weights[:, None].to(last.device) * (one.double() - last)  # weights sum to 0: this is centered
    directions /= values[:count, None].sqrt().to(last.device)
    coordinates = torch.stack([directions @ (one.double() - last) for one in vectors])
    sign = torch.where(coordinates[0] > 0, -1.0, 1.0)
    explained = values[:-1] / values.sum()  # one fewer than states
    return Components(directions * sign[:, None], coordinates.cpu() * sign.cpu(), explained)


def needed(explained: Tensor, share: float = 0.9) -> int:
    """Return the number of components that explain this share of the variance together."""
    return int((explained.cumsum(0) < share - 1e-12).sum()) + 1
