"""The control that trains a ticket once more under another noise: order of the data, augmentation and dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.plan.origins import ABOVE, in_the_mode
from lottery.registry import branches

if TYPE_CHECKING:
    import torch

    from lottery.pruning.start import Level, Start


@branches.register(
    "resample",
    source="Frankle et al. 2020",
    origins={"": in_the_mode("the ticket's", ABOVE)},
)
def resample(level: Level, generator: torch.Generator) -> Start:
    """The ticket from where its own training starts, with the same optimizer state, under another noise of training.

    Order of the data, augmentation and dropout are drawn anew, each sample's for itself; nothing else differs. How far
    apart the two end is what noise alone does, a measure for all other differences between tickets.
    """
    import torch

    start = level.start
    noise = int(torch.randint(1, 2**62, (), generator=generator))
    return replace(start, spec=replace(start.spec, noise=noise))
