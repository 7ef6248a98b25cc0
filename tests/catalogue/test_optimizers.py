"""All registered optimizers: what the trainer counts on, their libraries' own steps, and the papers' formulas."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_optimizer
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from lottery import registry
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.engine import DenseEngine
from lottery.training.state import flatten, load_optimizer, optimizer_state, unflatten
from tests.support.entries import OPTIMIZERS, Study, arguments, make, refuses, weights

SHAPE, CLASSES = (1, 6, 6), 3


def network(seed: int = 0) -> nn.Sequential:
    """Convolution, batch normalization, and two linear layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3)
        )


def scheduled(step: int) -> float:
    """A multiplier of the learning rate that no two steps share."""
    return 1 / (1 + 0.1 * step)


def train(
    name: str, model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, multiplier: Callable[[int], float]
) -> None:
    study = Study(name, SHAPE, CLASSES)
    engine = DenseEngine(study.objective(model, optimizer), optimizer)
    for step in steps:
        for group, rate in zip(optimizer.param_groups, rates(name, optimizer), strict=True):
            group["lr"] = rate * multiplier(step)
        engine.step(*study.batch(step))


def rates(name: str, optimizer: torch.optim.Optimizer) -> list[float]:
    """Each group's learning rate before any schedule: that of the arguments, which inner optimizers share."""
    return [arguments(name)["lr"]] * len(optimizer.param_groups)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_names_its_source_and_a_range_of_rates(name: str) -> None:
    entry = registry.optimizers[name]
    assert entry.traits.rates is not None
    low, high = entry.traits.rates
    assert 0 < low < high
    assert low <= entry.defaults.get("lr", low) <= high
    assert re.search(r"\b\d{4}\b", entry.source)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_evaluates_the_closure_and_returns_the_loss_before_it(name: str) -> None:
    model, calls = network(), 0
    optimizer, study = make(name, model), Study(name, SHAPE, CLASSES)
    objective, start = study.objective(model, optimizer), weights(model)

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        return objective.closure()

    for step in range(3):
        x, y = study.batch(step)
        objective.x, objective.y = x, y
        with torch.no_grad():
            before = nn.functional.cross_entropy(copy.deepcopy(model)(x), y)
        calls = 0
        loss = optimizer.step(closure)  # type: ignore[arg-type]
        assert isinstance(loss, Tensor)
        torch.testing.assert_close(loss.detach(), before, rtol=1e-6, atol=0)
        assert calls >= 1
    assert not torch.equal(weights(model), start)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_from_a_checkpoint_to_the_same_bytes(name: str) -> None:
    straight = network()
    optimizer = make(name, straight)
    train(name, straight, optimizer, range(9), scheduled)
    tensors: dict[str, Tensor] = {}
    text = json.dumps(flatten(optimizer_state(optimizer), "optimizer", tensors))
    tensors = {place: value.clone(memory_format=torch.contiguous_format) for place, value in tensors.items()}
    model = {
        place: value.clone(memory_format=torch.contiguous_format) for place, value in straight.state_dict().items()
    }
    train(name, straight, optimizer, range(9, 20), scheduled)

    resumed = network(seed=1)
    optimizer = make(name, resumed)
    resumed.load_state_dict(model)
    load_optimizer(optimizer, unflatten(json.loads(text), tensors))
    train(name, resumed, optimizer, range(9, 20), scheduled)
    for place, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[place]), place


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_schedule_that_differs_in_one_step_leads_elsewhere(name: str) -> None:
    finals = []
    for third in (1.0, 0.5):
        model = network()
        train(name, model, make(name, model), range(4), lambda step, m=third: m if step == 2 else 1.0)  # type: ignore[misc]
        finals.append(weights(model))
    assert not torch.equal(*finals)


