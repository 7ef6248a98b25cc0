"""K-FAC, Hessian-free, Shampoo and SOAP: closed forms on small problems, and what a mask does to their steps."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_optimizer
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lottery import registry
from lottery.catalogue.optimizers._hessian_free import GaussNewton, minimize_quadratic
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.objective import Objective
from lottery.training.state import flatten, load_optimizer, optimizer_state, unflatten
from tests.support.entries import weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of a library that it imports
    curvlinops = pytest.importorskip("curvlinops")


@pytest.fixture(autouse=True)
def _draws_are_put_back() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Session:
    """A model, an optimizer and one batch of which a step is made again and again."""

    def __init__(self, model: nn.Module, name: str, x: Tensor, y: Tensor, **keys: Any):
        self.model, self.x, self.y = model, x, y
        self.optimizer = registry.optimizers[name].make(model, **keys)
        loss = nn.CrossEntropyLoss() if y.dtype == torch.int64 else nn.MSELoss()
        self.objective = Objective(model, loss, lambda: iter([(x, y)]), steps_per_epoch=1)
        self.objective.x, self.objective.y = x, y
        if hasattr(self.optimizer, "objective"):
            self.optimizer.objective = self.objective

    def step(self, count: int = 1) -> float:
        for _ in range(count):
            loss = float(self.optimizer.step(self.objective.closure))
        return loss

    def moved(self, mask: Mask | None = None) -> list[Tensor]:
        """How one step moves each parameter; and the gradients it saw stay in `.grad`."""
        with masked(self.model, mask or Mask({}), self.optimizer):
            before = [p.detach().clone() for p in self.model.parameters()]
            self.step()
            return [p.detach() - b for p, b in zip(self.model.parameters(), before, strict=True)]


def perceptron(norm: bool = False) -> nn.Sequential:
    """4 inputs, 5 hidden units, 3 outputs, float64."""
    hidden = [nn.Linear(4, 5), *([nn.BatchNorm1d(5)] if norm else []), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(5, 3)).double()


def examples(n: int = 12, shape: tuple[int, ...] = (4,)) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(2)
    return torch.randn(n, *shape, generator=draws, dtype=torch.float64), torch.randint(3, (n,), generator=draws)


def random_mask(model: nn.Module) -> Mask:
    draws = torch.Generator().manual_seed(5)
    return Mask({n: torch.rand(p.shape, generator=draws) < 0.5 for n, p in model.named_parameters() if p.dim() > 1})


def output_hessian(scores: Tensor) -> Tensor:
    """Of cross-entropy in the scores of one example: diag(p) - p p'."""
    p = scores.softmax(0)
    return torch.diag(p) - torch.outer(p, p)


