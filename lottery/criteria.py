"""Pruning criteria: a score for each weight, high means keep; selection is `mask.keep_top`'s."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import criteria

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Examples = Annotated[int, Field(ge=1)]
Scores = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Lazy(Mapping[str, "Tensor"]):
    """Tensors by name that are made each time they are asked for and held by nobody: `make` gives the same each time.

    Scores that cost little more than looking at the weights need no memory beside them."""

    names: Collection[str]
    make: Callable[[str], Tensor]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Context:
    """What a criterion may look at beside the weights it scores.

    `initial` are the weights at the rewind point, by the names of the scored ones, and `alive` which of them have not
    been pruned, all where it has none; `network()` is a new copy of the network with the scored weights in it, in
    evaluation mode, on the device; `loss(outputs, targets)` is the mean over a batch; `examples(n)` are the first n of
    the training set in a random order that is the seed's, all where None."""

    generator: torch.Generator  # the seed's stream for this level
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    network: Callable[[], nn.Module] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    examples: Callable[[int | None], Iterator[tuple[Tensor, Tensor]]] | None = None
    alive: Mapping[str, Tensor] = field(default_factory=dict)


@criteria.register("magnitude", source="Han et al. 2015; Frankle & Carbin 2019")
def magnitude(weights: Mapping[str, Tensor], context: Context, *, same_sign: bool = False) -> Scores:
    """Absolute value of the trained weight, `large_final` in Zhou et al. 2019.

    With `same_sign` a weight that changed its sign since the rewind point counts 0, as in Zhou et al. 2019."""
    scores = Lazy(weights, lambda name: weights[name].abs())
    return _same_sign(scores, weights, context) if same_sign else scores


