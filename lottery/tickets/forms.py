"""A pruned network in the forms that other code reads: plain tensors, torch.nn.utils.prune, and made smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.errors import UsageError
from lottery.files.tensors import encode
from lottery.network.build import on_device
from lottery.network.layout import load, traced
from lottery.pruning.mask import Mask, whole
from lottery.recipe.readings import IN_WORDS, Reading
from lottery.results.artifacts import read_trained
from lottery.structure.compact import Compacted, compact, pruned
from lottery.structure.compact_file import compact_bytes
from lottery.structure.speed import speed_up
from lottery.tickets.export import opened
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.store.store import Store

BATCH = 128  # inputs of a forward pass whose time is told


def plain_state(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The state dict of the dense network with each pruned weight 0; it loads strictly into the plain model."""
    return {name: value.detach().clone() for name, value in pruned(model, mask).state_dict().items()}


def prune_form(model: nn.Module, mask: Mask, shape: Sequence[int]) -> nn.Module:
    """A copy on which torch.nn.utils.prune holds the mask: `weight_orig` and `weight_mask` in place of each weight.

    Its outputs are those of the masked network, in training and evaluation mode; `prune.remove` of each weight leaves
    the plain network, pruned weights 0 (https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html).
    A weight that several modules share is held in each. `shape` is that of an input without the batch. Raises
    UsageError for a model that reads a weight without calling its module, where torch.nn.utils.prune does not act, and
    for one whose code cannot be followed so that nobody knows.
    """
    held, masks, name_of = pruned(model, mask), dict(whole(model, mask)), dict[int, str]()
    parameters = dict(held.named_parameters(remove_duplicate=False))
    for name in masks:
        name_of[id(parameters[name])] = name
    _refuse_outside(held, {id(parameters[name]) for name in masks}, shape)
    for name, parameter in parameters.items():
        if id(parameter) in name_of:
            path, _, attribute = name.rpartition(".")
            bits = masks[name_of[id(parameter)]].to(parameter.device)
            prune.custom_from_mask(held.get_submodule(path), attribute, bits)  # type: ignore[no-untyped-call]
    return held


def _refuse_outside(model: nn.Module, masked: set[int], shape: Sequence[int]) -> None:
    """Raises UsageError where a masked weight is read while no module that has it runs."""
    found = traced(model, shape, partial(on_device, model, "meta"))
    names = [name for name, parameter in model.named_parameters() if id(parameter) in masked]
    outside = names if found is None else [name for name in names if name in found.outside]
    if outside:
        raise UsageError(
            f"{type(model).__name__}: the form prune cannot hold {', '.join(outside)}: the model reads it without "
            "calling its module, or its code cannot be followed; export the form dense"
        )


def export(
    store: Store, key: str, data: Path, form: str, *, at: Reading | None = None, trained_weights: bool = True
) -> tuple[bytes, list[str]]:
    """A ticket's network as a safetensors file in one of the forms dense, prune and compact, and what to say of it.

    Args:
        store: Where the ticket is.
        key: The first digits of its key.
        data: The data root.
        form: dense, prune or compact.
        at: The reading whose weights it gets. Where it is None that of the best validation accuracy, the end without a
            validation split.
        trained_weights: False for the weights where training starts; then `at` plays no part.

    Raises:
        UsageError: As `lottery.tickets.export.opened`, and where the ticket has no such reading.
    """
    ticket = opened(store, key, data)
    model, mask, lines = ticket.model(), ticket.mask, list[str]()
    if trained_weights:
        measured = ticket.evidence["ticket"]
        reading: Reading = at or ("best_accuracy" if "best_accuracy" in measured else "end")
        load(model, read_trained(store, ticket.key, mask, reading))
        lines.append(_measured(reading, measured[reading]))
    if form == "dense":
        return encode(plain_state(model, mask)), lines
    if form == "prune":
        return encode(prune_form(model, mask, ticket.shape).state_dict()), lines
    made = compact(model, mask, ticket.shape)
    lines += [*_removed(made), _speed(model, made, ticket.shape)]
    return compact_bytes(made.model, ticket.recipe.model, ticket.shape, ticket.classes), lines


def _measured(reading: Reading, row: Mapping[str, Any]) -> str:
    name = "test_accuracy" if "test_accuracy" in row else "test_r2"
    return f"weights of step {row['step']}, {IN_WORDS[reading]}: {name.replace('_', ' ')} {row[name]:.4f}"


def _removed(made: Compacted) -> Iterator[str]:
    for row in made.rows:
        stay = f", {row.dead} of them dead" if row.dead else ""
        yield f"{row.layer:<24} {row.after:>6} of {row.before} units{stay}"
    before, after = made.parameters
    yield f"{after:,} of {before:,} parameters"


def _speed(model: nn.Module, made: Compacted, shape: tuple[int, ...]) -> str:
    speed = speed_up(model, made.model, shape, batch=BATCH)
    took, before = 1e3 * speed.compact, 1e3 * speed.masked
    return (
        f"a forward pass of {BATCH} takes {took:.3g} ms, before {before:.3g} ms: {speed.ratio:.2f}x as fast "
        f"(CPU, {counted(torch.get_num_threads(), 'thread')})"
    )