DIRECT: dict[str, Callable[[Iterator[nn.Parameter], float], torch.optim.Optimizer]] = {
    "gd": lambda p, lr: torch.optim.SGD(p, lr, fused=True),
    "sgd": lambda p, lr: torch.optim.SGD(p, lr, fused=True),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, fused=True),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True, fused=True),
    "adam": lambda p, lr: torch.optim.Adam(p, lr, fused=True),
    "amsgrad": lambda p, lr: torch.optim.Adam(p, lr, amsgrad=True, fused=True),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.01, fused=True),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr, eps=1e-10, fused=True),
    "adadelta": lambda p, lr: torch.optim.Adadelta(p, lr, rho=0.95, eps=1e-6),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr, alpha=0.9),
    "nadam": lambda p, lr: torch.optim.NAdam(p, lr),
    "radam": lambda p, lr: torch.optim.RAdam(p, lr, foreach=True),
    "adamax": lambda p, lr: torch.optim.Adamax(p, lr),
    "yogi": lambda p, lr: pytorch_optimizer.Yogi(p, lr, eps=1e-3, initial_accumulator=1e-6),
    "padam": lambda p, lr: pytorch_optimizer.PAdam(p, lr, partial=1 / 8),
    "adabound": lambda p, lr: pytorch_optimizer.AdaBound(p, lr, final_lr=0.1, gamma=1e-3),
    "adamod": lambda p, lr: pytorch_optimizer.AdaMod(p, lr, betas=(0.9, 0.999, 0.999)),
    "accsgd": lambda p, lr: pytorch_optimizer.AccSGD(p, lr, kappa=1000.0, xi=10.0, constant=0.7),
    "qhm": lambda p, lr: pytorch_optimizer.QHM(p, lr, momentum=0.999, nu=0.7, foreach=True),
    "qhadam": lambda p, lr: pytorch_optimizer.QHAdam(p, lr, betas=(0.995, 0.999), nus=(0.7, 1.0)),
    "aggmo": lambda p, lr: pytorch_optimizer.AggMo(p, lr, betas=(0.0, 0.9, 0.99)),
    "lars": lambda p, lr: pytorch_optimizer.LARS(p, lr, momentum=0.9, trust_coefficient=1e-3),
    "lamb": lambda p, lr: _lamb(p, lr),
}


