"""Pruning by hand: one step of `lottery.pruning.iterative` on any network, for training loops of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Any, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import effective, lent, own_parameters, prunable
from lottery.network.layout import Layout, load, state_of
from lottery.network.wrappers import matched, plain_name, unwrapped
from lottery.plan.keys import exact
from lottery.pruning.amounts import Pruning
from lottery.pruning.examples import Batches, Examples
from lottery.pruning.iterative import select
from lottery.pruning.mask import Mask, fitted
from lottery.pruning.scoring import Context, Lazy, Scores, Weights, scoring
from lottery.recipe.criterion_rules import no_path_sum
from lottery.registry import Entry
from lottery.seed import generator, stream
from lottery.traits import CriterionTraits, Scope
from lottery.values import Component

Loss = Callable[[Tensor, Tensor], Tensor]


def prune(
    model: nn.Module,
    amount: float | Fraction,
    scope: Scope | None = None,
    criterion: str | Mapping[str, Any] = "magnitude",
    *,
    mask: Mask | None = None,
    rates: Mapping[str, float] | None = None,
    rounds: int | None = None,
    initial: nn.Module | Mapping[str, Tensor] | None = None,
    data: Batches | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> Mask:
    """Return the mask that is left of a network when a share of its surviving weights is pruned.

    Weights of linear, convolutional, recurrent and attention layers are pruned, a shared one once; biases,
    normalizations and embeddings never are. The model stays as it is: hold the mask on it with `lottery.masked`. With
    the `mask` of the step before, what survives in it is pruned further:

        for _ in range(levels):
            train(model)
            mask = lottery.prune(model, 0.2, "global", mask=mask)
            model.load_state_dict(start)

    Args:
        model: The network, also inside torch.compile, DataParallel or an average of weights.
        amount: Share of the surviving weights that goes, above 0 and below 1; counts are exact, half is rounded down.
        scope: `layer` prunes each layer by itself, `global` all together, `erk` to Erdos-Renyi-kernel densities; the
            criterion's own where it is None.
        criterion: A name of `lottery list criteria`, or `{"name": "snip", "examples": 256}`. The weights with the
            highest scores stay.
        mask: The weights that survive so far; all where it is None. Layers that it does not name are not pruned.
        rates: Multiplier of the amount by layer or pattern, such as `{"output": 0.5}`; 0 leaves a layer as it is.
        rounds: Number of times the weights are scored anew on the way; the criterion's own where it is None.
        initial: The weights that training started from, for criteria that compare with them: a network or state dict.
        data: Training examples, for criteria that look at some: batches (inputs, targets) that can be gone through
            again, as a DataLoader or a list, or one pair of tensors.
        loss: Mean loss of (outputs, targets); cross-entropy, or the mean squared error where targets are fractions.
        seed: Seed of what the criterion draws; no global generator is touched.

    Returns:
        A mask within `mask`, with the names that the weights have in the network without wrappers.

    Raises:
        UsageError: The amount is out of range, the network has no weight that can be pruned, the mask is not of it, or
            the criterion is unknown or lacks what it looks at.
    """
    given = mask
    network = unwrapped(model)
    component, entry = _entry_of(criterion)
    if scope is not None and scope not in get_args(Scope):
        raise UsageError(f"scope {scope!r}: there are {', '.join(get_args(Scope))}")
    if rounds is not None and rounds < 1:
        raise UsageError(f"rounds {rounds}: is how often the weights are scored, 1 or more")
    by_layer = {layer: exact(float(rate)) for layer, rate in (rates or {}).items()}
    pruning = Pruning(scope or entry.traits.scope, _share(amount), by_layer)
    mask = Mask.dense(_prunable(network)) if given is None else _own(given, network)
    pruning.check(mask)
    examples = Examples(() if data is None else data, network, f"criterion {component.name}: ")
    scores = _ByHand(network, component, entry, initial, examples, loss, seed)
    scores.check_paths()
    names = pruning.takes_part(mask)
    left = select(state_of(network), mask, names, pruning.keep(mask), scores, rounds or entry.traits.rounds)
    return left.named({name: plain_name(name) for name in left})


def _entry_of(criterion: str | Mapping[str, Any]) -> tuple[Component, Entry[CriterionTraits]]:
    """Return a criterion with checked arguments, and its entry.

    Raises:
        UsageError: There is none, or it has no such key or value.
    """
    try:
        component, problems = registry.criteria.check(Component.parse(criterion))
    except ValueError as error:
        raise UsageError(f"criterion: {error}") from None
    if problems:
        told = "; ".join(f"{'.'.join(map(str, path))}: {message}" if path else message for path, message in problems)
        raise UsageError(f"criterion: {told}")
    return component, registry.criteria[component.name]


def _share(amount: float | Fraction) -> Fraction:
    """Return the amount as the decimal fraction that was written.

    Raises:
        UsageError: It is no share.
    """
    if isinstance(amount, bool) or not isinstance(amount, Real) or not 0 < amount < 1:
        raise UsageError(f"amount {amount!r}: is the share of the surviving weights that goes, above 0 and below 1")
    return amount if isinstance(amount, Fraction) else exact(float(amount))


def _prunable(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network that can be pruned.

    Raises:
        UsageError: There is none.
    """
    if not (weights := prunable(network)):
        raise UsageError(
            f"{type(network).__name__}: has no linear, convolutional, recurrent or attention layer whose weights could "
            "be pruned; name others by `mask`, all alive at first: lottery.Mask.dense({name: weight, ...})"
        )
    return weights