@criteria.register("random", source="Frankle & Carbin 2019 (control)")
def random(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Uniform random scores: which weights survive is chance."""
    import torch

    return {name: torch.rand(weight.shape, generator=context.generator) for name, weight in weights.items()}


@criteria.register("small_final", source="Zhou et al. 2019")
def small_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """The smallest trained weights are kept."""
    return Lazy(weights, lambda name: -weights[name].abs())


@criteria.register("large_init", source="Zhou et al. 2019")
def large_init(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Absolute value of the weight at the rewind point."""
    return Lazy(weights, lambda name: context.initial[name].abs())


@criteria.register("small_init", source="Zhou et al. 2019")
def small_init(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """The weights that are smallest at the rewind point are kept."""
    return Lazy(weights, lambda name: -context.initial[name].abs())


@criteria.register("large_init_large_final", source="Zhou et al. 2019")
def large_init_large_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Large at the rewind point and after training: min(a |w_f|, |w_i|).

    The factor a makes the quantiles of both meet at the threshold, as in the authors' code: each weight is scored by
    the lower of its two ranks in its layer, from 0 to 1."""
    return {
        name: _lower_rank(weight.abs(), context.initial[name].abs(), _alive(name, weight, context))
        for name, weight in weights.items()
    }


@criteria.register("small_init_small_final", source="Zhou et al. 2019")
def small_init_small_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Small at the rewind point and after training: -max(a |w_f|, |w_i|), a as in `large_init_large_final`."""
    return {
        name: _lower_rank(-weight.abs(), -context.initial[name].abs(), _alive(name, weight, context))
        for name, weight in weights.items()
    }


@criteria.register("magnitude_increase", source="Zhou et al. 2019")
def magnitude_increase(weights: Mapping[str, Tensor], context: Context, *, same_sign: bool = False) -> Scores:
    """How much the absolute value has grown since the rewind point: |w_f| - |w_i|.

    With `same_sign` a weight that changed its sign counts 0, as in the authors' code: more than one that shrank."""
    scores = Lazy(weights, lambda name: weights[name].abs() - context.initial[name].abs())
    return _same_sign(scores, weights, context) if same_sign else scores


@criteria.register("movement", source="Zhou et al. 2019")
def movement(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """How far the weight has moved since the rewind point: |w_f - w_i|.

    Another method than the movement pruning of Sanh et al. 2020."""
    return Lazy(weights, lambda name: (weights[name] - context.initial[name]).abs())


@criteria.register("gradient_weight", source="Mozer & Smolensky 1988; Molchanov et al. 2017")
def gradient_weight(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """|g w|, the change of the loss to first order when the weight goes; g is the gradient over the training set.

    In evaluation mode. At a minimum g vanishes and what is left is noise (LeCun et al. 1989 on second order)."""
    return _sensitivity(weights, context, None, training=False)


@criteria.register("snip", source="Lee et al. 2019")
def snip(weights: Mapping[str, Tensor], context: Context, *, examples: Examples = 128) -> Scores:
    """Connection sensitivity |g w| on one batch of `examples`, meant for `when: init`.

    In training mode, as in the authors' code: batch normalization uses the batch. Dropout is off."""
    return _sensitivity(weights, context, examples, training=True)


@criteria.register("grasp", source="Wang et al. 2020")
def grasp(
    weights: Mapping[str, Tensor],
    context: Context,
    *,
    examples: Examples = 250,
    temperature: Annotated[float, Field(gt=0)] = 200.0,
) -> Scores:
    """Gradient signal preservation: w Hg, the weights with the lowest -w Hg are kept, as in the authors' code.

    H and g are those of the scored weights that survive, outputs are divided by the temperature, normalizations are in
    training mode and dropout is off. The examples are the seed's first; the authors' code takes as many of each class,
    and draws linear layers anew by Glorot's rule before it scores. For `when: init`."""
    import torch

    assert context.examples is not None
    network, layers = _scored(weights, context, training=True)
    parts = list(context.examples(examples))
    count = sum(len(x) for x, _ in parts)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        assert context.loss is not None
        return context.loss(network(x) / temperature, y) * (len(x) / count)

    gradient = [torch.zeros_like(weight) for weight in layers.values()]
    for x, y in parts:
        for total, part in zip(gradient, torch.autograd.grad(loss(x, y), list(layers.values())), strict=True):
            total += part
    for total, (name, weight) in zip(gradient, layers.items(), strict=True):
        total *= _alive(name, weight, context)
    products = [torch.zeros_like(weight) for weight in layers.values()]
    for x, y in parts:
        slope = torch.autograd.grad(loss(x, y), list(layers.values()), create_graph=True)
        along = torch.stack([(a * b).sum() for a, b in zip(gradient, slope, strict=True)]).sum()
        for total, part in zip(products, torch.autograd.grad(along, list(layers.values())), strict=True):
            total += part
    return {name: (w.detach() * hg) for (name, w), hg in zip(layers.items(), products, strict=True)}


@criteria.register("synflow", source="Tanaka et al. 2020", rounds=100)
def synflow(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Synaptic flow |w| dR/d|w|: R is the sum of outputs for an input of ones, all parameters at their absolute value.

    Needs no targets and is meant for `when: init`; the counts fall exponentially in 100 rounds. In float64, since
    products over many layers leave the range of float32, and in evaluation mode, running statistics at their absolute
    value too. Where batch normalization is fresh and activations are ReLU, R is the sum over all paths."""
    import torch

    assert context.examples is not None
    network, layers = _scored(weights, context, training=False)
    network.double()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.abs_()
    x, _ = next(context.examples(1))
    flow = network(torch.ones_like(x[:1], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(flow, list(layers.values()))
    return {name: (w.detach() * g).abs() for (name, w), g in zip(layers.items(), gradients, strict=True)}


def _same_sign(scores: Scores, weights: Mapping[str, Tensor], context: Context) -> Scores:
    return Lazy(weights, lambda name: scores[name] * (weights[name].sign() == context.initial[name].sign()))


def _alive(name: str, weight: Tensor, context: Context) -> Tensor:
    """Bool of the weight's shape, on its device."""
    import torch

    if name in context.alive:
        return context.alive[name].to(weight.device)
    return torch.ones_like(weight, dtype=torch.bool)


def _lower_rank(first: Tensor, second: Tensor, alive: Tensor) -> Tensor:
    """The lower of the two ranks of each surviving value among the survivors, from 0 to 1; 0 for the others."""
    import torch

    ranks = torch.zeros(2, *first.shape, dtype=torch.float64, device=first.device)
    for rank, values in zip(ranks, (first, second), strict=True):
        order = values[alive].argsort(stable=True)
        places = torch.empty(len(order), dtype=torch.float64, device=first.device)
        places[order] = torch.linspace(0, 1, len(order), dtype=torch.float64, device=first.device)
        rank[alive] = places
    return ranks.amin(0)


def _scored(
    weights: Mapping[str, Tensor], context: Context, *, training: bool
) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """The network and its scored weights by name, each the one that its layer computes with.

    Weight normalizations are taken off, so that gradients are those of the normalized weight. In training mode the
    dropout layers are not: they draw from the process-wide generator."""
    from torch import nn

    from lottery.build import without_weight_norms

    assert context.network is not None
    network = context.network()
    layers = without_weight_norms(network, weights)
    network.train(training)
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    return network, layers


def _sensitivity(weights: Mapping[str, Tensor], context: Context, examples: int | None, *, training: bool) -> Scores:
    """|g w|, g the gradient of the mean loss over the examples."""
    import torch

    assert context.loss is not None and context.examples is not None
    network, layers = _scored(weights, context, training=training)
    gradient, count = [torch.zeros_like(weight) for weight in layers.values()], 0
    for x, y in context.examples(examples):
        part = torch.autograd.grad(context.loss(network(x), y), list(layers.values()))
        for total, each in zip(gradient, part, strict=True):
            total += len(x) * each
        count += len(x)
    return {name: (w.detach() * g / count).abs() for (name, w), g in zip(layers.items(), gradient, strict=True)}
