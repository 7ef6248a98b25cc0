"""Alignment of hidden units: the function stays, planted orders are found, the assignment is the best there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.alignment import Matching, activation_matching, aligned, weight_matching
from lottery.landscape.memo import Memo
from lottery.landscape.permutations import check_same_function, hidden_units, permuted_state
from lottery.network.layout import load
from lottery.values import Part
from tests.support.landscapes import classes, drawn, random_mask, state, subject

MODELS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], int]] = {  # with the number of groups
    "mlp": ((5,), partial(registry.models["mlp"].make, (5,), 3, widths=(6, 7), norm="batch"), 2),
    "residual mlp": ((5,), partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6, 6), residual=True), 1),
    "conv2": ((1, 8, 8), partial(registry.models["conv2"].make, (1, 8, 8), 3, width=4, hidden=5, norm="batch"), 4),
    "vgg11": ((3, 16, 16), partial(registry.models["vgg11"].make, (3, 16, 16), 3, width=4), 8),
    "resnet20": ((3, 8, 8), partial(registry.models["resnet20"].make, (3, 8, 8), 3, width=2), 12),
    "resnet20 padded": (
        (3, 8, 8),
        partial(registry.models["resnet20"].make, (3, 8, 8), 3, width=2, shortcut="pad"),
        9,
    ),
}
one_layer = partial(registry.models["mlp"].make, (5,), 3, widths=(30,), activation="tanh")  # no unit is dead


def shuffled(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_network_with_its_units_in_another_order_gives_the_same_outputs(name: str, masked: bool) -> None:
    shape, make, count = MODELS[name]
    model = drawn(1, make)
    groups = hidden_units(model)
    assert len(groups) == count
    before = state(model, mask=random_mask(model, 0) if masked else None)
    after = permuted_state(before, groups, [shuffled(units.count, i) for i, units in enumerate(groups)])
    x = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    outputs = []
    for each in (before, after):
        network = make().double().eval()
        load(network, each.masked())
        outputs.append(network(x))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    changed = [key for key in before.weights if not torch.equal(before.weights[key], after.weights[key])]
    assert len(changed) >= 2 * count
    if before.mask is not None and after.mask is not None:
        assert after.mask != before.mask
        assert after.mask.alive() == before.mask.alive()
        assert all(bool(after.weights[key][after.mask[key]].isfinite().all()) for key in after.mask)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("by", ["weights", "activations"])
def test_a_planted_order_is_found_again(by: Matching, masked: bool) -> None:
    first = drawn(1, one_layer)
    groups = hidden_units(first)
    mask = random_mask(first, 0, 0.7) if masked else None
    planted = shuffled(30, 4)
    second = permuted_state(state(first, "planted", mask), groups, [planted])
    given = subject(one_layer, [state(first, mask=mask), second], classes((5,)))
    found, moved = aligned(given, Memo(), by, None)
    for name, value in given.states[0].masked().items():
        assert torch.equal(found.masked()[name], value)
    assert found.mask == mask
    assert moved == pytest.approx(float((planted != torch.arange(30)).double().mean()))


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_the_barrier_between_a_network_and_its_noisy_copy_in_another_order_vanishes(by: str) -> None:
    first, data = drawn(1, one_layer), classes((5,))
    mask, (x, y) = random_mask(first, 0, 0.7), data["train"]
    descent = torch.optim.Adam(first.parameters(), lr=0.03)
    for _ in range(150):
        with torch.no_grad():
            for name in mask:
                first.get_parameter(name).mul_(mask[name])
        descent.zero_grad()
        nn.functional.cross_entropy(first(x), y).backward()
        descent.step()
    noisy, groups = state(first, "noisy", mask), hidden_units(first)
    draws = torch.Generator().manual_seed(6)
    moved = {n: v + 1e-3 * torch.randn(v.shape, generator=draws) for n, v in noisy.weights.items()}
    noisy = permuted_state(replace(noisy, weights=moved), groups, [shuffled(30, 4)])
    given = subject(one_layer, [state(first, mask=mask), noisy], data)
    entry: Any = registry.analyses["barrier"].make
    apart, near = (entry(given, Memo(), align=align, points=9).values for align in ("none", by))
    assert near["distance"] < 0.1 < apart["distance"]
    assert near["train_loss_line_barrier"] < 1e-3 < 0.1 < apart["train_loss_line_barrier"]
    assert near["moved_units"] > 0.8
    assert set(near) <= set(registry.analyses["barrier"].traits.units)


def test_weights_are_matched_as_near_as_any_order_brings_them() -> None:
    make = partial(registry.models["mlp"].make, (5,), 3, widths=(6,))
    first, second = drawn(1, make), drawn(2, make)
    groups = hidden_units(first)
    (order,) = weight_matching(groups, first.state_dict(), second.state_dict(), torch.Generator().manual_seed(0))

    def distance(places: Any) -> float:
        there = permuted_state(state(second), groups, [torch.tensor(places)]).weights
        return float(sum((value - there[name]).square().sum() for name, value in first.state_dict().items()))

    assert distance(order.tolist()) == pytest.approx(min(map(distance, permutations(range(6)))), abs=1e-6)


def test_a_stop_ends_an_alignment_by_weights_before_its_next_assignment(monkeypatch: pytest.MonkeyPatch) -> None:
    _, make, _ = MODELS["resnet20"]
    one, two = state(drawn(1, make)), state(drawn(2, make))
    done: list[int] = []

    def assigned(alike: Tensor) -> Tensor:
        done.append(1)
        return torch.arange(len(alike)).flip(0)

    def check() -> None:
        if len(done) == 2:
            raise InterruptedError

    monkeypatch.setattr("lottery.landscape.alignment._assigned", assigned)
    memo = Memo()
    with pytest.raises(InterruptedError):
        aligned(replace(subject(make, [one, two], classes((3, 8, 8))), check=check), memo, "weights", None)
    assert len(done) == 2
    assert not memo.parts


def test_weight_matching_of_a_residual_network_brings_the_weights_nearer() -> None:
    _, make, _ = MODELS["resnet20"]
    first, second = drawn(1, make), drawn(2, make)
    groups = hidden_units(first)
    orders = weight_matching(groups, first.state_dict(), second.state_dict(), torch.Generator().manual_seed(0))
    there = permuted_state(state(second), groups, orders).weights

    def distance(weights: Any) -> float:
        return float(sum((p.detach() - weights[name]).square().sum() for name, p in first.named_parameters()))

    assert distance(there) < 0.95 * distance(state(second).weights)


@torch.no_grad()
def test_activations_are_matched_by_their_correlations_over_all_batches() -> None:
    make = partial(registry.models["mlp"].make, (5,), 3, widths=(6,))
    first, second = drawn(1, make), drawn(2, make)
    (units,) = groups = hidden_units(first)
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(3))
    (order,) = activation_matching(groups, first, second, x.split(16))
    hidden = []
    for model in (first, second):
        read: list[Tensor] = []
        hook = model.get_submodule(units.readers[0]).register_forward_pre_hook(
            lambda _, i, read=read: read.append(i[0])
        )
        model(x)
        hook.remove()
        hidden.append(read[0].double().numpy())
    with np.errstate(invalid="ignore"):  # a dead unit correlates with none
        alike = np.nan_to_num(np.corrcoef(hidden[0].T, hidden[1].T)[:6, 6:])
    totals = {places: alike[range(6), places].sum() for places in permutations(range(6))}
    assert totals[tuple(order.tolist())] == pytest.approx(max(totals.values()), abs=1e-9)


def test_no_test_example_is_looked_at() -> None:
    given = subject(one_layer, [state(drawn(1, one_layer)), state(drawn(2, one_layer), "b")], classes((5,)))
    asked = []

    def examples(part: Part, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        asked.append(part)
        return given.examples(part, count)

    for by in ("weights", "activations"):
        aligned(replace(given, examples=examples), Memo(), by, None)
    assert set(asked) == {"train"}


def test_a_diverged_network_keeps_its_order() -> None:
    first, bad = drawn(1, one_layer), drawn(2, one_layer)
    with torch.no_grad():
        for value in bad.parameters():
            value.fill_(float("nan"))
    given = subject(one_layer, [state(first), state(bad, "bad")], classes((5,)))
    assert [aligned(given, Memo(), by, None)[1] for by in ("weights", "activations")] == [0, 0]


def test_a_network_whose_units_cannot_be_permuted_is_refused() -> None:
    with pytest.raises(UsageError, match="no hidden units that can be permuted"):
        hidden_units(nn.Linear(4, 2))
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    tied[2].weight = tied[0].weight
    with pytest.raises(UsageError, match="no hidden units that can be permuted"):
        hidden_units(tied)


def test_an_order_that_changes_the_function_is_noticed() -> None:
    one, other = drawn(1, one_layer), drawn(2, one_layer)
    with pytest.raises(UsageError, match="gives other outputs"):
        check_same_function(one_layer(), state(one), state(other), [torch.ones(2, 5)])
