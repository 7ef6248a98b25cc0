"""Optimizers that evaluate a step several times, look at the whole set or hold another optimizer: closed forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.optimizers._closures import replayed
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.objective import Objective
from lottery.values import Component

N, D = 24, 6


@pytest.fixture(autouse=True)
def _draws_are_put_back() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def regression(columns: list[int] | None = None) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Least squares in 6 weights (or those of `columns`), float64; weights, inputs and targets."""
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(N, D, generator=draws, dtype=torch.float64) * torch.linspace(0.5, 2, D, dtype=torch.float64)
    y = torch.randn(N, 1, generator=draws, dtype=torch.float64)
    w = torch.randn(1, D, generator=draws, dtype=torch.float64)
    columns = columns or list(range(D))
    model: Any = nn.Sequential(nn.Linear(len(columns), 1, bias=False).double())
    with torch.no_grad():
        model[0].weight.copy_(w[:, columns])
    return model, x[:, columns], y


class Session:
    """An optimizer with its objective, stepping through the batches of fixed data in their order."""

    def __init__(self, model: nn.Module, name: str, x: Tensor, y: Tensor, batches: int = 1, **args: Any):
        self.optimizer = registry.optimizers[name].make(model, **args)
        self.objective = Objective(model, nn.MSELoss(), lambda: iter([(x, y)]), steps_per_epoch=batches)
        if hasattr(self.optimizer, "objective"):
            self.optimizer.objective = self.objective
        self.batches = list(zip(x.chunk(batches), y.chunk(batches), strict=True))
        self.model, self.done = model, 0

    def step(self, count: int = 1) -> float:
        """The loss that the last step returned."""
        for _ in range(count):
            self.objective.x, self.objective.y = self.batches[self.done % len(self.batches)]
            self.done += 1
            loss = float(self.optimizer.step(self.objective.closure))
        return loss

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def loss_and_gradient(x: Tensor, y: Tensor, w: Tensor) -> tuple[float, Tensor]:
    """Of the mean squared error of a linear model, in closed form."""
    residual = x @ w - y.flatten()
    return float(residual.square().mean()), 2 / len(y) * x.T @ residual


def test_conjugate_gradients_follow_the_formula_of_polak_ribiere_plus_and_meet_the_strong_wolfe_conditions() -> None:
    model, x, y = regression()
    session = Session(model, "cg", x, y, lr=1.0, max_iter=1, curvature=0.4)
    direction = last = None
    restarts = 0
    for _ in range(8):
        before = session.weights()
        value, gradient = loss_and_gradient(x, y, before)
        assert session.step() == pytest.approx(value, rel=1e-12)
        beta = 0.0 if last is None else max(0.0, float(gradient @ (gradient - last) / (last @ last)))
        conjugate = -gradient if direction is None else -gradient + beta * direction
        restarts += beta == 0.0
        direction, last = conjugate, gradient
        moved = session.weights() - before
        length = float(moved @ direction / (direction @ direction))
        torch.testing.assert_close(moved, length * direction, rtol=1e-8, atol=1e-12)
        after, slope_after = loss_and_gradient(x, y, session.weights())
        slope = float(gradient @ direction)
        assert length > 0
        assert after <= value + 1e-4 * length * slope
        assert abs(float(slope_after @ direction)) <= 0.4 * abs(slope)
    assert restarts < 8  # beta was at work


def test_conjugate_gradients_restart_with_each_batch_that_is_not_the_whole_set() -> None:
    model, x, y = regression()
    session = Session(model, "cg", x, y, batches=3, lr=1.0, max_iter=1)
    for _ in range(4):
        before, batch = session.weights(), session.batches[session.done % 3]
        session.step()
        moved, gradient = session.weights() - before, loss_and_gradient(*batch, before)[1]
        assert float(nn.functional.cosine_similarity(moved, -gradient, dim=0)) == pytest.approx(1, abs=1e-12)