def factors(model: nn.Sequential, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A and G of each layer of weights by their definition, example by example; T places of a convolution."""
    found = []
    for i, layer in enumerate(model):
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        inputs: Any = 0.0
        gradients: Any = 0.0
        for one in x:
            before = model[:i](one[None])
            if isinstance(layer, nn.Conv2d):
                columns = nn.functional.unfold(before, layer.kernel_size)[0].T
            else:
                columns = before
            columns = torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1)
            outputs = layer(before)
            jacobian = torch.func.jacrev(lambda s, i=i: model[i + 1 :](s)[0])(outputs)
            jacobian = jacobian.reshape(3, outputs.shape[1], -1)  # scores, outputs of the layer, places
            hessian = output_hessian(model(one[None])[0])
            inputs = inputs + columns.T @ columns / len(columns) / len(x)
            gradients = gradients + torch.einsum("aot,ab,bpt->op", jacobian, hessian, jacobian) / len(x)
        found.append((inputs.detach().contiguous(), gradients.detach().contiguous()))
    return found


def damped(pair: tuple[Tensor, Tensor], damping: float) -> Tensor:
    """The Kronecker product of a layer, G first as weights are stored by rows, with the papers' damping."""
    a, g = pair
    pi = math.sqrt(float(a.trace()) / len(a) / (float(g.trace()) / len(g)))
    identity = [torch.eye(len(factor), dtype=factor.dtype) for factor in (g, a)]
    return torch.kron(g + math.sqrt(damping) / pi * identity[0], a + math.sqrt(damping) * pi * identity[1])


def joint(weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([weight.flatten(1), bias[:, None]], dim=1).flatten()


EXACT = {"fisher": "type-2", "momentum": 0.0, "norm_constraint": None}


@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_a_kfac_step_is_the_inverse_of_the_damped_kronecker_product_times_the_gradient(kind: str) -> None:
    if kind == "linear":
        model, (x, y) = perceptron(), examples()
    else:
        model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)).double()
        x, y = examples(shape=(2, 3, 3))
    lr, damping = 0.3, 0.02
    products = [damped(pair, damping) for pair in factors(model, x)]
    session = Session(model, "kfac", x, y, lr=lr, damping=damping, **EXACT)
    moved, gradients = session.moved(), [p.grad for p in model.parameters()]
    for i, product in enumerate(products):
        expected = -lr * torch.linalg.solve(product, joint(*gradients[2 * i : 2 * i + 2]))  # type: ignore[arg-type]
        torch.testing.assert_close(joint(*moved[2 * i : 2 * i + 2]), expected, rtol=1e-8, atol=1e-12)


