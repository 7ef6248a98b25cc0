"""Pruning criteria: a score for each weight, of which the highest are kept.

To add one, write `f(weights, context, *, ...) -> scores by name` here, decorated with `@criteria.register(name,
source=...)`: `weights` are those of the layers in the mask, `context` is a `lottery.pruning.scoring.Context`. A
criterion gives scores only; `keep_top` in `lottery.pruning.mask` selects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.pruning.scoring import Context, Lazy, Scores
from lottery.registry import criteria

if TYPE_CHECKING:
    from torch import Tensor, nn

Examples = Annotated[int, Field(ge=1)]


@criteria.register("magnitude", source="Han et al. 2015; Frankle & Carbin 2019", dataless=True)
def magnitude(weights: Mapping[str, Tensor], context: Context, *, same_sign: bool = False) -> Scores:
    """Absolute value of the trained weight, `large_final` in Zhou et al. 2019.

    With `same_sign` a weight that changed its sign since the rewind point counts 0, as in Zhou et al. 2019.
    """
    scores = Lazy(weights, lambda name: weights[name].abs())
    return _same_sign(scores, weights, context) if same_sign else scores


@criteria.register("filter_norm", source="Li et al. 2017", dataless=True)
def filter_norm(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Mean absolute value of the weights of a filter, the same score for each of them: whole filters go.

    A filter is what computes one unit or channel, a row of the weight: `weight[i]`. Within a layer the order is that of
    the L1 norm, by which the authors prune. At the edge of a number of weights that is no whole number of filters, one
    filter is pruned in part. `lottery ticket export --form compact` makes the channels that are left a smaller network.
    """

    def score(name: str) -> Tensor:
        weight = weights[name]
        return weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True).expand_as(weight)

    return Lazy(weights, score)


