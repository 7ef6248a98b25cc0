"""Checks that the network takes each size of batch that a study puts through it in training mode.

A normalization that looks at a batch has no spread of one value: torch's batch normalization refuses a batch of one
example of feature vectors or of maps with one position, in the middle of a training. A pass before it tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import on_device
from lottery.runner.timelines import search_length, whole_timeline
from lottery.training.running_statistics import check_recalibration
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.runner.context import RunContext


@dataclass(frozen=True)
class Refusal:
    """The layer that does not take a batch, and why, in words."""

    layer: str
    why: str


@dataclass
class TriedNetwork:
    """The recipe's network as `check_batches` tries it, with what was found of each size."""

    context: RunContext
    seed: int
    _tried: dict[int, Refusal | None] = field(default_factory=dict)

    def refusal(self, size: int) -> Refusal | None:
        """Return why the network takes no batch of so many examples in training mode, None where it does.

        Two examples stand for any larger batch, and zeros in a network without values for what trains. Where they are
        refused, training examples have the last word, as many as asked for in a network with values.
        """
        few = min(size, 2)
        if few not in self._tried:
            shape = self.context.splits.input_shape
            self._tried[few] = refusal(self.context.networks.blank(), torch.zeros(few, *shape))
        return self._tried[few] and self._certain(size)

    def _certain(self, size: int) -> Refusal | None:
        """Return why a network with values takes no batch of so many training examples, None where it does."""
        x, _ = next(self.context.data(self.seed).evaluation("train", size))
        return refusal(self.context.networks.drawn().to(x.device), x)


def check_batches(context: RunContext, seed: int) -> None:
    """Try each size of batch that a training of the study would meet.

    The sizes are those of any seed. The last batch of a pass counts where a training is long enough to meet it. Scoring
    meets none: criteria see the network in evaluation mode, or examples of all classes and no last one alone.

    Raises:
        UsageError: Where the network does not take one of them.
    """
    network, recipe = TriedNetwork(context, seed), context.plan.recipe
    for key, length, size, examples in trained_batches(context):
        # parts of a batch, where `accumulate` asks for them, are of two examples at least
        if (refused := network.refusal(length)) is not None:
            raise UsageError(_message(key, refused, length, size, examples))
    if any(registry.branches[branch.name].traits.mask_alone for branch in recipe.branches):
        check_recalibration(context.networks.blank())


def trained_batches(context: RunContext) -> Iterator[tuple[str, int, int, int]]:
    """Yield each length of a batch that a training of the study meets, the last and smaller one of a pass too.

    That is the key of the recipe that sets it, its length, the size of the other batches, and the number of examples.
    """
    for key, optimizer, dataset, factor in _trainings(context):
        whole, examples = whole_timeline(context, optimizer, dataset), context.sizes(dataset).train
        size = whole.batch_size
        rest = examples % size if int(whole.total * factor) >= whole.steps_per_epoch else 0
        for length in sorted({min(size, examples), rest} - {0}, reverse=True):
            yield key, length, size, examples


def check_other_model(model: nn.Module, shape: tuple[int, ...], name: str) -> None:
    """Raise UsageError where a control's own network has a layer that gives a constant."""
    refused = refusal(on_device(model, "cpu"), torch.zeros(2, *shape))
    if isinstance(refused, _Constant):
        raise UsageError(f"branch {name}: {refused.layer} {refused.why}; leave the branch out at this level")


def refusal(model: nn.Module, x: Tensor) -> Refusal | None:
    """Return why the model does not take the batch x in training mode, None where it does.

    Its statistics move, and its power iterations; the process-wide generators are left as they were.
    """
    inside: list[str] = []
    handles = []
    for name, layer in model.named_modules():
        handles.append(layer.register_forward_pre_hook(partial(_enter, inside, name)))
        handles.append(layer.register_forward_hook(lambda *_: inside.pop() and None))
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            model.train()
            model(x)
    except _OneValueAlone as error:
        return _Constant(inside[-1], str(error))
    except Exception as error:  # a model of anybody's, which may raise anything
        return Refusal(inside[-1] if inside else "the model", str(error).partition("\n")[0] or type(error).__name__)
    finally:
        for handle in handles:
            handle.remove()
    return None


class _OneValueAlone(ValueError):
    """Raised where a layer normalizes each value by itself."""


class _Constant(Refusal):
    """A layer that takes the batch and gives a constant."""


def _enter(inside: list[str], name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Note the layer that is entered in `inside`; a hook of `refusal`.

    Raises _OneValueAlone for a layer that would normalize one value.
    """
    inside.append(f"{name} ({type(layer).__name__})" if name else type(layer).__name__)
    together = 0
    if isinstance(layer, nn.GroupNorm) and inputs:
        together = inputs[0][0].numel() // layer.num_groups
    elif isinstance(layer, nn.LayerNorm):
        together = math.prod(layer.normalized_shape)
    if together == 1:
        raise _OneValueAlone("normalizes each value by itself, which leaves 0 of any input")


def _trainings(context: RunContext) -> Iterator[tuple[str, Component, Component | None, Fraction]]:
    """Yield each kind of training of the study.

    That is the key of the recipe that sets its batches, its optimizer, data beside the recipe's where it has others,
    and how many times as long as the recipe says it is at most.
    """
    recipe = context.plan.recipe
    longest = [Fraction(1)]
    longest += [
        search_length(context, job)
        for job in context.plan
        if job.seed == recipe.seeds[0] and job.branch is not None and registry.branches[job.branch.name].traits.longer
    ]
    for index, optimizer in enumerate(recipe.train.optimizer):
        yield _key("train.batch_size", f"train.optimizer.{index}", optimizer), optimizer, None, max(longest)
    for index, branch in enumerate(recipe.branches):
        own, dataset = (branch.component.args.get(name) for name in ("optimizer", "dataset"))
        if isinstance(own, Component):
            key = _key("train.batch_size", f"branches.{index}.optimizer", own)
            yield f"{key} (branch {branch.label})", own, None, Fraction(1)
        if dataset is not None:
            for optimizer in recipe.train.optimizer:
                yield f"branches.{index}.dataset", optimizer, dataset, Fraction(1)


def _key(common: str, place: str, optimizer: Component) -> str:
    """Return the key of the recipe that sets the batches of an optimizer."""
    return f"{place}.batch_size" if "batch_size" in optimizer.args else common


def _message(key: str, refused: Refusal, length: int, size: int, count: int) -> str:
    """Return the words of an error: which key leads to which batch, and what to write in its place."""
    if isinstance(refused, _Constant):
        return f"model: {refused.layer} {refused.why}; take another normalization, or other widths"
    if length > 1:
        return (
            f"{key}: a batch of {length} examples does not go through {refused.layer} in training: {refused.why}; "
            "take another normalization, model or size of batches"
        )
    if size == 1:
        return f"{key}: a batch of one example, which {refused.layer} cannot take: {refused.why}; write 2 or more"
    way = "train.batch_size" if key.endswith("dataset") else "it"
    return (
        f"{key}: the last of the batches of {size} would be one of {count} examples alone, which {refused.layer} "
        f"cannot take: {refused.why}; change {way}, or data.limit by one"
    )