def test_kfac_is_newtons_method_on_least_squares_in_one_layer() -> None:
    x, _ = examples(30)
    y = torch.randn(30, 3, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 3)).double()
    session = Session(model, "kfac", x, y, lr=1.0, damping=1e-16, **EXACT)
    session.step()
    columns = torch.cat([x, torch.ones(30, 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(columns, y).solution
    torch.testing.assert_close(joint(*model.parameters()), solution.T.flatten(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_factors_of_drawn_labels_average_to_the_exact_ones(kind: str) -> None:
    x, y = examples()
    targets = y if kind == "classes" else torch.randn(12, 3, dtype=torch.float64)
    found = []
    for fisher, steps in (("mc", 300), ("type-2", 1)):
        torch.manual_seed(1)
        session: Any = Session(perceptron(), "kfac", x, targets, lr=1e-12, decay=0.9999, fisher=fisher, refresh=1000)
        session.step(steps)
        layers = [session.optimizer.state[session.model[i].weight]["factors"] for i in (0, 2)]
        found.append([gradients for _, gradients in layers])
    for drawn, exact in zip(*found, strict=True):  # one draw is off by about 0.4, and so the mean of 300 by about 0.02
        assert float((drawn - exact).norm() / exact.norm()) < 0.08


def test_kfac_averages_the_factors_of_every_second_batch() -> None:
    model, (x, y) = perceptron(), examples()
    session = Session(model, "kfac", x, y, lr=0.1, decay=0.6, every=2, refresh=2)
    kept, average = session.optimizer.state[model[0].weight], None
    for step in range(7):
        session.objective.x = batch = x * (1 + step)
        session.step()
        if step % 2 == 0:
            columns = torch.cat([batch, torch.ones(12, 1, dtype=torch.float64)], dim=1)
            fresh = columns.T @ columns / 12
            old = [0.0, 0.5, 0.6, 0.6][step // 2]
            average = fresh if average is None else old * average + (1 - old) * fresh
        torch.testing.assert_close(kept["factors"][0], average)


def test_the_norm_constraint_shortens_a_kfac_step_to_its_length() -> None:
    x, y = examples()
    lr, constraint, found = 0.5, 1e-4, []
    for given in (None, constraint):
        torch.manual_seed(1)
        session = Session(perceptron(), "kfac", x, y, lr=lr, momentum=0.0, fisher="type-2", norm_constraint=given)
        found.append(torch.cat([m.flatten() for m in session.moved()]))
    gradient = torch.cat([p.grad.flatten() for p in session.model.parameters() if p.grad is not None])
    free, held = found
    nu = math.sqrt(constraint / (lr**2 * float(-free / lr @ gradient)))
    assert nu < 1
    torch.testing.assert_close(held, nu * free)


def test_parameters_that_kfac_does_not_cover_take_momentum_steps() -> None:
    model, (x, y) = perceptron(norm=True), examples()
    session = Session(model, "kfac", x, y, lr=0.1, momentum=0.5, weight_decay=0.2)
    scale: Any = model[1].weight
    w, v = scale.detach().clone(), torch.zeros(5, dtype=torch.float64)
    for _ in range(4):
        session.step()
        assert scale.grad is not None
        v = 0.5 * v + scale.grad + 0.2 * w
        w = w - 0.1 * v
        torch.testing.assert_close(scale.detach(), w)


def test_kfac_refuses_a_network_in_which_it_covers_nothing() -> None:
    with pytest.raises(UsageError, match="kfac covers"):
        registry.optimizers["kfac"].make(nn.Sequential(weight_norm(nn.Linear(4, 3)), nn.LayerNorm(3)), lr=0.1)
    with pytest.raises(UsageError, match="refresh 15 is no multiple of every 10"):
        registry.optimizers["kfac"].make(perceptron(), lr=0.1, every=10, refresh=15)


def test_kfac_leaves_weight_normalized_and_tied_layers_to_momentum() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)).double()
    model[2].weight = model[1].weight
    session = Session(model, "kfac", *examples(), lr=0.1)
    session.step(2)
    assert [i for i in range(1, 4) if "factors" in session.optimizer.state[model[i].weight]] == [3]


def test_without_curvlinops_kfac_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "curvlinops", None)
    with pytest.raises(UsageError, match=r"optimizer kfac needs curvlinops: pip install 'lottery\[curvature\]'"):
        registry.optimizers["kfac"].make(perceptron(), lr=0.1)


@pytest.mark.parametrize("name", ["kfac", "hessian_free"])
def test_dropout_is_drawn_and_running_statistics_are_kept_once_a_step(name: str) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3)).double()

    plain: Any = network()
    x, y = examples()
    plain(x)
    drawn = torch.get_rng_state()
    session: Any = Session(network(), name, x, y, lr=0.1)
    session.step()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert int(session.model[1].num_batches_tracked) == 1
    assert torch.equal(session.model[1].running_mean, plain[1].running_mean)


@pytest.mark.parametrize("name", ["kfac", "hessian_free", "shampoo", "soap"])
@pytest.mark.parametrize("size", [math.nan, 1e200])
def test_a_training_that_diverges_ends_in_a_loss_that_is_not_finite(name: str, size: float) -> None:
    x, _ = examples()
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)).double()
    session = Session(model, name, x, torch.randn(12, 3, dtype=torch.float64), lr=0.1)
    session.step(2)
    session.objective.x = x * size
    session.step(2)
    assert not math.isfinite(session.step())


def test_a_kfac_step_under_a_mask_is_the_projection_of_the_full_one() -> None:
    model, (x, y) = perceptron(), examples()
    mask = random_mask(model)
    with torch.no_grad():
        for name, bits in mask.items():
            model.get_parameter(name).mul_(bits)
    product = damped(factors(model, x)[1], 0.02)
    moved = Session(model, "kfac", x, y, lr=0.3, damping=0.02, **EXACT).moved(mask)
    output: Any = model[2]
    gradient = joint(output.weight.grad, output.bias.grad)
    alive = joint(mask["2.weight"], torch.ones(3, dtype=torch.bool))
    full = -0.3 * torch.linalg.solve(product, gradient)
    torch.testing.assert_close(joint(*moved[2:])[alive], full[alive], rtol=1e-8, atol=1e-12)
    restricted = -0.3 * torch.linalg.solve(product[alive][:, alive], gradient[alive])
    assert float((full[alive] - restricted).norm() / restricted.norm()) > 0.1  # and not that of the smaller problem


# Hessian-free