def _own(mask: Mask, network: nn.Module) -> Mask:
    """Return the mask with the network's names, each weight under its first one.

    Raises:
        UsageError: It is of another network, or names a shared weight twice.
    """
    _, mask = fitted(mask, network)
    layout, state = Layout.of(network), state_of(network)
    for name in mask:
        if name in layout.same:
            raise UsageError(f"mask: {layout.same[name]} and {name} are one weight that layers share; name it once")
    for name, shape in mask.shapes().items():
        if name not in state or tuple(state[name].shape) != shape:
            raise UsageError(f"the mask has {name} of shape {shape}, the model has not")
    return mask


@dataclass(frozen=True)
class _ByHand:
    """A criterion of the catalogue with what it may look at: scores a state of the network."""

    network: nn.Module
    component: Component
    entry: Entry[CriterionTraits]
    initial: nn.Module | Mapping[str, Tensor] | None
    examples: Examples
    loss: Loss | None
    seed: int

    def __call__(self, state: Weights, mask: Mask) -> Scores:
        draws, device = generator(self.seed, "mask"), next(self.network.parameters()).device
        weights = self._computed_with(state)
        context = Context(
            draws,
            initial=Lazy(mask, lambda name: self._initial[name]),
            alive=mask,
            network=lambda: self._with(state, mask),
            loss=self.loss or _loss,
            examples=self.examples.first,
            balanced=self.examples.of_each_class,
        )
        with scoring(self.network, device, stream(draws.initial_seed(), "score")):
            scores: Scores = self.entry.make({name: weights[name] for name in mask}, context, **self.component.args)
        return scores

    def _computed_with(self, state: Weights) -> Weights:
        """Return the state with the weights that layers compute with in place of what normalizations make them of."""
        layout = Layout.of(self.network)
        places = layout.weights.values()
        if not any(is_parametrized(self.network.get_submodule(place.path), place.attribute) for place in places):
            return state  # without a copy of the network, which not all can be copied
        return {**state, **effective(lent(self.network, layout.join(state)))}

    def _with(self, state: Weights, mask: Mask) -> nn.Module:
        """Return a copy of the network in this state, whose scored weights have gradients."""
        network = deepcopy(self.network)
        load(network, state)
        parameters, layout = dict(network.named_parameters(remove_duplicate=False)), Layout.of(network)
        for name in mask:
            parameters[layout.place(name).parameter].requires_grad_(True)
        return network.eval()

    def check_paths(self) -> None:
        """Raise UsageError where the criterion scores sums over paths, and the network is none."""
        if not self.entry.traits.paths:
            return
        from lottery.pruning.path_sums import sums_paths

        tried = deepcopy(self.network)
        own_parameters(tried, prunable(tried))
        if not sums_paths(tried, self.examples.shape):
            raise UsageError(f"criterion: {no_path_sum(self.component.name, type(self.network).__name__)}")

    @cached_property
    def _initial(self) -> Weights:
        """The initial weights that layers computed with.

        Raises:
            UsageError: They are not given, or are those of another network.
        """
        if self.initial is None:
            raise UsageError(
                f"criterion {self.component.name}: compares with the weights that training started from; hand them "
                "over as `initial`, a state dict that was copied before training"
            )
        given = unwrapped(self.initial).state_dict() if isinstance(self.initial, nn.Module) else self.initial
        own = self.network.state_dict()
        names = matched(own, given)
        for name, value in own.items():
            other = names[name]
            if other is None or getattr(given[other], "shape", None) != getattr(value, "shape", None):
                raise UsageError(f"initial: has no {name} of shape {tuple(value.shape)}, which the network has")
        layout = Layout.of(self.network)
        return self._computed_with(layout.split({name: given[other] for name, other in names.items() if other}))


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return nn.functional.mse_loss(outputs, targets)
    return nn.functional.cross_entropy(outputs, targets)
