"""Controls that take the signs of a ticket's weights away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.branches.controls import Positive, anew, signed_constant
from lottery.plan.origins import in_any_mode
from lottery.registry import branches

if TYPE_CHECKING:
    import torch

    from lottery.pruning.start import Level, Start


@branches.register(
    "random_signs",
    source="Zhou et al. 2019",
    own_trunk=True,
    origins={"": in_any_mode("one absolute value a layer, signs drawn anew", "the ticket's")},
)
def random_signs(level: Level, generator: torch.Generator, *, magnitude: Positive = 1.0) -> Start:
    """The control `constant` with a sign drawn for each weight, 1 or -1 with equal chance, trained from step 0."""
    import torch

    weights = dict(signed_constant(level, magnitude))
    for name in level.mask:
        signs = torch.randint(2, weights[name].shape, generator=generator) * 2 - 1
        weights[name] = weights[name].abs() * signs
    return anew(level, level.mask, weights)