def gauss_newton(model: nn.Sequential, x: Tensor) -> Tensor:
    """The dense matrix from Jacobians of the whole batch (batch statistics make the examples depend on each other)."""
    named = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())
    was = {name: b.clone() for name, b in buffers.items()}

    def run(p: dict[str, Tensor]) -> Tensor:
        fresh = {name: b.clone() for name, b in was.items()}
        return torch.func.functional_call(model, {**p, **fresh}, (x,))

    columns = []
    for name, value in named.items():
        for place in range(value.numel()):
            tangent = {n: torch.zeros_like(v) for n, v in named.items()}
            tangent[name].view(-1)[place] = 1e-6
            plus, minus = ({n: named[n] + s * tangent[n] for n in named} for s in (1, -1))
            columns.append((run(plus) - run(minus)).detach() / 2e-6)
    jacobian = torch.stack(columns, dim=-1)  # examples, scores, weights
    hessians = torch.stack([output_hessian(scores) for scores in run(named).detach()])
    return torch.einsum("nap,nab,nbq->pq", jacobian, hessians, jacobian) / len(x)


@pytest.mark.parametrize("norm", [False, True])
def test_products_with_the_gauss_newton_matrix_are_those_of_finite_differences(norm: bool) -> None:
    model, (x, y) = perceptron(norm), examples()
    session = Session(model, "hessian_free", x, y)
    parameters = list[Tensor](model.parameters())
    matrix = GaussNewton(session.objective, parameters)
    matrix.linearize()
    vector = [torch.randn_like(p) for p in parameters]
    found = torch.cat([part.flatten() for part in matrix.product(vector)])
    expected = gauss_newton(model, x) @ torch.cat([v.flatten() for v in vector])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_products_with_the_gauss_newton_matrix_are_those_of_curvlinops() -> None:
    model, (x, y) = perceptron(), examples()
    parameters = list[Tensor](model.parameters())
    matrix = GaussNewton(Session(model, "hessian_free", x, y).objective, parameters)
    matrix.linearize()
    vector = [torch.randn_like(p) for p in parameters]
    theirs = curvlinops.GGNLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(x, y)]) @ vector
    for ours, other in zip(matrix.product(vector), theirs, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-14)


def test_the_hessian_free_direction_under_a_mask_is_that_of_the_restricted_problem() -> None:
    model, (x, y) = perceptron(norm=True), examples()
    mask, damping, lr = random_mask(model), 0.05, 1e-3
    with torch.no_grad():
        for name, bits in mask.items():
            model.get_parameter(name).mul_(bits)
    dense = gauss_newton(model, x)
    session = Session(model, "hessian_free", x, y, lr=lr, damping=damping, max_iter=200, tolerance=1e-14)
    moved = torch.cat([m.flatten() for m in session.moved(mask)])
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    named = model.named_parameters()
    alive = torch.cat([mask.get(n, torch.ones(p.shape, dtype=torch.bool)).flatten() for n, p in named])

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        return -torch.linalg.solve(matrix + damping * torch.eye(len(matrix), dtype=torch.float64), right)

    expected = solve(dense[alive][:, alive], gradient[alive])
    torch.testing.assert_close(moved[alive] / lr, expected, rtol=1e-5, atol=1e-7)
    assert not moved[~alive].any()
    projected = solve(dense, gradient)[alive]
    assert float((projected - expected).norm() / expected.norm()) > 0.1  # the full direction, cut, is another one


def quadratic(d: int = 40) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(d, d, generator=draws, dtype=torch.float64)).Q
    b = basis @ torch.diag(torch.logspace(-1, 1, d, dtype=torch.float64)) @ basis.T
    return b, torch.randn(d, generator=draws, dtype=torch.float64)


