"""Masks, the selection of weights, and the hooks that hold a mask through training."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import registry
from lottery.errors import BrokenMask, DamagedFile, UsageError
from lottery.pruning import top_k
from lottery.pruning.mask import Mask, keep_top, pruned_count
from lottery.pruning.masking import masked
from lottery.training.engine import DenseEngine
from tests.support.entries import OPTIMIZERS, Study, make


def mask_of(*bits: list[bool]) -> Mask:
    return Mask({f"layer{i}.weight": torch.tensor(row) for i, row in enumerate(bits)})


def test_a_packed_mask_takes_a_bit_a_weight_and_comes_back_the_same() -> None:
    draws = torch.Generator().manual_seed(1)
    mask = Mask({"a": torch.rand(13, 7, generator=draws) < 0.3, "b": torch.rand(2, 3, 5, 5, generator=draws) < 0.6})
    packed, shapes = mask.pack()
    assert {name: (p.dtype, p.numel()) for name, p in packed.items()} == {
        "a": (torch.uint8, 12),
        "b": (torch.uint8, 19),
    }
    assert Mask.unpack(packed, shapes) == mask


def test_a_mask_does_not_change_with_what_it_was_made_from_or_handed_out() -> None:
    bits = torch.tensor([True, False])
    mask = Mask({"a": bits})
    bits[1] = True
    mask["a"][1] = True
    assert mask["a"].tolist() == [True, False]


def test_density_counts_weights_over_all_layers() -> None:
    assert mask_of([True, False, False, False], [True, True]).density == 0.5


@pytest.mark.parametrize(("alive", "words"), [(0, "0.0"), (1, "0.01"), (500, "5.0"), (9999, "99.99"), (10000, "100.0")])
def test_a_mask_is_printed_as_its_density_and_never_as_dense_or_empty_where_it_is_not(alive: int, words: str) -> None:
    assert repr(Mask({"a": torch.arange(10_000) < alive})) == f"Mask: {words} % of 10,000 weights"


def test_one_mask_lies_within_another_when_it_only_lacks_weights() -> None:
    assert mask_of([True, False]) <= mask_of([True, True])
    assert not mask_of([True, False]) <= mask_of([False, True])


@pytest.mark.parametrize(
    ("alive", "fraction", "pruned"),
    [(10, "0.2", 2), (10, "0.25", 2), (10, "0.35", 3), (10, "0.351", 4), (5, "0.5", 2), (3, "0", 0), (1, "0.5", 0)],
)
def test_a_fraction_is_rounded_to_the_nearest_count_and_half_down(alive: int, fraction: str, pruned: int) -> None:
    assert pruned_count(alive, Fraction(fraction)) == pruned


NUMBERS = {
    torch.float16: st.floats(-65504, 65504, width=16),
    torch.bfloat16: st.floats(-(2.0**120), 2.0**120, width=32),
    torch.float32: st.floats(-(2.0**127), 2.0**127, width=32),
    torch.float64: st.floats(allow_nan=False, allow_infinity=False),
    torch.int64: st.integers(-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_selection_is_exact_for_each_type_with_ties_of_both_zeros_and_pruned_weights(
    kind: torch.dtype, data: st.DataObject
) -> None:
    """The reference sorts Python's numbers stably; chunks of eight scores make layers span several."""
    few = st.sampled_from([data.draw(NUMBERS[kind]) for _ in range(3)] + ([0] if kind == torch.int64 else [-0.0, 0.0]))
    values = data.draw(st.lists(NUMBERS[kind] | few, min_size=1, max_size=60))
    alive = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=2, max_size=2)))
    flat, bits = torch.tensor(values, dtype=kind), torch.tensor(alive)
    exact = flat.tolist()  # before what is pruned gets a value that must not matter
    if kind.is_floating_point:
        flat[~bits] = torch.tensor([float("nan"), float("inf"), float("-inf")], dtype=kind).repeat(20)[: len(flat)][
            ~bits
        ]
    names = ("a", "b", "c")
    scores = dict(zip(names, flat.tensor_split(cuts), strict=True))
    mask = Mask(dict(zip(names, bits.tensor_split(cuts), strict=True)))
    places = [i for i, here in enumerate(alive) if here]
    keep = data.draw(st.integers(0, len(places)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top_k, "CHUNK", 8)
        kept = keep_top(scores, mask, keep)
        apart = keep_top(scores, mask, kept.alive())
    best = sorted(sorted(places, key=lambda i: (-exact[i], i))[:keep])
    assert torch.cat(list(kept.values())).nonzero().flatten().tolist() == best
    assert apart == kept  # the same counts, chosen layer by layer


def test_scores_of_several_types_are_compared_as_the_widest() -> None:
    near = 1 + 2**-40  # 1 in float32
    scores = {"a": torch.tensor([1.0, 0.5]), "b": torch.tensor([near, 0.7], dtype=torch.float64)}
    kept = keep_top(scores, Mask.dense(scores), 1)
    assert (kept["a"].tolist(), kept["b"].tolist()) == ([False, False], [True, False])


def test_scores_in_another_order_in_memory_are_taken_by_their_place() -> None:
    scores = {"a": torch.tensor([[1.0, 4.0], [3.0, 2.0], [6.0, 5.0]]).t()}
    assert keep_top(scores, Mask.dense(scores), 3)["a"].tolist() == [[False, False, True], [True, False, True]]


def test_a_count_above_what_survives_is_refused() -> None:
    mask = mask_of([True, True, False])
    for keep in (3, -1, {"layer0.weight": 3}):
        with pytest.raises(UsageError, match="of 2 surviving weights"):
            keep_top({"layer0.weight": torch.ones(3)}, mask, keep)


def test_a_packed_mask_with_bits_beyond_its_shape_is_damaged() -> None:
    packed, shapes = mask_of([True, False, True]).pack()
    packed["layer0.weight"] |= 1
    with pytest.raises(DamagedFile, match="beyond the 3"):
        Mask.unpack(packed, shapes)


def test_pruned_weights_never_come_back_whatever_their_score() -> None:
    mask = mask_of([True, False, True, True])
    kept = keep_top({"layer0.weight": torch.tensor([1.0, 9.0, 2.0, 3.0])}, mask, {"layer0.weight": 2})
    assert kept["layer0.weight"].tolist() == [False, False, True, True]


def test_layers_without_scores_stay_as_they_are() -> None:
    mask = mask_of([True, True], [True, False])
    kept = keep_top({"layer0.weight": torch.tensor([1.0, 2.0])}, mask, 1)
    assert kept["layer1.weight"].tolist() == [True, False]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(UsageError, match="layer0"):
        keep_top({"layer0.weight": torch.tensor([1.0, bad])}, mask_of([True, True]), 1)


def test_a_collapsed_layer_is_named() -> None:
    assert mask_of([True, False], [False, False]).collapsed() == ["layer1.weight"]


def network(widths: tuple[int, ...] = (6, 8, 7, 4)) -> nn.Sequential:
    """A perceptron with batch normalization after each hidden layer."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        layers += [nn.Linear(n_in, n_out)]
        layers += [nn.BatchNorm1d(n_out), nn.Tanh()] if i < len(widths) - 2 else []
    return nn.Sequential(*layers)


def optimizer_for(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """With weight decay where it has some."""
    decay = {"weight_decay": 0.01} if "weight_decay" in registry.optimizers[name].schema.model_fields else {}
    return make(name, model, **decay)


def train(name: str, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 50, first: int = 0) -> None:
    study = Study(name, (6,), 4, torch.float64)
    engine = DenseEngine(study.objective(model, optimizer, clip=0.5), optimizer)
    for step in range(first, first + steps):
        engine.step(*study.batch(step))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_masked_network_trains_as_the_physically_smaller_one(name: str) -> None:
    """Units whose weights are all pruned are removed from the small network; decay, clipping and norms are on."""
    if registry.optimizers[name].traits.projects:
        pytest.skip(f"{name} steps by the direction of the full network, projected onto the surviving weights")
    steps = 1 if "max_iter" in registry.optimizers[name].schema.model_fields else 25  # rounding grows with iterations
    torch.manual_seed(0)
    large: Any = network().double()
    kept = {0: list(range(6)), 1: [0, 2, 3, 5, 6], 2: [1, 2, 4, 5], 3: list(range(4))}
    linear = [i for i, layer in enumerate(large) if isinstance(layer, nn.Linear)]
    small: Any = network(tuple(len(kept[i]) for i in range(4))).double()
    bits = {}
    for depth, i in enumerate(linear):
        alive = torch.zeros_like(large[i].weight, dtype=torch.bool)
        rows, columns = torch.tensor(kept[depth + 1]), torch.tensor(kept[depth])
        alive[rows[:, None], columns] = True
        bits[f"{i}.weight"] = alive
        with torch.no_grad():
            small[i].weight.copy_(large[i].weight[rows[:, None], columns])
            small[i].bias.copy_(large[i].bias[rows])
            dead = [unit for unit in range(len(large[i].bias)) if unit not in kept[depth + 1]]
            for layer in (large[i], large[i + 1]) if dead else ():  # no mask prunes these, and norms count them
                for parameter in (layer.weight, layer.bias) if layer.weight.dim() == 1 else (layer.bias,):
                    parameter[dead] = 0.0
    optimizer = optimizer_for(name, large)
    with masked(large, Mask(bits), optimizer):
        train(name, large, optimizer, steps)
    train(name, small, optimizer_for(name, small), steps)
    for depth, i in enumerate(linear):
        rows, columns = torch.tensor(kept[depth + 1]), torch.tensor(kept[depth])
        torch.testing.assert_close(large[i].weight[rows[:, None], columns], small[i].weight, rtol=1e-9, atol=1e-11)
        # a bias that a normalization subtracts again has a gradient of 1e-17, which LAMB divides by its eps of 1e-6
        torch.testing.assert_close(large[i].bias[rows], small[i].bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_are_zero_throughout_and_plus_zero_on_leaving(name: str) -> None:
    torch.manual_seed(0)
    model = network().double()
    draws = torch.Generator().manual_seed(5)
    weights = {n: p for n, p in model.named_parameters() if p.dim() == 2}
    mask = Mask({n: torch.rand(p.shape, generator=draws) < 0.4 for n, p in weights.items()})
    before = Mask(mask)
    optimizer = optimizer_for(name, model)
    with masked(model, mask, optimizer):
        for step in range(50):
            train(name, model, optimizer, steps=1, first=step)
            assert all(not weights[n].detach()[~mask[n]].any() for n in mask)
            assert all(not weights[n].grad[~mask[n]].any() for n in mask)  # type: ignore[index]
    for n in mask:
        pruned = weights[n].detach()[~mask[n]]
        assert torch.equal(pruned.view(torch.int64), torch.zeros_like(pruned, dtype=torch.int64))
    assert mask == before


def test_a_dense_mask_changes_no_bit_of_the_training() -> None:
    finals = []
    for hold in (True, False):
        torch.manual_seed(0)
        model = network().double()
        optimizer = optimizer_for("momentum", model)
        if hold:
            with masked(model, Mask.dense({n: p for n, p in model.named_parameters() if p.dim() == 2}), optimizer):
                train("momentum", model, optimizer)
        else:
            train("momentum", model, optimizer)
        finals.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*finals)


def test_gradients_are_masked_in_each_of_several_backward_passes() -> None:
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with masked(model, Mask({"weight": torch.tensor([[True, False, True]])}), optimizer):
        for _ in range(2):
            model(torch.ones(1, 3)).sum().backward()
        assert model.weight.grad is not None
        assert model.weight.grad.tolist() == [[2.0, 0.0, 2.0]]


def test_the_rewound_momentum_of_a_pruned_weight_is_forgotten() -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with masked(model, Mask({"weight": torch.tensor([[True, False]])}), optimizer):
        assert optimizer.state[model.weight]["momentum_buffer"].tolist() == [[1.0, 0.0]]


def test_a_weight_revived_behind_the_hooks_is_noticed() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = Mask({"weight": torch.tensor([[True, False]])})
    with pytest.raises(BrokenMask, match="weight: 1 pruned"), masked(model, mask, optimizer):
        model.weight.data.fill_(1.0)


def test_an_error_inside_the_block_is_not_hidden_by_the_mask() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyError), masked(model, Mask({"weight": torch.tensor([[True, False]])}), optimizer):
        model.weight.data.fill_(1.0)
        raise KeyError("the user's own")


def test_the_hooks_are_gone_after_the_block() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with masked(model, Mask({"weight": torch.tensor([[True, False]])}), optimizer):
        pass
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert model.weight[0, 1].item() != 0


def test_a_mask_of_another_model_is_refused() -> None:
    model = nn.Linear(2, 1)
    mask = Mask({"weight": torch.ones(3, 1, dtype=torch.bool)})
    with pytest.raises(UsageError, match="shape"), masked(model, mask, torch.optim.SGD(model.parameters())):
        pass
