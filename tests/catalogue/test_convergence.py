"""Each optimizer on problems whose solution is known: the rate or the number of steps that its theory gives it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from lottery import registry
from lottery.training.objective import Objective
from lottery.values import Component
from tests.support.entries import OPTIMIZERS, make

BATCHED = ("bb", "svrg")  # what they do between epochs needs several steps of one
SLOW = ("adamod", "qhadam", "radam")  # held back for longer than a test lasts by averages over 1000 steps
OWN: dict[str, dict[str, Any]] = {
    "muon": {"layers": "all"},
    "sam": {"optimizer": Component("sgd")},
    "shampoo": {"precondition_frequency": 1},  # theory's: the first roots, of one gradient, are too large for 20 steps
}


class Problem:
    """A linear model in float64 on fixed data with its lowest loss; `hessian` is that of the whole loss where it is
    quadratic."""

    def __init__(self, x: Tensor, y: Tensor, loss: nn.Module, start: Tensor):
        self.x, self.y, self.loss = x, y, loss
        self.start = start
        self.lowest = 0.0

    def model(self) -> Any:
        model: Any = nn.Sequential(nn.Linear(self.x.shape[1], len(self.start), bias=False).double())
        with torch.no_grad():
            model[0].weight.copy_(self.start)
        return model

    def gap(self, model: nn.Module) -> float:
        """How far the whole loss lies above its minimum."""
        with torch.no_grad():
            return float(self.loss(model(self.x), self.y)) - self.lowest

    def run(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: int,
        *,
        batches: int = 1,
        multiplier: Callable[[int], float] = lambda step: 1.0,
        draws: torch.Generator | None = None,
        after: Callable[[], object] = lambda: None,
    ) -> None:
        """Train on batches in their order, or on ones drawn with replacement, as theory has it, from `draws`."""
        size = len(self.x) // batches
        objective = Objective(model, self.loss, lambda: iter([(self.x, self.y)]), steps_per_epoch=batches)
        if hasattr(optimizer, "objective"):
            optimizer.objective = objective
        rates = [group["lr"] for group in optimizer.param_groups]
        for step in range(steps):
            if draws is None:
                rows = torch.arange(len(self.x))[step % batches * size :][:size]
            else:
                rows = torch.randint(len(self.x), (size,), generator=draws)
            objective.x, objective.y = self.x[rows], self.y[rows]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier(step)
            optimizer.step(objective.closure)  # type: ignore[arg-type]
            after()


class Quadratic(Problem):
    """Least squares whose Hessian has these eigenvalues, in a random basis; `noise` is the spread of the residuals."""

    def __init__(self, eigenvalues: list[float], *, noise: float = 0.0, n: int = 64):
        draws = torch.Generator().manual_seed(11)
        d = len(eigenvalues)
        basis, _ = torch.linalg.qr(torch.randn(d, d, generator=draws, dtype=torch.float64))
        columns, _ = torch.linalg.qr(torch.randn(n, d + 1, generator=draws, dtype=torch.float64))
        scale = (torch.tensor(eigenvalues, dtype=torch.float64) * n / 2).sqrt()
        x = columns[:, :d] * scale @ basis.T  # 2 x'x / n has the eigenvalues
        self.solution = torch.randn(d, generator=draws, dtype=torch.float64)
        y = x @ self.solution + noise * math.sqrt(n) * columns[:, d]  # the residual is orthogonal to all of x
        start = self.solution + 0.3 * torch.randn(d, generator=draws, dtype=torch.float64)
        super().__init__(x, y[:, None], nn.MSELoss(), start[None])
        self.lowest = noise**2
        self.mu, self.lipschitz = min(eigenvalues), max(eigenvalues)

    def distance(self, model: nn.Module) -> float:
        return float((next(model.parameters()).detach().flatten() - self.solution).norm())


def logistic() -> Problem:
    """Three classes that overlap, so that the loss has a minimum; found by scipy."""
    draws = torch.Generator().manual_seed(13)
    x = torch.randn(96, 4, generator=draws, dtype=torch.float64)
    logits = x @ (0.5 * torch.randn(4, 3, generator=draws, dtype=torch.float64))
    y = torch.multinomial(logits.softmax(1), 1, generator=draws).flatten()
    start = 0.3 * torch.randn(3, 4, generator=draws, dtype=torch.float64)
    problem = Problem(x, y, nn.CrossEntropyLoss(), start)

    def value(w: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        weight = torch.tensor(w.reshape(3, 4), requires_grad=True)
        loss = nn.functional.cross_entropy(x @ weight.T, y)
        loss.backward()
        assert weight.grad is not None
        return loss.item(), weight.grad.numpy().ravel()

    found = minimize(value, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert np.abs(found.jac).max() < 1e-8  # the loss is right to 1e-15 then
    problem.lowest = float(found.fun)
    return problem


PROBLEMS = {"quadratic": Quadratic([0.2, 0.4, 0.6, 0.9, 1.2, 1.5], noise=0.5), "logistic": logistic()}
STEPS = 400
FEW = {"cg": 40, "hessian_free": 40, "kfac": 100, "lbfgs": 40}  # of the second order: fewer steps are enough


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_optimum_at_decreasing_steps(name: str, kind: str) -> None:
    """Convex and smooth, half a cosine down to 0: all methods converge, each at its rate.

    Steps whose length does not shrink with the gradient (signs, orthogonal matrices, trust ratios) come as close as
    their last rates allow. One of two rates, from the middle and the upper end of the entry's range, must close all but
    1e-3 of the gap in the loss."""
    traits = registry.optimizers[name].traits
    if traits.package is not None:
        pytest.importorskip(traits.package)
    problem = PROBLEMS[kind]
    assert traits.rates is not None
    low, high = traits.rates
    keys = registry.optimizers[name].schema.model_fields
    own = {**({"weight_decay": 0.0} if "weight_decay" in keys else {}), **OWN.get(name, {})}
    steps = FEW.get(name, STEPS)

    def left(rate: float) -> float:
        model = problem.model()
        optimizer = make(name, model, lr=rate * (10 if name in SLOW else 1), **own)
        batches = 8 if name in BATCHED else 1
        problem.run(model, optimizer, steps, batches=batches, multiplier=lambda step: cosine(step, steps))
        return problem.gap(model) / problem.gap(problem.model())

    assert left(math.sqrt(low * high)) < 1e-3 or left(high) < 1e-3


def cosine(step: int, steps: int) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * step / steps)


def distances(problem: Quadratic, name: str, steps: int, **args: Any) -> list[float]:
    """From the solution, before the first step and after each, whole batches and a constant rate."""
    model = problem.model()
    found = [problem.distance(model)]
    problem.run(model, make(name, model, **args), steps, after=lambda: found.append(problem.distance(model)))
    return found


ILL = Quadratic([0.02, 0.1, 0.3, 0.6, 1.0])  # condition number 50


@pytest.mark.parametrize("name", ["gd", "sgd"])
def test_gradient_descent_contracts_by_one_minus_mu_over_l_a_step(name: str) -> None:
    """At lr = 1/L |w_t - w*| <= (1 - mu/L)^t |w_0 - w*|, with equality along the eigenvector of mu: the tail."""
    found = distances(ILL, name, 400, lr=1 / ILL.lipschitz)
    rate = 1 - ILL.mu / ILL.lipschitz
    assert all(after <= rate * before * (1 + 1e-9) for before, after in pairwise(found))
    assert found[400] / found[399] == pytest.approx(rate, rel=1e-3)


def test_momentum_and_nesterov_at_their_best_parameters_need_the_root_of_the_condition_number() -> None:
    """Polyak 1964: lr = (2/(sqrt L + sqrt mu))^2 and beta = ((sqrt k - 1)/(sqrt k + 1))^2 give the rate sqrt(beta);
    Nesterov 1983: lr = 1/L and beta = (sqrt k - 1)/(sqrt k + 1) give 1 - 1/sqrt k. Each up to a factor linear in t,
    since at mu the iteration matrix has a double root."""
    root, t = math.sqrt(ILL.lipschitz / ILL.mu), 100
    heavy = ((root - 1) / (root + 1)) ** 2
    polyak = distances(ILL, "momentum", t, lr=4 / (1 + math.sqrt(ILL.mu)) ** 2, momentum=heavy)
    nesterov = distances(ILL, "nesterov", t, lr=1.0, momentum=(root - 1) / (root + 1))
    gd = distances(ILL, "gd", t, lr=1.0)
    assert ILL.lipschitz == 1
    assert polyak[t] < 2 * t * math.sqrt(heavy) ** t * polyak[0]
    assert nesterov[t] < 2 * t * (1 - 1 / root) ** t * nesterov[0]
    assert polyak[t] < nesterov[t] < 1e-3 * gd[t]


def test_sgd_with_steps_of_one_over_t_converges_at_one_over_t() -> None:
    """Strongly convex, lr_t = c/(g + t) with c mu > 1: E(f - f*) <= C/(g + t) (Bottou, Curtis & Nocedal 2018, theorem
    4.7), so the mean over runs falls with slope -1 on a log-log scale. That is for batches drawn with replacement; in
    shuffled passes it falls faster. 10 runs, in windows of a third of a decade; the slope's standard error is 0.1."""
    problem, c, shift = Quadratic([0.5, 0.8, 1.0], noise=1.0), 4.0, 20
    edges = [round(30 * 10 ** (i / 3)) for i in range(5)]  # 30 to 646 steps
    gaps = np.zeros((10, edges[-1]))

    def put(row: Any, values: Iterator[int], model: nn.Module) -> None:
        row[next(values)] = problem.gap(model)

    for run, row in enumerate(gaps):
        model, values = problem.model(), iter(range(edges[-1]))
        problem.run(
            model,
            make("sgd", model, lr=c),
            edges[-1],
            batches=16,
            multiplier=lambda t: 1 / (shift + t),
            draws=torch.Generator().manual_seed(run),
            after=partial(put, row, values, model),
        )
    means = [gaps[:, low:high].mean() for low, high in pairwise(edges)]
    times = [math.sqrt((low + shift) * (high + shift)) for low, high in pairwise(edges)]
    slope = np.polyfit(np.log(times), np.log(means), 1)[0]
    assert slope == pytest.approx(-1, abs=0.3)


