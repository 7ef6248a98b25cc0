"""The forms that other code reads compute what the masked network does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.errors import UsageError
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.tickets.forms import plain_state, prune_form
from lottery.values import Component

SHAPE = (1, 6, 6)
NORMS = ["none", "batch", "spectral", "weight"]


def network(norm: str, seed: int = 0) -> nn.Module:
    component = Component("conv2", {"width": 4, "hidden": 6, "norm": norm})
    return build_model(component, SHAPE, 3, init=Component("torch"), seed=seed)


def random_mask(model: nn.Module, density: float = 0.3) -> Mask:
    draws = torch.Generator().manual_seed(0)
    return Mask({name: torch.rand(w.shape, generator=draws) < density for name, w in prunable(model).items()})


def inputs() -> Tensor:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def by_hand(norm: str, mask: Mask) -> nn.Module:
    """The network with the pruned weights set to 0 in place."""
    model = network(norm)
    with torch.no_grad():
        for name, weight in prunable(model).items():
            weight[~mask[name]] = 0
    return model


@pytest.mark.parametrize("norm", NORMS)
def test_the_plain_form_has_zeros_just_where_the_mask_has(norm: str) -> None:
    model = network(norm)
    mask, before = random_mask(model), {name: value.clone() for name, value in model.state_dict().items()}
    state = plain_state(model, mask)
    for name, value in before.items():
        assert torch.equal(state[name], value * mask[name] if name in mask else value)
        assert torch.equal(model.state_dict()[name], value)
    assert list(state) == list(before)


@pytest.mark.parametrize("norm", NORMS)
def test_the_plain_form_loads_into_the_plain_model(norm: str) -> None:
    mask = random_mask(network(norm))
    fresh = network(norm, seed=1)
    fresh.load_state_dict(plain_state(network(norm), mask), strict=True)
    assert torch.equal(fresh.eval()(inputs()), by_hand(norm, mask).eval()(inputs()))


def test_the_plain_form_does_not_share_the_memory_of_the_model() -> None:
    model = network("none")
    plain_state(model, random_mask(model))["conv1.bias"].fill_(7)
    assert not bool((model.state_dict()["conv1.bias"] == 7).any())


@pytest.mark.parametrize("norm", NORMS)
def test_the_form_of_torch_prune_computes_the_same(norm: str) -> None:
    model = network(norm)
    mask = random_mask(model)
    held = prune_form(model, mask, SHAPE)
    assert prune.is_pruned(held) and not prune.is_pruned(model)
    expected = by_hand(norm, mask)
    for mode in (False, True):
        assert torch.equal(held.train(mode)(inputs()), expected.train(mode)(inputs()))


@pytest.mark.parametrize("norm", NORMS)
def test_removed_from_torch_prune_the_plain_form_is_left(norm: str) -> None:
    model = network(norm)
    mask = random_mask(model)
    held, expected = prune_form(model, mask, SHAPE), plain_state(model, mask)
    for name in mask:
        path, _, parameter = name.rpartition(".")
        prune.remove(held.get_submodule(path), parameter)
    assert not prune.is_pruned(held)
    state = held.state_dict()
    assert set(state) == set(expected) and all(torch.equal(value, expected[name]) for name, value in state.items())


def test_trained_by_others_the_form_of_torch_prune_keeps_to_the_mask() -> None:
    """And makes the same steps as a training here, whose hooks hold the mask."""
    model, ours = network("none"), network("none")
    mask = random_mask(model)
    held = prune_form(model, mask, SHAPE)
    optimizer = torch.optim.SGD(held.parameters(), lr=0.1)
    own = torch.optim.SGD(ours.parameters(), lr=0.1)
    with masked(ours, mask, own):
        for network_, steps in ((held, optimizer), (ours, own)):
            for _ in range(3):
                steps.zero_grad()
                nn.functional.cross_entropy(network_(inputs()), torch.arange(6) % 3).backward()
                steps.step()
    assert torch.allclose(held(inputs()), ours(inputs()), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(held(inputs()), model(inputs()), rtol=1e-2)


def test_the_state_of_torch_prune_loads_into_a_model_that_torch_prepared() -> None:
    model = network("batch")
    mask = random_mask(model)
    held = prune_form(model, mask, SHAPE)
    fresh = network("batch", seed=1)
    for name in mask:
        prune.identity(fresh.get_submodule(name.removesuffix(".weight")), "weight")
    fresh.load_state_dict(held.state_dict(), strict=True)
    assert torch.equal(fresh.eval()(inputs()), held.eval()(inputs()))


@pytest.mark.parametrize("form", [plain_state, partial(prune_form, shape=SHAPE)])
def test_a_mask_of_another_model_is_refused(form: object) -> None:
    assert callable(form)
    with pytest.raises(UsageError, match=r"the mask has conv1.weight of shape \(2, 4\), the model has not"):
        form(network("none"), Mask({"conv1.weight": torch.ones(2, 4, dtype=torch.bool)}))
