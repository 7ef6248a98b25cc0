"""Which weights are prunable: each that multiplies an input, by name, once, and what is never pruned is known."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as zoo

from lottery import registry
from lottery.catalogue.models._perceptron import Perceptron
from lottery.engines.support import unsupported
from lottery.errors import UsageError
from lottery.network.build import build_model, effective, lent, on_device, own_parameters, prunable
from lottery.network.layout import Layout, choose, load, state_of
from lottery.network.names import layer_name
from lottery.network.tracing import trace
from lottery.plan.jobs import Plan
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.structure.multiply_adds import per_layer
from lottery.training.objective import Objective
from lottery.values import Component
from tests.support.brought import MODELS, SHAPE, build
from tests.support.studies import hand

ZOO = {"vit_b_16": 224, "convnext_tiny": 64, "swin_t": 64, "resnet18": 64, "mobilenet_v3_small": 64}
DEEPER = ("32", "44", "56", "110", "13", "16", "19", "190")  # of the same code as a shallower one
CATALOGUE = [entry.name for entry in registry.models if not entry.name.endswith(("torchvision", "timm", *DEEPER))]


def catalogue(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    if name in MODELS:
        return build(name), SHAPE
    if name in ZOO:
        shape = (3, ZOO[name], ZOO[name])
        with torch.device("meta"):
            model = zoo.get_model(name, num_classes=10)
        choose(model, shape, empty=lambda: deepcopy(model))
        return model, shape
    shape = (3, 32, 32)
    small: dict[str, Any] = {
        key: 4 for key in ("width", "growth", "hidden") if key in registry.models[name].schema.model_fields
    }
    return build_model(Component(name, small), shape, 10, init=Component("torch"), seed=0), shape


def sizes(name: str) -> dict[str, int]:
    return {layer_name(weight): value.numel() for weight, value in prunable(build(name)).items()}


def test_recurrent_layers_have_an_entry_for_each_of_their_weights() -> None:
    expected = dict[str, Any]()
    for layer, inputs in ((0, 8), (1, 6)):  # both directions of a projection of 3
        for direction in ("", "_reverse"):
            expected |= {
                f"rnn.weight_ih_l{layer}{direction}": 4 * 6 * inputs,
                f"rnn.weight_hh_l{layer}{direction}": 4 * 6 * 3,
                f"rnn.weight_hr_l{layer}{direction}": 3 * 6,
            }
    assert sizes("lstm") == {**expected, "output": 60}
    assert sizes("gru") == {"rnn.weight_ih_l0": 3 * 6 * 8, "rnn.weight_hh_l0": 3 * 6 * 6, "output": 60}


def test_queries_keys_and_values_are_three_layers_packed_or_not() -> None:
    packed = dict.fromkeys(("key", "attention.q", "attention.k", "attention.v", "attention.out_proj"), 64)
    assert sizes("attention") == {**packed, "output": 80}
    assert sizes("separate") == {**packed, "key": 40, "attention.k": 40, "output": 80}


def test_the_three_layers_of_packed_attention_are_its_rows_in_the_order_of_torch() -> None:
    model, x = build("attention"), torch.randn(2, 8, 8)
    attention, weights = model.get_submodule("attention"), prunable(model)
    assert isinstance(attention, nn.MultiheadAttention)
    given: list[Tensor] = []
    functional: Any = nn.functional
    original = functional.scaled_dot_product_attention

    def watched(*qkv: Tensor, **how: Any) -> Tensor:
        given.extend(qkv[:3])
        made: Tensor = original(*qkv[:3])
        return made

    functional.scaled_dot_product_attention = watched
    try:
        attention.train()(x, x, x, need_weights=False)
    finally:
        functional.scaled_dot_product_attention = original
    for letter, seen in zip("qkv", given, strict=True):
        expected = x @ weights[f"attention.{letter}.weight"].t()
        assert torch.allclose(seen.transpose(1, 2).flatten(2), expected, atol=1e-5)


def test_a_shared_weight_is_one_entry_under_the_name_of_its_first_layer() -> None:
    assert sizes("tied") == {"first": 768, "a": 144, "output": 120}
    assert Layout.of(build("tied")).same == {"b.weight": "a.weight"}


def test_embeddings_are_pruned_on_request_and_where_they_multiply() -> None:
    assert list(prunable(build("words"))) == ["hidden.weight", "output.weight"]
    assert Layout.of(build("words")).left == {"embedding": 17 * 6}
    assert list(prunable(build("words", embeddings=True))) == ["embedding.weight", "hidden.weight", "output.weight"]
    assert Layout.of(build("words", embeddings=True)).left == {}
    tied = Layout.of(build("tied_words"))
    assert (list(tied.weights), tied.same, tied.left) == (
        ["hidden.weight", "output.weight"],
        {"embedding.weight": "output.weight"},
        {},
    )


def test_weights_of_a_modules_own_code_are_found_by_what_they_do() -> None:
    """A matrix and a stack of them multiply; positions and scales do not; a weight that is computed first is said."""
    expected = {"matrix": 64, "stack": 256, "gpt": 240, "bilinear": 180, "output": 50}
    assert sizes("own") == expected
    assert Layout.of(build("own")).left == {"standardized": 20}


def test_a_trait_of_the_model_decides_alone() -> None:
    layout = Layout.of(build("attention", prunable=("attention.[qv]", "output")))
    assert list(layout.weights) == ["attention.q.weight", "attention.v.weight", "output.weight"]
    assert layout.left == {"key": 64, "attention.k": 64, "attention.out_proj": 64}
    with pytest.raises(UsageError, match=r"its trait `prunable` names 'fc\*', .* there are key, attention.q, "):
        build("attention", prunable=("fc*",))


def test_a_model_that_cannot_be_followed_has_the_weights_of_known_layers_and_says_so() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.output = nn.Parameter(torch.ones(64, 4)), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                raise ValueError("only trains")
            made: Tensor = self.output(x.flatten(1) @ self.matrix)
            return made

    MODELS["stubborn"] = Stubborn
    try:
        with pytest.warns(UserWarning, match=r"Stubborn: its code cannot be followed \(only trains\)"):
            model = build("stubborn")
    finally:
        del MODELS["stubborn"]
    assert list(prunable(model)) == ["output.weight"]


@pytest.mark.parametrize("name", [*CATALOGUE, *ZOO, *MODELS])
def test_what_is_prunable_is_what_a_pass_shows_to_multiply(name: str) -> None:
    model, shape = catalogue(name)
    found = trace(on_device(model, "meta"), torch.zeros(2, *shape, device="meta"))
    names = {id(parameter): own for own, parameter in model.named_parameters()}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    layout = Layout.of(model)
    told = {names[id(parameters[place.parameter])] for place in layout.weights.values()}
    assert told == found.multiplied
    embeddings = {"embedding"} if name == "words" else set()
    assert set(layout.left) == {layer_name(own) for own in found.computed} | embeddings


def test_all_weights_of_a_vision_transformer_are_prunable() -> None:
    """The closed form: a patch embedding, twelve blocks of four square matrices and a perceptron, a head."""
    model, _ = catalogue("vit_b_16")
    counted = sum(weight.numel() for weight in prunable(model).values())
    assert counted == 3 * 16 * 16 * 768 + 12 * (4 * 768**2 + 2 * 768 * 3072) + 768 * 10
    assert Layout.of(model).left == {} and len(prunable(model)) == 1 + 12 * 6 + 1


@pytest.mark.parametrize("name", [*CATALOGUE, *MODELS, "swin_t"])
def test_a_state_is_taken_apart_and_put_together_without_loss(name: str) -> None:
    model, _ = catalogue(name)
    layout, state = Layout.of(model), model.state_dict()
    weights = layout.split(state)
    assert set(layout.weights) <= set(weights)
    joined = layout.join(weights)
    assert list(joined) == list(state)
    for key, value in state.items():
        assert joined[key].shape == value.shape and (value.is_meta or torch.equal(joined[key], value))
    if name not in MODELS:  # what is stored of the catalogue's models is their state dict itself
        assert (layout.parts, layout.same) == ({}, {}) and list(weights) == list(state)
        assert all(weights[key] is value for key, value in state.items())
    assert layout.join(dict(reversed(list(weights.items())))).keys() == state.keys()


@pytest.mark.parametrize("name", MODELS)
def test_a_network_loads_what_another_of_its_kind_gives(name: str) -> None:
    model, other, x = build(name), build(name), torch.randn(3, *SHAPE)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.01)
    load(model, state_of(other))
    assert torch.equal(model.eval()(x), other.eval()(x))
    found = effective(lent(model, other.state_dict()))
    assert all(torch.equal(value, state_of(other)[weight]) for weight, value in found.items())


@pytest.mark.parametrize("name", MODELS)
def test_weights_with_parameters_of_their_own_give_the_same_network_and_gradients(name: str) -> None:
    model, x = build(name), torch.randn(3, *SHAPE)
    model(x).square().sum().backward()
    whole: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
    expected = {
        weight: place.rows_of(whole[place.parameter].grad).clone() for weight, place in Layout.of(model).weights.items()
    }
    copied = deepcopy(model)
    weights = own_parameters(copied, expected)
    made = copied(x)
    assert torch.allclose(made, model(x), atol=1e-6)
    found = torch.autograd.grad(made.square().sum(), list(weights.values()))
    for (weight, slope), gradient in zip(expected.items(), found, strict=True):
        assert torch.allclose(slope, gradient, atol=1e-4), weight


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_mask_holds_on_each_weight_and_its_state_through_training(name: str, kind: str) -> None:
    """Against a loop that sets gradients, weights and momenta to zero by hand, in the plain model."""
    draws = torch.Generator().manual_seed(1)
    model = build(name)
    bits = {key: torch.rand(w.shape, generator=draws) < 0.4 for key, w in prunable(model).items()}
    first = next(iter(bits))
    bits[first] = torch.ones_like(bits[first])  # a layer that is not pruned
    ours, by_hand = model, deepcopy(model)
    x, y = torch.randn(16, *SHAPE, generator=draws), torch.arange(16) % 10

    def optimizer(network: nn.Module) -> torch.optim.Optimizer:
        if kind == "adam":
            return torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
        return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)

    def step(network: nn.Module, steps: torch.optim.Optimizer) -> None:
        steps.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()

    def clear(tensors: dict[str, Tensor]) -> None:
        for weight, place in Layout.of(by_hand).weights.items():
            place.rows_of(tensors[place.parameter])[~bits[weight]] = 0

    own, theirs = optimizer(ours), optimizer(by_hand)
    parameters = dict(by_hand.named_parameters(remove_duplicate=False))
    for network, steps in ((ours, own), (by_hand, theirs)):
        step(network, steps)
        steps.step()  # momenta of the dense network, as a rewound state has them
    with torch.no_grad():
        clear(parameters)  # type: ignore[arg-type]
        for moment in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            if moment in theirs.state[next(iter(parameters.values()))]:
                clear({key: theirs.state[p][moment] for key, p in parameters.items()})
    with masked(ours, Mask(bits), own):
        for _ in range(3):
            step(ours, own)
            for weight, place in Layout.of(ours).weights.items():
                gradient = ours.get_parameter(place.parameter).grad
                assert gradient is not None and not place.rows_of(gradient)[~bits[weight]].any()
            own.step()
            step(by_hand, theirs)
            clear({key: p.grad for key, p in parameters.items() if p.grad is not None})
            theirs.step()
            with torch.no_grad():
                clear(parameters)  # type: ignore[arg-type]
    for key, value in ours.state_dict().items():
        assert torch.allclose(value, by_hand.state_dict()[key], atol=1e-6), key
    for weight, value in prunable(ours).items():
        assert not value[~bits[weight]].any() and value[bits[weight]].any()


def test_a_mask_of_a_whole_parameter_holds_as_well() -> None:
    model = build("attention")
    bits = {"attention.in_proj_weight": torch.rand(24, 8) < 0.5}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with masked(model, Mask(bits), optimizer):
        model(torch.randn(4, *SHAPE)).sum().backward()
        optimizer.step()
    weight = model.get_parameter("attention.in_proj_weight")
    assert not weight[~bits["attention.in_proj_weight"]].any() and weight[bits["attention.in_proj_weight"]].all()


def test_compiled_engines_refuse_layers_that_share_a_weight() -> None:
    model: Any = Perceptron((4,), 3, (5, 5, 5), "none", "relu", 0.0, False)
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert unsupported(objective, optimizer) is None
    model.fc3.weight = model.fc2.weight
    assert unsupported(objective, optimizer) == "trains layers with a weight of their own only"
    for name in ("lstm", "attention", "tied", "own"):
        objective = Objective(build(name), nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
        assert unsupported(objective, optimizer) == "trains fully connected networks only"


def test_the_keys_of_networks_with_packed_attention_are_new_and_no_others() -> None:
    models = registry.models
    assert models.identity(Component("torchvision", {"arch": "vit_b_16"}))["version"] == 2
    for arch in ("resnet18", "swin_t", "convnext_tiny", "maxvit_t"):
        assert models.identity(Component("torchvision", {"arch": arch}))["version"] == 1


def plan_of(*overrides: str) -> Plan:
    return hand("prune.levels=1", "branches=[{name: shuffle, scope: global}]", *overrides)


def test_the_keys_of_a_global_shuffle_are_new_only_where_a_layer_is_never_pruned() -> None:
    def branch(*overrides: str) -> dict[str, object]:
        return next(job.identity["branch"] for job in plan_of(*overrides) if job.kind == "branch")

    assert branch() == branch("prune.rates={output: 0.5}") == {"name": "shuffle", "version": 1, "scope": "global"}
    assert branch("prune.rates={output: 0}")["among"] == "pruned layers"
    tickets = [[job.key for job in plan_of(*given)] for given in ((), ("prune.embeddings=false",))]
    assert tickets[0] == tickets[1]
    assert not {job.key for job in plan_of("prune.embeddings=true")} & set(tickets[0])


def test_each_product_with_a_weight_is_counted() -> None:
    """One example: 8 rows of 8; the recurrence takes its output once a row, a shared weight is used twice."""
    counts = {layer_name(name): count for name, count in per_layer(build("gru"), SHAPE).items()}
    assert counts == {"rnn.weight_ih_l0": 8 * 144, "rnn.weight_hh_l0": 8 * 108, "output": 60}
    counts = {layer_name(name): count for name, count in per_layer(build("attention"), SHAPE).items()}
    packed = dict.fromkeys(("key", "attention.q", "attention.k", "attention.v", "attention.out_proj"), 8 * 64)
    assert counts == {**packed, "output": 80}
    assert per_layer(build("tied"), SHAPE) == {"first.weight": 768, "a.weight": 288, "output.weight": 120}
    assert per_layer(build("own"), SHAPE) == {
        "matrix": 8 * 64,
        "stack": 256,
        "gpt.weight": 240,
        "bilinear.weight": 180,
        "output.weight": 50,
    }