def test_svrg_converges_linearly_where_sgd_stalls_at_the_same_step() -> None:
    """Johnson & Zhang 2013, theorem 1: E(f - f*) falls by the factor 1/(mu lr (1 - 2 L lr) m) + 2 L lr/(1 - 2 L lr) a
    snapshot, L the largest curvature of a batch. sgd's floor is of the order lr times the gradient's variance."""
    problem, batches = Quadratic([0.5, 0.8, 1.0], noise=1.0), 16
    parts = problem.x.chunk(batches)
    steepest = max(float(torch.linalg.eigvalsh(2 / len(part) * part.T @ part)[-1]) for part in parts)
    lr, m = 0.1 / steepest, 50 * batches
    factor = 1 / (problem.mu * lr * (1 - 2 * steepest * lr) * m) + 2 * steepest * lr / (1 - 2 * steepest * lr)
    assert factor < 0.7
    left = {}

    def add(gaps: dict[int, float], model: nn.Module, numbers: Iterator[int]) -> None:
        if (number := next(numbers)) % m == 0 or number > 2 * m:
            gaps[number] = problem.gap(model)

    for name, keys in (("svrg", {"epochs": 50}), ("sgd", {})):
        model, gaps = problem.model(), {0: problem.gap(problem.model())}
        problem.run(
            model,
            make(name, model, lr=lr, **keys),
            3 * m,
            batches=batches,
            draws=torch.Generator().manual_seed(5),
            after=partial(add, gaps, model, count(1)),
        )
        left[name] = gaps
    for number in range(3):
        before, after = left["svrg"][number * m], left["svrg"][(number + 1) * m]
        assert after <= factor * before or after < 1e-14
    floor = np.mean([left["sgd"][number] for number in range(2 * m + 1, 3 * m + 1)])
    assert floor > 1e-3
    assert left["svrg"][3 * m] < 1e-3 * floor