def _lamb(parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    optimizer = pytorch_optimizer.Lamb(parameters, lr, adam_debias=True)
    optimizer.clamp = math.inf
    return optimizer


@pytest.mark.parametrize("name", DIRECT)
def test_without_a_mask_ten_steps_are_those_of_the_library_to_the_bit(name: str) -> None:
    ours, theirs, study = network(), network(), Study(name, SHAPE, CLASSES)
    train(name, ours, make(name, ours), range(10), lambda _: 1.0)
    optimizer = DIRECT[name](theirs.parameters(), arguments(name)["lr"])
    for step in range(10):
        x, y = study.batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        optimizer.step()
    assert torch.equal(weights(ours), weights(theirs))


@pytest.mark.parametrize("name", DIRECT)
def test_at_a_rate_of_zero_gradient_steps_move_nothing(name: str) -> None:
    if name == "accsgd":
        pytest.skip("accsgd averages weights: a step at a rate of zero still moves them towards their average")
    model = network()
    optimizer = make(name, model)
    train(name, model, optimizer, range(3), lambda _: 1.0)
    start = weights(model)
    train(name, model, optimizer, range(3, 4), lambda _: 0.0)
    assert torch.equal(weights(model), start)


def test_gradient_descent_is_refused_on_batches() -> None:
    assert refuses("gd", "batch_size") and not refuses("sgd", "batch_size")


def test_settings_that_make_no_method_are_refused() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(UsageError, match=r"xi 10 is above sqrt\(kappa\) = 9"):
        make("accsgd", model, kappa=81.0)
    with pytest.raises(ValidationError, match="once"):
        registry.optimizers["aggmo"].schema.model_validate({"lr": 0.1, "betas": [0.9, 0.9]})


def walk(name: str, gradients: list[Tensor], start: Tensor, **keys: Any) -> list[Tensor]:
    """The weight after each step when the gradients are these, whatever the weight."""
    holder = nn.ParameterList([nn.Parameter(start.clone())])
    optimizer, places = make(name, holder, **keys), []
    for gradient in gradients:

        def closure(gradient: Tensor = gradient) -> Tensor:
            holder[0].grad = gradient.clone()
            return torch.zeros(())

        optimizer.step(closure)  # type: ignore[arg-type]
        places.append(holder[0].detach().clone())
    return places


def means(gradients: list[Tensor], beta1: float, beta2: float) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Step, gradient and the running means of gradients and their squares, from 0 and not corrected for bias."""
    m = v = torch.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        yield t, g, m, v


Walk = Iterator[Tensor]


def adagrad(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    total = torch.zeros_like(w)
    for g in gradients:
        total = total + g**2
        yield (w := w - lr * g / (total.sqrt() + 1e-10))


def adadelta(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    squares = moves = torch.zeros_like(w)
    for g in gradients:
        squares = 0.95 * squares + 0.05 * g**2
        move = (moves + 1e-6).sqrt() / (squares + 1e-6).sqrt() * g
        moves = 0.95 * moves + 0.05 * move**2
        yield (w := w - lr * move)


def rmsprop(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for _, g, _, v in means(gradients, 0.0, 0.9):
        yield (w := w - lr * g / (v.sqrt() + 1e-8))


def amsgrad(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    largest = torch.zeros_like(w)
    for t, _, m, v in means(gradients, 0.9, 0.999):
        largest = torch.maximum(largest, v)
        yield (w := w - lr * (m / (1 - 0.9**t)) / ((largest / (1 - 0.999**t)).sqrt() + 1e-8))


def nadam(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    product = 1.0
    for t, g, m, v in means(gradients, 0.9, 0.999):
        now, following = (0.9 * (1 - 0.5 * 0.96 ** (s / 250)) for s in (t, t + 1))
        product *= now
        mixed = (1 - now) * g / (1 - product) + following * m / (1 - product * following)
        yield (w := w - lr * mixed / ((v / (1 - 0.999**t)).sqrt() + 1e-8))


def radam(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    longest = 2 / (1 - 0.999) - 1
    for t, _, m, v in means(gradients, 0.9, 0.999):
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        scale = torch.ones_like(w)
        if length > 5:
            bound = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            scale = math.sqrt(bound * (1 - 0.999**t)) / (v.sqrt() + 1e-8)
        yield (w := w - lr * m / (1 - 0.9**t) * scale)


def adamax(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    largest = torch.zeros_like(w)
    for t, g, m, _ in means(gradients, 0.9, 0.0):
        largest = torch.maximum(0.999 * largest, g.abs() + 1e-8)
        yield (w := w - lr / (1 - 0.9**t) * m / largest)


def adamw(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for t, _, m, v in means(gradients, 0.9, 0.999):
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        yield (w := w - lr * (step + 0.01 * w))


def yogi(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    m = v = torch.full_like(w, 1e-6)
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, v - 0.001 * torch.sign(v - g**2) * g**2
        yield (w := w - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-3))


def padam(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for t, _, m, v in means(gradients, 0.9, 0.999):
        yield (w := w - lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (v.sqrt() + 1e-8) ** (2 / 8))


def adabound(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for t, _, m, v in means(gradients, 0.9, 0.999):
        rate = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (v.sqrt() + 1e-8)
        low, high = 0.1 - 0.1 / (0.001 * t + 1), 0.1 + 0.1 / (0.001 * t)
        yield (w := w - rate.clamp(low, high) * m)


def adamod(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    bound = torch.zeros_like(w)
    for t, _, m, v in means(gradients, 0.9, 0.999):
        rate = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (v.sqrt() + 1e-8)
        bound = 0.999 * bound + 0.001 * rate
        yield (w := w - torch.minimum(rate, bound) * m)


def accsgd(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    alpha, average = 1 - 0.7**2 * 10 / 1000, w
    for g in gradients:
        average = alpha * average + (1 - alpha) * (w - 1000 * lr / 0.7 * g)
        yield (w := 0.7 / (0.7 + 1 - alpha) * (w - lr * g) + (1 - alpha) / (0.7 + 1 - alpha) * average)


def qhm(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for _, g, m, _ in means(gradients, 0.999, 0.0):
        yield (w := w - lr * (0.3 * g + 0.7 * m))


def qhadam(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for t, g, m, v in means(gradients, 0.995, 0.999):
        yield (w := w - lr * (0.3 * g + 0.7 * m / (1 - 0.995**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))


def aggmo(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    velocities = [torch.zeros_like(w) for _ in range(3)]
    for g in gradients:
        velocities = [beta * v + g for beta, v in zip((0.0, 0.9, 0.99), velocities, strict=True)]
        yield (w := w - lr / 3 * sum(velocities))


def lars(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    velocity = torch.zeros_like(w)
    for g in gradients:
        velocity = 0.9 * velocity + 1e-3 * w.norm() / g.norm() * g
        yield (w := w - lr * velocity)


def lamb(w: Tensor, gradients: list[Tensor], lr: float) -> Walk:
    for t, _, m, v in means(gradients, 0.9, 0.999):
        r = (m / (1 - 0.9**t)) / (v / (1 - 0.999**t)).sqrt()  # the paper's last version; eps is negligible below
        yield (w := w - lr * w.norm() / r.norm() * r)


ADAPTIVE = [adagrad, adadelta, rmsprop, amsgrad, nadam, radam, adamax, adamw, yogi, padam, adabound, adamod, qhadam]
FORMULAS = {rule.__name__: rule for rule in [*ADAPTIVE, accsgd, qhm, aggmo, lars, lamb]}


@pytest.mark.parametrize("name", FORMULAS)
def test_steps_are_those_of_the_formula(name: str) -> None:
    tolerance = 1e-6 if name == "qhadam" else 1e-9  # the class keeps that one's bias corrections in float32
    draws = torch.Generator().manual_seed(7)
    start = torch.randn(3, 4, generator=draws, dtype=torch.float64)
    gradients = [
        size * torch.randn(3, 4, generator=draws, dtype=torch.float64) for size in (3.0, 1.0, 0.3, 2.0, 0.1, 1, 1, 1)
    ]
    lr = arguments(name)["lr"]
    keys = {"eps": 1e-15} if name == "lamb" else {}
    walked = walk(name, gradients, start, **keys)
    for place, expected in zip(walked, FORMULAS[name](start, gradients, lr), strict=True):
        torch.testing.assert_close(place, expected, rtol=tolerance, atol=tolerance * lr)


def test_an_adabound_step_stays_within_the_band_that_the_schedule_scales() -> None:
    model = nn.ParameterList([nn.Parameter(torch.zeros(1, dtype=torch.float64))])
    optimizer = make("adabound", model, betas=(0.0, 0.999), gamma=1e6)  # the band is final_lr but for a millionth
    moves = []
    for multiplier in (1.0, 0.5):
        optimizer.param_groups[0]["lr"] = arguments("adabound")["lr"] * multiplier
        before = model[0].item()
        model[0].grad = torch.full((1,), 1e-3, dtype=torch.float64)
        optimizer.step()
        moves.append(before - model[0].item())
    assert moves == pytest.approx([0.1e-3, 0.05e-3], rel=2e-6)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_trust_ratios_under_a_mask_are_those_of_the_surviving_weights(name: str) -> None:
    model = nn.Linear(4, 3, bias=False).double()
    alive = torch.tensor([[True, False, True, False], [False, False, False, False], [True, True, False, True]])
    mask, optimizer = Mask({"weight": alive}), make(name, model)
    lr, eps = arguments(name)["lr"], 1e-6
    with masked(model, mask, optimizer):
        w = model.weight.detach()[alive].clone()
        model(torch.arange(8.0, dtype=torch.float64).reshape(2, 4)).square().sum().backward()
        assert model.weight.grad is not None
        g = model.weight.grad[alive].clone()
        optimizer.step()
        moved = w - model.weight.detach()[alive]
    if name == "lars":
        expected = lr * 1e-3 * w.norm() / g.norm() * g
    else:
        r = 0.1 * g / (math.sqrt(0.001) * g.abs() + eps)
        expected = lr * w.norm() / (r.norm() + eps) * r
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=0)


def test_lamb_counts_weights_up_to_the_norm_it_is_told() -> None:
    gradient = [torch.ones(1, 4, dtype=torch.float64)]
    start = torch.full((1, 4), 3.0, dtype=torch.float64)  # of norm 6
    free, held = (walk("lamb", gradient, start, lr=0.1, clamp=clamp)[0] for clamp in (None, 2.0))
    torch.testing.assert_close(start - free, 3 * (start - held), rtol=1e-9, atol=0)
