"""Controls that take the signs of a ticket's weights away, or put those that it ends with on other weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.branches.controls import Positive, anew, sign_of, signed_constant
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


@branches.register(
    "trained_signs",
    source="Oh et al. 2025",
    claim="magnitudes",
    origins={"": in_any_mode("drawn anew with the signs the ticket ends with", "the ticket's")},
)
def trained_signs(level: Level, generator: torch.Generator) -> Start:
    """The ticket's mask on newly drawn weights that have the signs with which the ticket's training ends, from step 0.

    Nothing else of the ticket is left: absolute values, biases and normalizations are another draw of the init. As the
    signs are learned, the control has seen a training before its own; `same_sign` has those from before it.
    """
    learned, drawn = level.trained, level.fresh(generator)
    signed = {name: drawn[name].abs() * sign_of(learned[name]) for name in level.mask}
    return anew(level, level.mask, {**drawn, **signed})