def test_conjugate_gradients_find_the_minimum_and_its_value_from_any_start() -> None:
    b, g = quadratic()
    solution = -torch.linalg.solve(b, g)
    for start in (torch.zeros_like(g), 0.9 * solution, 100 * torch.ones_like(g)):
        p, value = minimize_quadratic(lambda v: b @ v, g, start, max_iter=200, tolerance=1e-15)
        torch.testing.assert_close(p, solution, rtol=1e-6, atol=1e-8)
        assert value == pytest.approx(float(g @ solution) / 2, rel=1e-12)


@pytest.mark.parametrize(("max_iter", "tolerance", "products"), [(7, 1e-9, 7), (100, 1.0, 11)])
def test_conjugate_gradients_end_by_their_count_or_by_relative_progress(
    max_iter: int, tolerance: float, products: int
) -> None:
    b, g = quadratic()
    calls = []
    minimize_quadratic(
        lambda v: calls.append(v) or b @ v,  # type: ignore[func-returns-value]
        g,
        torch.zeros_like(g),
        max_iter=max_iter,
        tolerance=tolerance,
    )
    assert len(calls) == 1 + products  # one for the residual at the start; the rule looks 10 back, so 11 at least


def test_damping_shrinks_where_the_model_predicts_the_loss_and_grows_where_it_does_not() -> None:
    x = torch.randn(8, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 3)).double()
    session = Session(model, "hessian_free", x, torch.randn(8, 3, dtype=torch.float64), damping=0.9)
    session.step()
    assert session.optimizer.param_groups[0]["damping"] == pytest.approx(0.6)

    wrong: Any = nn.Sequential(nn.Linear(1, 2, bias=False)).double()
    nn.init.constant_(wrong[0].weight[:1], 10.0)  # sure of the wrong class, where the matrix all but vanishes
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.tensor([1])
    session = Session(wrong, "hessian_free", x, y, damping=1e-6)
    session.step()
    assert session.optimizer.param_groups[0]["damping"] == pytest.approx(1.5e-6)


def test_the_line_search_takes_the_first_length_that_lowers_the_loss_enough() -> None:
    """One weight, classes 1 and 0 at w and -w: Newton's step from w = 3 overshoots far to the other side."""
    model: Any = nn.Sequential(nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0], [-3.0]]))
    x, y = torch.tensor([[1.0], [1.0]], dtype=torch.float64), torch.tensor([0, 1])
    session = Session(model, "hessian_free", x, y, lr=1.0, damping=1e-9)

    def loss(w: Tensor) -> float:
        return float(nn.functional.cross_entropy(x @ w.T, y))

    start = model[0].weight.detach().clone()
    (moved,) = session.moved()
    p = session.optimizer.state[model[0].weight]["direction"]
    length = float((moved / p).mean())
    trials = round(math.log(length) / math.log(0.8))
    assert trials > 0
    assert length == pytest.approx(0.8**trials)
    slope = float((model[0].weight.grad * p).sum())
    falls = [loss(start + 0.8**t * p) <= loss(start) + 0.01 * 0.8**t * slope for t in range(trials + 1)]
    assert falls == [False] * trials + [True]


# Shampoo and SOAP


def walk(optimizer: torch.optim.Optimizer, weight: Tensor, gradients: list[Tensor]) -> list[Tensor]:
    places = []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        places.append(weight.detach().clone())
    return places


def draws(shape: tuple[int, ...], count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**power) @ vectors.T


@pytest.mark.parametrize("shape", [(4, 6), (5,), (3, 2, 2, 2)])
def test_shampoo_steps_by_the_roots_of_its_sums(shape: tuple[int, ...]) -> None:
    gradients, eps, lr = draws(shape, 5), 1e-3, 0.1
    weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = registry.optimizers["shampoo"].make(
        nn.ParameterList([weight]), lr=lr, eps=eps, precondition_frequency=2
    )
    w, sums = weight.detach().clone(), [eps * torch.eye(n, dtype=torch.float64) for n in shape]
    roots = list(sums)
    for step, (g, place) in enumerate(zip(gradients, walk(optimizer, weight, gradients), strict=True)):
        for k in range(len(shape)):
            unfolded = g.movedim(k, 0).flatten(1) if len(shape) > 1 else g[:, None]
            sums[k] = sums[k] + unfolded @ unfolded.T
        if step < 2 or step % 2 == 0:
            roots = [root(each, -1 / (2 * len(shape))) for each in sums]
        direction = g
        for k, each in enumerate(roots):
            direction = torch.tensordot(each, direction, dims=([1], [k])).movedim(0, k)
        w = w - lr * direction
        torch.testing.assert_close(place, w, rtol=1e-8, atol=1e-10)


