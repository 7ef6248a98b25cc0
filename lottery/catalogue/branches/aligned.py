"""The control that takes another seed's mask in the order in which that seed's network is most like one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.catalogue.branches.controls import Kept, of_the_mask, under
from lottery.registry import branches

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lottery.pruning.start import Level, Start


def _has_units(network: nn.Module, args: Mapping[str, Any]) -> None:
    """Raise UsageError where no units of the network can be permuted."""
    from lottery.errors import UsageError
    from lottery.landscape.permutations import hidden_units

    try:
        hidden_units(network)
    except UsageError as error:
        raise UsageError(str(error).replace("`align`", "the control")) from error


@branches.register(
    "aligned",
    source="Adnan et al. 2025; Ainsworth et al. 2023",
    partner=True,
    suits=_has_units,
    origins=of_the_mask("that of the next seed's ticket, aligned"),
)
def aligned(level: Level, generator: torch.Generator, *, weights: Kept = "mode") -> Start:
    """The mask of another seed's ticket of this level, its hidden units in the order of this seed's, on own weights.

    The order is the one in which the other seed's trained dense network is nearest to this seed's (weight matching, see
    the analysis `barrier`); what is moved is the mask alone. Its control is `transplant`, the same mask as it is. Which
    weights it is put on, and how training goes on from them, is as in `shuffle`.
    """
    from lottery.landscape.alignment import weight_matching
    from lottery.landscape.permutations import hidden_units, permuted
    from lottery.pruning.mask import Mask

    groups = hidden_units(level.network(level.model, generator))
    orders = weight_matching(groups, level.dense, level.partner.dense, generator)
    return under(level, Mask(permuted(dict(level.partner.mask), groups, orders)), weights)
