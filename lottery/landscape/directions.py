"""Directions on a surface: random ones, normalized filter by filter, over the survivors of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from lottery.landscape.surface import Surface
from lottery.network.weights import places


def random_direction(surface: Surface, draws: torch.Generator) -> Tensor:
    """Return a direction (n,) of independent normal numbers.

    A number is drawn for each weight, pruned ones included: under every mask of a network the same stream gives the
    same direction, restricted to the survivors.
    """
    shapes = {name: p.shape for name, p in surface.model.named_parameters() if p.requires_grad}
    drawn = {name: torch.randn(shape, generator=draws, dtype=torch.float64) for name, shape in shapes.items()}
    return surface.flat({name: value.to(surface.device) for name, value in drawn.items()}).to(surface.dtype)


def filter_normalized(surface: Surface, direction: Tensor, at: Tensor) -> Tensor:
    """Return a direction (n,) whose filters have the norms of those at a point (n,).

    A filter is what one unit reads: a row of a weight, of which the survivors count. A filter without survivors has
    none; biases and normalizations do not move. Source: Li et al. 2018.
    """
    filters = {place.parameter for place in places(surface.model)}
    there, found = surface.spread(at.double()), surface.spread(direction.double())
    for name, value in found.items():
        if name not in filters:
            found[name] = torch.zeros_like(value)
            continue
        rows, own = value.flatten(1), there[name].flatten(1)
        norms, wanted = rows.norm(dim=1, keepdim=True), own.norm(dim=1, keepdim=True)
        found[name] = torch.where(norms > 0, rows * (wanted / norms), 0.0).view_as(value)
    return surface.flat(found).to(surface.dtype)


def scaled(direction: Tensor, at: Tensor) -> Tensor:
    """Return a direction (n,) with the norm of a point (n,), so that 1 on its axis is as far as the point is from 0."""
    return direction * float(at.double().norm() / direction.double().norm())