def test_soap_is_adam_in_the_eigenbasis_that_its_first_gradient_sets() -> None:
    gradients, lr = draws((4, 6), 6), 0.01
    weight = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    optimizer = registry.optimizers["soap"].make(nn.ParameterList([weight]), lr=lr, betas=(0.9, 0.99))
    places = walk(optimizer, weight, gradients)
    assert not places[0].any()
    first = gradients[0]
    left, right = (torch.linalg.eigh(matrix).eigenvectors for matrix in (first @ first.T, first.T @ first))
    w, m, v = torch.zeros_like(first), 0.0, 0.0
    # 2 of the 6 columns of `right` span the null space of the first gradient, where any basis is as good: it is lost
    # in rounding which one either computation finds, so take the optimizer's own there
    right = optimizer.state[weight]["Q"][1].flip(1)
    assert float((right.T @ first.T @ first @ right).fill_diagonal_(0).abs().max()) < 1e-12
    for t, g in enumerate(gradients[1:], 1):
        rotated = left.T @ g @ right
        m, v = 0.9 * m + 0.1 * rotated, 0.99 * v + 0.01 * rotated**2
        step = math.sqrt(1 - 0.99**t) / (1 - 0.9**t) * m / (v.sqrt() + 1e-8)
        w = w - lr * left @ step @ right.T
        torch.testing.assert_close(places[t], w, rtol=1e-8, atol=1e-12)


LIBRARY: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "shampoo": ({"precondition_frequency": 1}, lambda p: pytorch_optimizer.Shampoo(p, lr=0.1)),
    "soap": ({"weight_decay": 0.01}, lambda p: pytorch_optimizer.SOAP(p, lr=0.1)),
}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("shape", [(4, 6), (3, 2, 2, 2), (5,)])
def test_without_a_mask_steps_are_those_of_the_library(name: str, shape: tuple[int, ...]) -> None:
    """To the bit; but the library keeps bases of SOAP transposed in memory, where products may round otherwise."""
    keys, make = LIBRARY[name]
    found = []
    for build in (lambda holder: registry.optimizers[name].make(holder, lr=0.1, **keys), make):
        weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        holder = nn.ParameterList([weight])
        own = build is not make
        found.append(walk(build(holder if own else holder.parameters()), weight, draws(shape, 24))[-1])
    near = 1e-13 if name == "soap" else 0.0
    torch.testing.assert_close(*found, rtol=near, atol=near)