@pytest.mark.parametrize(("eigenvalues", "steps"), [([0.1, 0.2, 0.5, 1.0, 2.0, 5.0], 6), ([0.1] * 3 + [1, 5], 3)])
def test_conjugate_gradients_take_as_many_line_searches_as_there_are_eigenvalues(
    eigenvalues: list[float], steps: int
) -> None:
    """On a quadratic, with exact line searches (Hestenes & Stiefel 1952): cubic interpolation is exact there."""
    problem = Quadratic(eigenvalues)
    found = distances(problem, "cg", steps, max_iter=1, curvature=2e-4)
    assert found[steps] < 1e-4 * found[0]
    assert found[steps - 1] > 1e-2 * found[0]


def test_lbfgs_needs_few_steps_whatever_the_condition_number() -> None:
    """With all pairs in its history BFGS ends after n exact line searches (Nocedal & Wright 2006, theorem 6.4), and
    with Wolfe steps superlinearly; gradient descent would take 1e5 steps here."""
    problem = Quadratic([1e-4, 1e-2, 0.1, 1.0])
    found = distances(problem, "lbfgs", 1, lr=1.0, max_iter=25, tolerance_grad=0.0, tolerance_change=0.0)
    assert found[1] < 1e-6 * found[0]
    assert distances(problem, "gd", 30, lr=1.0)[30] > 0.1 * found[0]


