"""A pruned network in the forms that other code reads: plain tensors, torch.nn.utils.prune, and made smaller."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.compact import compact, speed_up, written
from lottery.mask import Mask
from lottery.tensors import encode
from lottery.ticketfile import opened, trained

if TYPE_CHECKING:
    from lottery.store import Store


def plain_state(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The state dict of the dense network with each pruned weight 0."""
    return mask.apply(model.state_dict())


def prune_form(model: nn.Module, mask: Mask) -> nn.Module:
    """A copy on which torch.nn.utils.prune holds the mask: `weight_orig` and `weight_mask` in place of each weight."""
    held = deepcopy(model)
    for name in mask:
        path, _, parameter = name.rpartition(".")
        bits = mask[name].to(held.get_parameter(name).device)
        prune.custom_from_mask(held.get_submodule(path), parameter, bits)  # type: ignore[no-untyped-call]
    return held


def export(store: Store, key: str, data: Path, form: str, *, trained_weights: bool = True) -> tuple[bytes, list[str]]:
    """A ticket's network as a safetensors file in one of the forms dense, prune and compact, and what to say of it.

    Raises as `lottery.ticketfile.export`."""
    ticket = opened(store, key, data)
    model, mask = ticket.model(), ticket.mask
    if trained_weights:
        model.load_state_dict(trained(store, ticket.chain[0]))
    if form == "dense":
        return encode(plain_state(model, mask)), []
    if form == "prune":
        return encode(prune_form(model, mask).state_dict()), []
    made = compact(model, mask, ticket.shape)
    speed = speed_up(model, made.model, ticket.shape)
    lines = [*_removed(made.layers), f"{made.parameters[1]:,} of {made.parameters[0]:,} parameters"]
    took, before = 1e3 * speed.compact, 1e3 * speed.masked
    lines.append(f"a forward pass of 128 takes {took:.3g} ms, before {before:.3g} ms: {speed.ratio:.2f}x as fast")
    return written(made.model, ticket.recipe.model, ticket.shape, ticket.classes), lines


def _removed(layers: list[tuple[str, int, int]]) -> Iterator[str]:
    for path, before, after in layers:
        yield f"{path:<24} {after:>6} of {before} units"
