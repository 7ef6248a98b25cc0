"""Networks of tickets in the forms that other code reads: plain tensors, torch.nn.utils.prune, and made smaller."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.data.load import load as load_data
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
from lottery.tickets.export import open_ticket
from lottery.tickets.onnx_form import onnx_bytes
from lottery.words import counted, in_unit

if TYPE_CHECKING:
    from lottery.store.store import Store

BATCH = 128  # inputs of a forward pass whose time is told
INPUTS = "(x / 255 - mean) / std of images of 0 to 255, by channel"


def plain_state(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """Return the state dict of the dense network with each pruned weight 0; it loads strictly into the plain model."""
    return {name: value.detach().clone() for name, value in pruned(model, mask).state_dict().items()}


def prune_form(model: nn.Module, mask: Mask, shape: Sequence[int]) -> nn.Module:
    """Return a copy on which torch.nn.utils.prune holds the mask.

    Each weight gives way to its `weight_orig` and `weight_mask`. The outputs are those of the masked network, in
    training and evaluation mode; `prune.remove` of each weight leaves the plain network, pruned weights 0
    (https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html). A weight that several modules share is held
    in each.

    Args:
        model: The network; it is not changed.
        mask: Bool tensors by name, True where a weight survives.
        shape: Shape of an input without the batch.

    Raises:
        UsageError: The model reads a weight without calling its module, where torch.nn.utils.prune does not act, or its
            code cannot be followed so that nobody knows.
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
    """Refuse a model that reads a masked weight while no module that has it runs.

    Raises:
        UsageError: It does, or its code cannot be followed.
    """
    found = traced(model, shape, partial(on_device, model, "meta"))
    names = [name for name, parameter in model.named_parameters() if id(parameter) in masked]
    outside = names if found is None else [name for name in names if name in found.outside]
    if outside:
        raise UsageError(
            f"{type(model).__name__}: the form prune cannot hold {', '.join(outside)}: the model reads it without "
            "calling its module, or its code cannot be followed; export the form dense"
        )


def export_network(
    store: Store, key: str, data: Path, form: str, *, at: Reading | None = None, trained_weights: bool = True
) -> tuple[bytes, list[str]]:
    """Return a ticket's network as a file in one form, safetensors or ONNX, and lines about it.

    Args:
        store: The store that has the ticket.
        key: The first digits of its key.
        data: The data root.
        form: `dense`, `prune`, `compact` or `onnx`.
        at: The reading whose weights it gets; None for that of the best validation accuracy, or the end without a
            validation split.
        trained_weights: False for the weights where training starts; then `at` plays no part.

    Raises:
        UsageError: As `lottery.tickets.export.open_ticket`, and where the ticket has no such reading.
    """
    ticket = open_ticket(store, key, data)
    model, mask, lines = ticket.model(), ticket.mask, list[str]()
    if trained_weights:
        measured = ticket.evidence["ticket"]
        reading: Reading = at or ("best_accuracy" if "best_accuracy" in measured else "end")
        load(model, read_trained(store, ticket.key, mask, reading))
        lines.append(_measured_in_words(reading, measured[reading]))
    if form == "dense":
        return encode(plain_state(model, mask)), lines
    if form == "prune":
        return encode(prune_form(model, mask, ticket.shape).state_dict()), lines
    if form == "onnx":
        splits = load_data(ticket.recipe.data.component, data, ticket.recipe.data.label_noise)
        about = {"ticket": ticket.key, "data": ticket.recipe.data.component.name, "weights": "start"}
        if trained_weights:
            about["weights"] = f"step {measured[reading]['step']}, {IN_WORDS[reading]}"
        if splits.mean:
            about |= {"input": INPUTS, "mean": json.dumps(splits.mean), "std": json.dumps(splits.std)}
            lines.append(f"input: {INPUTS}; mean {_few(splits.mean)}, std {_few(splits.std)}")
        content, told = onnx_bytes(model, mask, ticket.shape, about)
        return content, [*lines, told]
    made = compact(model, mask, ticket.shape)
    lines += [*_units_in_words(made), _speed_in_words(model, made, ticket.shape)]
    return compact_bytes(made.model, ticket.recipe.model, ticket.shape, ticket.classes), lines


def _few(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _measured_in_words(reading: Reading, row: Mapping[str, Any]) -> str:
    name = "test_accuracy" if "test_accuracy" in row else "test_r2"
    return f"weights of step {row['step']}, {IN_WORDS[reading]}: {name.replace('_', ' ')} {in_unit(name, row[name])}"


def _units_in_words(made: Compacted) -> Iterator[str]:
    for row in made.rows:
        stay = f", {row.dead} of them dead" if row.dead else ""
        yield f"{row.layer:<24} {row.after:>6} of {row.before} units{stay}"
    before, after = made.parameters
    yield f"{after:,} of {before:,} parameters"


def _speed_in_words(model: nn.Module, made: Compacted, shape: tuple[int, ...]) -> str:
    speed = speed_up(model, made.model, shape, batch=BATCH)
    took, before = 1e3 * speed.compact, 1e3 * speed.masked
    return (
        f"a forward pass of {BATCH} takes {took:.3g} ms, before {before:.3g} ms: {speed.ratio:.2f}x as fast "
        f"(CPU, {counted(torch.get_num_threads(), 'thread')})"
    )
