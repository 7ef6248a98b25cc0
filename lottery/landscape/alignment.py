"""Alignment of two networks: the order of the hidden units of one in which they are most like those of the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from lottery.landscape.memo import Memo
from lottery.landscape.permutations import Axis, Units, check_same_function, hidden_units, permuted, permuted_state
from lottery.landscape.subject import State, Subject
from lottery.network.build import evaluating
from lottery.network.layout import load

Matching = Literal["weights", "activations"]
_SWEEPS = 100  # of weight matching, which ends after a few


def aligned(subject: Subject, memo: Memo, by: Matching, examples: int | None) -> tuple[State, float]:
    """Return the second state of a pair with its hidden units in the order of the first, and how many units moved.

    It computes the same function as before, which is checked on a batch. Only training examples are looked at. A pair
    with weights or activations that are not finite stays as it is.

    Args:
        subject: A pair of states of one architecture.
        memo: The finished parts of the measurement.
        by: `weights` or `activations`.
        examples: Number of training examples whose activations are compared; None for all.

    Returns:
        The state, and the fraction of the units that can be permuted which are in another place.

    Raises:
        UsageError: The network has no units that can be permuted.
    """
    first, second = subject.states
    model = subject.network()
    groups = hidden_units(model)

    def match() -> Tensor:
        if by == "weights":
            draws = subject.generator("weight matching")
            return torch.cat(weight_matching(groups, first.masked(), second.masked(), draws, check=subject.check))
        networks = model, subject.network()
        for network, state in zip(networks, (first, second), strict=True):
            load(network, state.masked())
        return torch.cat(activation_matching(groups, *networks, (x for x, _ in subject.examples("train", examples))))

    found = memo.tensor("order of units", match)
    orders = list(torch.split(found, [units.count for units in groups]))
    moved = permuted_state(second, groups, orders)
    check_same_function(model, second, moved, (x for x, _ in _first(subject)))
    stayed = sum(int((order == torch.arange(len(order))).sum()) for order in orders)
    return moved, 1 - stayed / len(found)


def weight_matching(
    groups: Sequence[Units],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    draws: torch.Generator,
    restarts: int = 3,
    *,
    check: Callable[[], None] = lambda: None,
) -> list[Tensor]:
    """Return the order of the second network's units in which its weights are nearest to the first's.

    Coordinate descent over the groups in random order: the units of one are assigned by the inner products of all their
    weights, biases and scales, in the present order of all others, until no assignment is better. It begins at the
    order that is, and for each further start at a random one; the start with the nearest weights counts. Source:
    Ainsworth et al. 2023.

    Args:
        groups: The units that may be permuted.
        first: State of the first network, pruned weights 0.
        second: State of the second network, pruned weights 0.
        draws: Stream of random numbers.
        restarts: Number of further starts.
        check: Called before each assignment; raises where the run is told to stop.
    """
    names = {axis.tensor for units in groups for axis in units.axes if axis.trains}
    a, b = ({name: state[name].cpu().double() for name in names} for state in (first, second))
    still = [torch.arange(units.count) for units in groups]
    if not all(bool(value.isfinite().all()) for value in (*a.values(), *b.values())):
        return still
    best, nearest = still, -float("inf")
    for start in range(1 + restarts):
        orders = [torch.randperm(units.count, generator=draws) for units in groups] if start else list(still)
        for _ in range(_SWEEPS):
            better = False
            for i in torch.randperm(len(groups), generator=draws).tolist():
                check()
                alike = _products(groups, i, a, b, orders)
                order, place = _assigned(alike), torch.arange(groups[i].count)
                gain = float(alike[place, order].sum() - alike[place, orders[i]].sum())
                if gain > 1e-12 * float(alike.abs().sum()):
                    orders[i], better = order, True
            if not better:
                break
        there = permuted(b, groups, orders)
        similarity = sum(float((a[name] * there[name]).sum()) for name in sorted(names))
        if similarity > nearest + 1e-12 * abs(similarity):
            best, nearest = orders, similarity
    return best


def _products(
    groups: Sequence[Units], i: int, a: Mapping[str, Tensor], b: Mapping[str, Tensor], orders: Sequence[Tensor]
) -> Tensor:
    """Return the inner products (units, units) of the weights of each unit of the first and of the second network."""
    units = groups[i]
    total = torch.zeros(units.count, units.count, dtype=torch.float64)
    for axis in units.axes:
        if axis.trains:
            there = permuted({axis.tensor: b[axis.tensor]}, groups, orders, but=axis)[axis.tensor]
            total += _by_unit(a[axis.tensor], axis, units) @ _by_unit(there, axis, units).T
    return total


def _by_unit(value: Tensor, axis: Axis, units: Units) -> Tensor:
    return value.movedim(axis.dim, 0).reshape(units.count, -1)


def _assigned(alike: Tensor) -> Tensor:
    """Return for each row the column that it is assigned to, so that the sum is the largest."""
    return torch.from_numpy(linear_sum_assignment(alike.numpy(), maximize=True)[1])


@torch.no_grad()
def activation_matching(
    groups: Sequence[Units], first: nn.Module, second: nn.Module, inputs: Iterable[Tensor]
) -> list[Tensor]:
    """Return the order of the second network's units in which their activations correlate most with the first's.

    The activations are those that the layers read which come next, at all positions of all inputs; the correlations of
    several readers are added. A unit that is constant correlates with none. Source: Li et al. 2015; Ainsworth et al.
    2023.
    """
    sums: dict[str, dict[str, Tensor]] = defaultdict(dict)
    networks = first, second
    seen: tuple[dict[str, Tensor], ...] = ({}, {})
    counts = {path: units.count for units in groups for path in units.readers}
    hooks = [
        network.get_submodule(path).register_forward_pre_hook(_keep(there, path, count))
        for network, there in zip(networks, seen, strict=True)
        for path, count in counts.items()
    ]
    try:
        with evaluating(first), evaluating(second):
            for x in inputs:
                for network in networks:
                    network(x)
                for path in counts:
                    _add(sums[path], seen[0][path], seen[1][path])
    finally:
        for hook in hooks:
            hook.remove()
    orders = []
    for units in groups:
        alike = torch.stack([_correlation(sums[path]) for path in units.readers]).sum(0).cpu()
        orders.append(_assigned(alike) if bool(alike.isfinite().all()) else torch.arange(units.count))
    return orders


def _keep(seen: dict[str, Tensor], path: str, count: int) -> Callable[[nn.Module, Any], None]:
    """Return a hook that keeps what a layer reads, float64 (examples and positions, units)."""

    def hook(layer: nn.Module, inputs: Any) -> None:
        value: Tensor = inputs[0]
        if isinstance(layer, nn.Conv2d):
            value = value.movedim(1, -1)
        else:
            value = value.reshape(-1, count, value.shape[-1] // count).movedim(1, -1)
        seen[path] = value.reshape(-1, count).double()

    return hook


def _add(sums: dict[str, Tensor], a: Tensor, b: Tensor) -> None:
    """Add the moments of the activations of a batch."""
    new = {"a": a.sum(0), "b": b.sum(0), "aa": a.square().sum(0), "bb": b.square().sum(0), "ab": a.T @ b}
    new["count"] = a.new_tensor(len(a))
    for name, value in new.items():
        sums[name] = sums[name] + value if name in sums else value


def _correlation(sums: Mapping[str, Tensor]) -> Tensor:
    """Return the correlations (units of the first, units of the second); 0 with a unit that is constant."""
    n = sums["count"]
    spread = [(sums[2 * k] - sums[k].square() / n).clamp(min=0) for k in "ab"]
    spread = [torch.where(s <= 1e-12 * sums[2 * k], 0.0, s) for s, k in zip(spread, "ab", strict=True)]
    together = sums["ab"] - torch.outer(sums["a"], sums["b"]) / n
    scale = torch.outer(spread[0], spread[1]).sqrt()
    return torch.where(scale == 0, 0.0, together / scale)  # what is not a number stays so


def _first(subject: Subject) -> Iterable[tuple[Tensor, Tensor]]:
    for batch in subject.examples("train", None):
        return [batch]
    return []