def test_lbfgs_steps_as_the_class_of_torch_to_the_bit() -> None:
    finals = []
    for own in (True, False):
        model, x, y = regression()
        if own:
            session = Session(model, "lbfgs", x, y, batches=2, max_iter=4)
            session.step(5)
        else:
            other = torch.optim.LBFGS(model.parameters(), max_iter=4, history_size=10, line_search_fn="strong_wolfe")
            session = Session(model, "lbfgs", x, y, batches=2)
            session.optimizer = other
            session.step(5)
        finals.append(session.weights())
    assert torch.equal(*finals)


def test_lbfgs_and_cg_take_a_learning_rate_of_zero_and_weights_laid_out_channels_last() -> None:
    draws = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 2, 5, 5, generator=draws), torch.randn(8, 3, 3, 3, generator=draws)
    for name in ("lbfgs", "cg"):
        model = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        session = Session(model, name, x, y)
        first = session.step()
        session.optimizer.param_groups[0]["lr"] = 0.0
        assert session.step(3) < first


def test_every_evaluation_of_a_step_sees_the_same_dropout_and_the_statistics_see_the_first_only() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    x = torch.randn(16, 4)
    once = nn.BatchNorm1d(8)
    once(model[0](x))
    evaluate = replayed(lambda: model(x).square().mean(), model)
    losses = [evaluate().item() for _ in range(3)]
    drawn = torch.get_rng_state()
    assert losses[0] == losses[1] == losses[2]
    assert once.running_mean is not None
    assert torch.equal(model[1].running_mean, once.running_mean)
    assert int(model[1].num_batches_tracked) == 1
    assert replayed(lambda: model(x).square().mean(), model)().item() != losses[0]  # the next step draws its own
    assert not torch.equal(drawn, torch.get_rng_state())


@pytest.mark.parametrize("smoothing", ["none", "constant", "harmonic"])
def test_bb_is_algorithm_2_of_tan_et_al_with_its_smoothing(smoothing: str) -> None:
    """Against the recursion for C_k written as its closed form, the geometric mean of size_j phi(j)."""
    m, epochs, lr, beta = 4, 6, 0.02, 0.3
    model, x, y = regression()
    session = Session(model, "bb", x, y, batches=m, lr=lr, beta=beta, smoothing=smoothing)
    w, phi = session.weights().clone(), {"harmonic": lambda k: k}.get(smoothing, lambda k: 1)
    starts, averages, sizes, size = list[Tensor](), list[Tensor](), list[float](), lr
    for k in range(epochs):
        if k > 1:
            s, difference = w - starts[-1], averages[-1] - averages[-2]
            size = float(s @ s / (s @ difference).abs()) / m
            sizes.append(size)
            if smoothing != "none":
                scaled = [each * phi(j) for j, each in enumerate(sizes, start=2)]
                size = float(np.exp(np.mean(np.log(scaled)))) / phi(k)
        starts.append(w.clone())
        averages.append(torch.zeros_like(w))
        for batch in session.batches:
            gradient = loss_and_gradient(*batch, w)[1]
            averages[-1] = beta * gradient + (1 - beta) * averages[-1]
            w = w - size * gradient
        session.step(m)
        torch.testing.assert_close(session.weights(), w, rtol=1e-9, atol=1e-12)
    assert size != lr


def test_the_step_of_bb_on_an_isotropic_quadratic_is_the_inverse_curvature_over_the_steps_of_an_epoch() -> None:
    """f = a |w|^2 / 2, whole batches: w_t = (1 - lr a)^t w_0, so that s = (1 - lr a) y / a exactly."""
    m, lr, a = 5, 0.05, 3.0
    w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = registry.optimizers["bb"].make(nn.ParameterList([w]), lr=lr, beta=1.0, smoothing="none")
    optimizer.objective = Objective(nn.ParameterList([w]), nn.MSELoss(), lambda: iter([]), steps_per_epoch=m)

    def closure() -> Tensor:
        w.grad = a * w.detach()
        return (a / 2 * w.detach().square()).sum()

    for _ in range(2 * m + 1):
        optimizer.step(closure)
    assert optimizer.param_groups[0]["size"] == pytest.approx((1 - lr * a) / (a * m), rel=1e-12)