def test_a_shampoo_step_is_that_of_the_smaller_problem_where_whole_rows_and_columns_are_pruned() -> None:
    gradients = draws((4, 6), 4)
    rows, columns = torch.tensor([0, 2, 3]), torch.tensor([1, 2, 4, 5])
    alive = torch.zeros(4, 6, dtype=torch.bool)
    alive[rows[:, None], columns] = True
    found = []
    for cut in (lambda g: g * alive, lambda g: g[rows[:, None], columns]):
        weight = nn.Parameter(cut(torch.zeros(4, 6, dtype=torch.float64)))
        optimizer = registry.optimizers["shampoo"].make(nn.ParameterList([weight]), lr=0.1)
        found.append(walk(optimizer, weight, [cut(g) for g in gradients])[-1])
    torch.testing.assert_close(found[0][alive].view(3, 4), found[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_a_step_under_a_mask_is_the_projection_of_that_by_masked_gradients(name: str) -> None:
    gradients = draws((4, 6), 3)
    alive = random_mask(nn.Sequential(nn.Linear(6, 4)))["0.weight"]
    weight = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    free = registry.optimizers[name].make(nn.ParameterList([weight]), lr=0.1)
    places = walk(free, weight, [g * alive for g in gradients])
    layer = nn.Linear(6, 4, bias=False).double()
    nn.init.zeros_(layer.weight)
    optimizer = registry.optimizers[name].make(layer, lr=0.1)
    with masked(layer, Mask({"weight": alive}), optimizer):
        held = walk(optimizer, layer.weight, [g * alive for g in gradients])
    assert places[-1][~alive].all()  # it fills all of them in
    torch.testing.assert_close(held[-1], places[-1] * alive)


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_under_a_tighter_mask_it_starts_afresh(name: str) -> None:
    gradients = draws((4, 4), 6)
    alive = random_mask(nn.Sequential(nn.Linear(4, 4)))["0.weight"]
    layer = nn.Linear(4, 4, bias=False).double()
    optimizer = registry.optimizers[name].make(layer, lr=0.1)
    with masked(layer, Mask({"weight": torch.ones_like(alive)}), optimizer) as held:
        walk(optimizer, layer.weight, gradients[:3])
        held.tighten(Mask({"weight": alive}))
        start = layer.weight.detach().clone()
        after = walk(optimizer, layer.weight, [g * alive for g in gradients[3:]])[-1] - start
    fresh = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))
    expected = walk(
        registry.optimizers[name].make(nn.ParameterList([fresh]), lr=0.1), fresh, [g * alive for g in gradients[3:]]
    )
    torch.testing.assert_close(after, expected[-1] * alive)


def test_a_tighter_mask_leaves_the_factors_of_kfac_as_they_are() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)).double()
    session = Session(model, "kfac", *examples(), lr=0.1)
    with masked(model, Mask.dense({"0.weight": model[0].weight}), session.optimizer) as held:
        session.step()
        state = session.optimizer.state[model[0].weight]
        before = [matrix.clone() for matrix in state["factors"] + state["inverses"]]
        held.tighten(Mask({"0.weight": torch.eye(4, dtype=torch.bool)}))
        assert all(map(torch.equal, before, state["factors"] + state["inverses"]))
        assert not state["velocity"][~torch.eye(4, dtype=torch.bool)].any()


def on_disk(value: Tensor) -> Tensor:
    """A copy in the layout that files have."""
    return value.detach().clone(memory_format=torch.contiguous_format)


STALE = {  # what is kept between the steps is older than the checkpoint
    "kfac": {"lr": 0.1, "every": 2, "refresh": 4},
    "hessian_free": {"lr": 1.0, "max_iter": 5},
    "shampoo": {"lr": 0.1, "precondition_frequency": 4},
    "soap": {"lr": 0.01, "precondition_frequency": 4},
}


@pytest.mark.parametrize("name", STALE)
def test_a_masked_training_goes_on_from_a_checkpoint_to_the_same_bytes(name: str) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
        return model.to(memory_format=torch.channels_last)

    x, y = examples(shape=(2, 6, 6))
    straight = Session(network(), name, x.float(), y, **STALE[name])
    mask, tensors = random_mask(straight.model), dict[str, Tensor]()
    with masked(straight.model, mask, straight.optimizer):
        straight.step(7)
        text = json.dumps(flatten(optimizer_state(straight.optimizer), "optimizer", tensors))
        tensors = {place: on_disk(value) for place, value in tensors.items()}
        model = {place: on_disk(value) for place, value in straight.model.state_dict().items()}
        straight.step(7)
    resumed = Session(network(), name, x.float(), y, **STALE[name])
    with masked(resumed.model, mask, resumed.optimizer):
        resumed.model.load_state_dict(model)
        load_optimizer(resumed.optimizer, unflatten(json.loads(text), tensors))
        resumed.step(7)
    assert bool(torch.isfinite(weights(straight.model)).all())
    assert torch.equal(weights(straight.model), weights(resumed.model))