@criteria.register("random", source="Frankle & Carbin 2019 (control)", dataless=True, draws=True)
def random(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Uniform random scores: which weights survive is chance."""
    import torch

    return {name: torch.rand(weight.shape, generator=context.generator) for name, weight in weights.items()}


@criteria.register("small_final", source="Zhou et al. 2019", dataless=True)
def small_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Negative absolute value of the trained weight: the smallest are kept."""
    return Lazy(weights, lambda name: -weights[name].abs())


@criteria.register("large_init", source="Zhou et al. 2019", dataless=True)
def large_init(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Absolute value of the weight at the rewind point."""
    return Lazy(weights, lambda name: context.initial[name].abs())


@criteria.register("small_init", source="Zhou et al. 2019", dataless=True)
def small_init(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Negative absolute value of the weight at the rewind point: the smallest are kept."""
    return Lazy(weights, lambda name: -context.initial[name].abs())


@criteria.register("large_init_large_final", source="Zhou et al. 2019", dataless=True)
def large_init_large_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Large at the rewind point and after training: min(a |w_f|, |w_i|).

    The factor a makes the quantiles of both meet at the threshold, as in the authors' code: each weight is scored by
    the lower of its two ranks in its layer, from 0 to 1.
    """
    return {
        name: _lower_rank(weight.abs(), context.initial[name].abs(), _alive(name, weight, context))
        for name, weight in weights.items()
    }


@criteria.register("small_init_small_final", source="Zhou et al. 2019", dataless=True)
def small_init_small_final(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Small at the rewind point and after training: -max(a |w_f|, |w_i|), a as in `large_init_large_final`."""
    return {
        name: _lower_rank(-weight.abs(), -context.initial[name].abs(), _alive(name, weight, context))
        for name, weight in weights.items()
    }


@criteria.register("magnitude_increase", source="Zhou et al. 2019", dataless=True)
def magnitude_increase(weights: Mapping[str, Tensor], context: Context, *, same_sign: bool = False) -> Scores:
    """Growth of the absolute value since the rewind point: |w_f| - |w_i|.

    With `same_sign` a weight that changed its sign counts 0, as in the authors' code: more than one that shrank.
    """
    scores = Lazy(weights, lambda name: weights[name].abs() - context.initial[name].abs())
    return _same_sign(scores, weights, context) if same_sign else scores


@criteria.register("movement", source="Zhou et al. 2019", dataless=True)
def movement(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Distance that the weight has moved since the rewind point: |w_f - w_i|.

    Another method than the movement pruning of Sanh et al. 2020.
    """
    return Lazy(weights, lambda name: (weights[name] - context.initial[name]).abs())


@criteria.register("gradient_weight", source="Mozer & Smolensky 1988; Molchanov et al. 2017")
def gradient_weight(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Change of the loss to first order when the weight goes, |g w|; g is the gradient over the training set.

    In evaluation mode. At a minimum g vanishes and what is left is noise (LeCun et al. 1989 on second order).
    """
    return _sensitivity(weights, context, None)


@criteria.register("snip", source="Lee et al. 2019", version=2, scope="global")
def snip(weights: Mapping[str, Tensor], context: Context, *, examples: Examples = 128) -> Scores:
    """Connection sensitivity |g w| on the first `examples` of the training set, meant for `when: init`.

    In evaluation mode, as in the authors' code: at initialization batch normalization has mean 0 and variance 1. The
    authors prune biases too.
    """
    return _sensitivity(weights, context, examples)


@criteria.register("grasp", source="Wang et al. 2020", version=2, scope="global")
def grasp(
    weights: Mapping[str, Tensor],
    context: Context,
    *,
    per_class: Examples = 10,
    temperature: Annotated[float, Field(gt=0)] = 200.0,
) -> Scores:
    """Gradient signal preservation: w Hg, the weights with the lowest -w Hg are kept, as in the authors' code.

    H and g are those of the scored weights that survive, over the first `per_class` training examples of each class,
    with outputs divided by the temperature. Normalizations use the statistics of the batch, as in training; all else
    is in evaluation mode. The authors draw linear layers anew by Glorot's rule before they score, and not here; they
    augment the examples, and sort them by class into two batches. For `when: init`.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    assert context.balanced is not None
    network, layers = _scored(context, weights)
    _use_batch_statistics(network)
    parts = list(context.balanced(per_class))
    count = sum(len(x) for x, _ in parts)

    def slopes(x: Tensor, y: Tensor, graph: bool) -> tuple[Tensor, ...]:
        """Return the gradient of one part's share of the loss, by each scored weight."""
        assert context.loss is not None
        return _gradient(context.loss(network(x) / temperature, y) * (len(x) / count), layers, graph)

    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivative
        gradient = [torch.zeros_like(weight) for weight in layers.values()]
        for x, y in parts:
            for total, part in zip(gradient, slopes(x, y, False), strict=True):
                total += part
        for total, (name, weight) in zip(gradient, layers.items(), strict=True):
            total *= _alive(name, weight, context)
        products = [torch.zeros_like(weight) for weight in layers.values()]
        for x, y in parts:
            along = torch.stack([(a * b).sum() for a, b in zip(gradient, slopes(x, y, True), strict=True)]).sum()
            for total, part in zip(products, _gradient(along, layers), strict=True):
                total += part
    return {name: (w.detach() * hg) for (name, w), hg in zip(layers.items(), products, strict=True)}


@criteria.register("synflow", source="Tanaka et al. 2020", version=2, rounds=100, scope="global", paths=True)
def synflow(weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Synaptic flow |w| dR/d|w|: R is the sum over all paths of the product of their weights' absolute values.

    It is the sum of outputs for an input of ones, all parameters at their absolute value, normalizations (weight and
    bias stay, statistics do not) and activations neutral. Paths begin at inputs and at biases; of a window of max
    pooling the largest sum goes on, as in the authors' code. Needs no targets and is meant for `when: init`; the counts
    fall exponentially in 100 rounds. In float64, since products over many layers leave the range of float32. Networks
    that multiply what they compute, by gates or attention, are refused.
    """
    import torch

    from lottery.pruning.path_sums import path_sum

    assert context.examples is not None
    network, layers = _scored(context)  # unscored layers too: the norm of an absolute weight is another
    network.double()
    with torch.no_grad():
        for value in network.state_dict().values():
            value.abs_()
    x, _ = next(context.examples(1))
    scored = {name: layers[name] for name in weights}
    gradients = _gradient(path_sum(network, torch.ones_like(x[:1], dtype=torch.float64)), scored)
    return {name: (w.detach() * g).abs() for (name, w), g in zip(scored.items(), gradients, strict=True)}


def _same_sign(scores: Scores, weights: Mapping[str, Tensor], context: Context) -> Scores:
    """Return the scores, 0 for weights that changed their sign since the rewind point."""
    return Lazy(weights, lambda name: scores[name] * (weights[name].sign() == context.initial[name].sign()))


def _alive(name: str, weight: Tensor, context: Context) -> Tensor:
    """Return a bool tensor of the weight's shape, on its device: True for weights that have not been pruned."""
    import torch

    if name in context.alive:
        return context.alive[name].to(weight.device)
    return torch.ones_like(weight, dtype=torch.bool)


def _lower_rank(first: Tensor, second: Tensor, alive: Tensor) -> Tensor:
    """Return the lower of two ranks of each surviving value among the survivors, from 0 to 1; 0 for the others."""
    import torch

    ranks = torch.zeros(2, *first.shape, dtype=torch.float64, device=first.device)
    for rank, values in zip(ranks, (first, second), strict=True):
        order = values[alive].argsort(stable=True)
        places = torch.empty(len(order), dtype=torch.float64, device=first.device)
        places[order] = torch.linspace(0, 1, len(order), dtype=torch.float64, device=first.device)
        rank[alive] = places
    return ranks.amin(0)


def _scored(context: Context, names: Collection[str] | None = None) -> tuple[nn.Module, dict[str, nn.Parameter]]:
    """Return the network in evaluation mode and its weights by name, all of them if `names` is None.

    Weight normalizations of these are taken off, so that each is what its layer computes with, and gradients are those
    of the normalized weight.
    """
    from lottery.network.build import own_parameters, prunable

    assert context.network is not None
    network = context.network()
    layers = own_parameters(network, prunable(network) if names is None else names)
    return network.eval(), layers


def _use_batch_statistics(network: nn.Module) -> None:
    """Have normalizations with running statistics take those of the batch; dropout and stochastic depth stay off.

    Functions of torch that a module calls with its own mode do so as well.
    """
    from lottery.training.running_statistics import PREFIX

    for module in network.modules():
        if any(name.startswith(PREFIX) for name, _ in module.named_buffers(recurse=False)):
            module.train()


def _gradient(value: Tensor, layers: Mapping[str, nn.Parameter], graph: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of a number by each layer's weight; zeros for a weight that the network does not use."""
    import torch

    return torch.autograd.grad(value, list(layers.values()), create_graph=graph, materialize_grads=True)


def _sensitivity(weights: Mapping[str, Tensor], context: Context, examples: int | None) -> Scores:
    """Return |g w| by name, with g the gradient of the mean loss over the first `examples`, all where None."""
    import torch

    assert context.loss is not None and context.examples is not None
    network, layers = _scored(context, weights)
    gradient, count = [torch.zeros_like(weight) for weight in layers.values()], 0
    for x, y in context.examples(examples):
        for total, each in zip(gradient, _gradient(context.loss(network(x), y), layers), strict=True):
            total += len(x) * each
        count += len(x)
    return {name: (w.detach() * g / count).abs() for (name, w), g in zip(layers.items(), gradient, strict=True)}