def test_the_multiplier_of_a_schedule_comes_on_top_of_the_step_of_bb() -> None:
    model, x, y = regression()
    session = Session(model, "bb", x, y, batches=4, lr=0.02)
    session.step(10)
    before, gradient = session.weights(), loss_and_gradient(*session.batches[2], session.weights())[1]
    session.optimizer.param_groups[0]["lr"] = 0.02 * 0.25
    session.step()
    size = session.optimizer.param_groups[0]["size"]
    assert size != 0.02
    torch.testing.assert_close(session.weights(), before - 0.25 * size * gradient)


def test_svrg_steps_by_its_formula_with_a_new_snapshot_every_two_passes() -> None:
    model, x, y = regression()
    lr, decay = 0.03, 0.1
    session = Session(model, "svrg", x, y, batches=3, lr=lr, epochs=2, weight_decay=decay)
    w = session.weights().clone()
    for t in range(15):
        if t % 6 == 0:
            snapshot = w.clone()
        batch = session.batches[t % 3]
        direction = (
            loss_and_gradient(*batch, w)[1]
            - loss_and_gradient(*batch, snapshot)[1]
            + loss_and_gradient(x, y, snapshot)[1]
            + decay * w
        )
        value = loss_and_gradient(*batch, w)[0]
        w = w - lr * direction
        assert session.step() == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(session.weights(), w, rtol=1e-10, atol=1e-12)


def test_svrg_takes_a_new_snapshot_when_the_mask_tightens() -> None:
    model, x, y = regression()
    session = Session(model, "svrg", x, y, batches=3, lr=0.03, epochs=100)
    with masked(model, Mask({"0.weight": torch.ones(1, D, dtype=torch.bool)}), session.optimizer) as held:
        session.step(4)
        held.tighten(Mask({"0.weight": torch.tensor([[True] * 4 + [False] * 2])}))
        before = session.weights()
        session.step()
        expected = loss_and_gradient(x, y, before)[1][:4]  # at the snapshot, the step is that of the whole gradient
        torch.testing.assert_close(session.weights()[:4], before[:4] - 0.03 * expected)


@pytest.mark.parametrize("name", ["lbfgs", "cg"])
def test_a_mask_that_tightens_makes_a_line_search_start_afresh(name: str) -> None:
    finals = []
    for fresh in (False, True):
        model, x, y = regression()
        session = Session(model, name, x, y, max_iter=2)
        with masked(model, Mask({"0.weight": torch.ones(1, D, dtype=torch.bool)}), session.optimizer) as held:
            session.step(2)
            held.tighten(Mask({"0.weight": torch.tensor([[True] * 4 + [False] * 2])}))
            if not fresh:
                session.step(2)
        if fresh:
            session = Session(model, name, x, y, max_iter=2)
            with masked(model, held.mask, session.optimizer):
                session.step(2)
        finals.append(session.weights())
    assert torch.equal(*finals)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_steps_by_the_gradient_at_the_perturbed_weights(adaptive: bool) -> None:
    model, x, y = regression()
    base = Component("momentum", {"weight_decay": 0.1})
    session = Session(model, "sam", x, y, lr=0.05, rho=0.2, adaptive=adaptive, optimizer=base)
    w, v = session.weights().clone(), torch.zeros(D, dtype=torch.float64)
    for _ in range(3):
        value, g = loss_and_gradient(x, y, w)
        scale = w.abs() if adaptive else torch.ones_like(w)
        near = w + 0.2 * scale**2 * g / (scale * g).norm()
        v = 0.9 * v + loss_and_gradient(x, y, near)[1] + 0.1 * w
        w = w - 0.05 * v
        assert session.step() == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(session.weights(), w, rtol=1e-10, atol=1e-12)