def test_bb_finds_its_step_from_one_far_too_small() -> None:
    """Where no noise is left at the solution, SGD converges linearly at a constant step (Ma, Bassily & Belkin 2018),
    and the step of Barzilai & Borwein is one over m times a curvature, whatever the first one was."""
    problem, batches = Quadratic([0.5, 0.8, 1.0]), 16
    left = {}
    for name, keys in (("bb", {"smoothing": "constant"}), ("sgd", {})):
        model = problem.model()
        problem.run(model, make(name, model, lr=1e-4, **keys), 40 * batches, batches=batches)
        left[name] = problem.gap(model) / problem.gap(problem.model())
    assert left["bb"] < 1e-6
    assert left["sgd"] > 0.5


def test_sam_bounces_about_the_minimum_at_the_distance_its_theory_says() -> None:
    """One dimension, curvature a: w -> w - lr a (w + rho sign w) settles into the cycle of +-lr a rho/(2 - lr a)
    (Bartlett, Long & Bousquet 2023), of the order of rho, which decreasing steps take to 0."""
    problem, lr, rho = Quadratic([1.5]), 0.4, 0.1
    found = distances(problem, "sam", 200, lr=lr, rho=rho, optimizer=Component("sgd"))
    assert found[199:] == pytest.approx([lr * 1.5 * rho / (2 - lr * 1.5)] * 2, rel=1e-6)


def test_muon_ends_within_the_length_of_a_step() -> None:
    """One dimension, no momentum: a step is 0.2 lr times a number between 0.5 and 1.5 whatever the gradient, so the
    distance falls by at least 0.1 lr a step, and then stays below 0.3 lr."""
    problem, lr = Quadratic([1.0]), 0.05
    found = distances(problem, "muon", 200, lr=lr, momentum=0.0, layers="all", optimizer=Component("sgd"))
    arrived = math.ceil(found[0] / (0.1 * lr))
    assert 0 < arrived < 150
    assert 0 < max(found[arrived:]) <= 0.3 * lr


def test_hessian_free_solves_a_quadratic_in_one_step_but_for_its_damping() -> None:
    """Martens 2010: for a linear model and squared loss the Gauss-Newton matrix is the Hessian, so a step of lr = 1 is
    (H + lambda I)^-1 g, which leaves lambda/(mu + lambda) of the error at most."""
    for damping in (1e-9, 1e-3):
        found = distances(ILL, "hessian_free", 1, lr=1.0, damping=damping, tolerance=1e-12)
        assert 0 < found[1] <= damping / (ILL.mu + damping) * found[0] * (1 + 1e-6)
