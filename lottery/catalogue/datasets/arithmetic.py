"""Arithmetic as a data set: a table of which a part is shown, and the rest is to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits


@datasets.register("modular_addition", computed_by=(), source="Power et al. 2022; Minegishi et al. 2023")
def modular_addition(
    root: Path,
    *,
    p: Annotated[int, Field(strict=True, ge=2, le=256)] = 67,
    share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.4,
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0,
) -> Splits:
    """The pairs (a, b) of numbers below `p`, with (a + b) mod p as their class; a `share` of them is for training.

    An example has 2p values: a as a unit vector of p, then b as another. Of the p^2 pairs round(share p^2), drawn by
    the `seed`, are trained on, all others are the test set: what is tested is never shown. Networks that decay their
    weights may fit the training pairs long before they find the rule (grokking).
    """
    import torch
    from torch.nn.functional import one_hot

    from lottery.data.splits import Splits
    from lottery.seed import generator

    a, b = torch.arange(p * p) // p, torch.arange(p * p) % p
    x, y = torch.cat([one_hot(a, p), one_hot(b, p)], 1).float(), (a + b) % p
    count = min(max(round(share * p * p), 1), p * p - 1)
    order = torch.randperm(p * p, generator=generator(seed, "modular_addition"))
    train, test = order[:count], order[count:]
    return Splits(x[train], y[train], x[test], y[test], classes=p)