def test_sam_agrees_with_the_class_of_pytorch_optimizer() -> None:
    finals = []
    for own in (True, False):
        model, x, y = regression()
        if own:
            session = Session(model, "sam", x, y, lr=0.05, rho=0.1, optimizer=Component("momentum"))
            session.step(5)
        else:
            other = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.1, lr=0.05, momentum=0.9)
            for _ in range(5):
                objective = Objective(model, nn.MSELoss(), lambda: iter([]), steps_per_epoch=1)
                objective.x, objective.y = x, y
                objective.closure()
                other.step(objective.closure)  # type: ignore[arg-type]
        finals.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(finals[0], finals[1], rtol=1e-6, atol=1e-8)  # its norm is taken in float32


def test_the_perturbation_of_sam_is_zero_on_pruned_weights() -> None:
    model, x, y = regression()
    session = Session(model, "sam", x, y, lr=0.05, rho=0.3, optimizer=Component("sgd"))
    seen: list[Tensor] = []
    model[0].register_forward_pre_hook(lambda layer, _: seen.append(layer.weight.detach().clone()))
    with masked(model, Mask({"0.weight": torch.tensor([[True, False] * 3])}), session.optimizer):
        session.step(2)
    assert len(seen) == 4
    assert not torch.stack(seen)[:, 0, 1::2].any()
    assert (seen[1] - seen[0]).norm() == pytest.approx(0.3, rel=1e-9)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4), nn.Linear(4, 1))


def batch() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randn(N, D, generator=draws), torch.randn(N, 1, generator=draws)


def test_muon_steps_as_the_class_of_torch_to_the_bit() -> None:
    finals = []
    for own in (True, False):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 1, bias=False))
        session = Session(model, "muon", *batch(), lr=0.02, optimizer=Component("sgd"), layers="all", weight_decay=0.1)
        if not own:
            options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
            session.optimizer = torch.optim.Muon(model.parameters(), **options)
        session.step(4)
        finals.append(session.weights())
    assert torch.equal(*finals)


def test_muon_has_the_hidden_matrices_and_the_named_optimizer_has_all_else_at_its_own_rate() -> None:
    finals = []
    for own in (True, False):
        torch.manual_seed(3)
        model: Any = perceptron()
        adam = Component("adam", {"lr": 3e-3, "betas": (0.8, 0.9)})
        session = Session(model, "muon", *batch(), lr=0.02, optimizer=adam)
        if own:
            session.step(4)
        else:
            hidden = [model[2].weight, model[4].weight]
            rest = [p for p in model.parameters() if not any(p is weight for weight in hidden)]
            first = torch.optim.Muon(hidden, lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
            second = torch.optim.Adam(rest, lr=3e-3, betas=(0.8, 0.9), fused=True)
            session.objective.x, session.objective.y = session.batches[0]
            for _ in range(4):
                session.objective.closure()
                first.step()
                second.step()
        finals.append(session.weights())
    assert torch.equal(*finals)


def test_a_convolution_steps_with_muon_as_the_matrix_of_its_filters() -> None:
    draws = torch.Generator().manual_seed(1)
    whole = torch.randn(5, 3, 2, 2, generator=draws)
    gradients = [torch.randn(5, 3, 2, 2, generator=draws) for _ in range(3)]
    matrix = nn.Parameter(whole.flatten(1).clone())
    other = torch.optim.Muon([matrix], lr=0.02, weight_decay=0.0, adjust_lr_fn="original")
    for layout in (torch.contiguous_format, torch.channels_last):
        model: Any = nn.Sequential(nn.Conv2d(3, 5, 2, bias=False)).to(memory_format=layout)
        with torch.no_grad():
            model[0].weight.copy_(whole)
        optimizer = registry.optimizers["muon"].make(
            model, lr=0.02, optimizer=Component("sgd"), layers="all", adjust_lr_fn="original"
        )
        address = model[0].weight.data_ptr()
        for gradient in gradients:

            def closure(gradient: Tensor = gradient, weight: nn.Parameter = model[0].weight) -> Tensor:
                weight.grad = torch.empty_like(weight).copy_(gradient)
                return torch.zeros(())

            optimizer.step(closure)
            if layout is torch.contiguous_format:
                matrix.grad = gradient.flatten(1)
                other.step()
        assert torch.equal(model[0].weight.flatten(1), matrix)
        assert model[0].weight.is_contiguous(memory_format=layout)
        assert model[0].weight.data_ptr() == address
        assert optimizer.state[model[0].weight]["momentum_buffer"].shape == whole.shape


def test_a_masked_step_of_muon_is_the_full_step_of_the_masked_gradient_on_the_surviving_weights() -> None:
    torch.manual_seed(3)
    model: Any = perceptron()
    session = Session(model, "muon", *batch(), lr=0.02, optimizer=Component("sgd"))
    alive = torch.rand(5, 8, generator=torch.Generator().manual_seed(4)) < 0.5
    with masked(model, Mask({"2.weight": alive}), session.optimizer):
        full = nn.Parameter(model[2].weight.detach().clone())
        other = torch.optim.Muon([full], lr=0.02, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        session.step()
        full.grad = model[2].weight.grad
        assert full.grad is not None
        assert not full.grad[~alive].any()
        other.step()
        assert torch.equal(model[2].weight[alive], full[alive])
        assert full.detach()[~alive].any()  # what the projection takes back


OWN: dict[str, dict[str, Any]] = {
    "svrg": {"lr": 0.03, "weight_decay": 0.1},
    "bb": {"lr": 0.03, "weight_decay": 0.1},
    "lbfgs": {"max_iter": 3},
    "cg": {"max_iter": 3},
    "sam": {"lr": 0.03, "optimizer": Component("momentum", {"weight_decay": 0.1})},
}


@pytest.mark.parametrize("name", OWN)
def test_the_masked_problem_is_the_physically_smaller_one(name: str) -> None:
    columns = [0, 2, 3, 5]
    large, x, y = regression()
    session = Session(large, name, x, y, batches=3, **OWN[name])
    alive = torch.zeros(1, D, dtype=torch.bool)
    alive[0, columns] = True
    with masked(large, Mask({"0.weight": alive}), session.optimizer):
        session.step(10)
    model, x, y = regression(columns)
    small = Session(model, name, x, y, batches=3, **OWN[name])
    small.step(10)
    torch.testing.assert_close(session.weights()[columns], small.weights(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", [*OWN, "muon"])
def test_hooks_after_a_step_run_once(name: str) -> None:
    model = perceptron()
    args = OWN.get(name, {"lr": 0.01, "optimizer": Component("adam")})
    torch.optim.LBFGS(perceptron().parameters())  # torch hooks a class when it is first used
    torch.optim.Muon([nn.Parameter(torch.ones(2, 2))])
    session = Session(model, name, *batch(), **args)
    calls: list[int] = []
    session.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    session.step(3)
    assert len(calls) == 3


@pytest.mark.parametrize("inner", ["lbfgs", "cg", "svrg", "bb"])
@pytest.mark.parametrize("outer", ["sam", "muon"])
def test_an_optimizer_that_evaluates_the_loss_itself_is_refused_inside_another(outer: str, inner: str) -> None:
    with pytest.raises(UsageError, match=f"{inner} cannot work inside {outer}"):
        registry.optimizers[outer].make(perceptron(), lr=0.1, optimizer=Component(inner))


def test_the_rate_of_sam_is_written_once() -> None:
    with pytest.raises(UsageError, match=r"optimizer\.lr: momentum inside sam takes sam's lr, 0\.1"):
        registry.optimizers["sam"].make(perceptron(), lr=0.1, optimizer=Component("momentum", {"lr": 0.2}))


def test_muon_without_a_hidden_layer_names_the_way_out() -> None:
    with pytest.raises(UsageError, match="of 2 none is; write `layers: all`"):
        registry.optimizers["muon"].make(
            nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), lr=0.1, optimizer=Component("sgd")
        )
