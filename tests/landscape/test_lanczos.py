"""Eigenvalues, trace and density by products with vectors, against dense matrices in double precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, hessian

from lottery.landscape.lanczos import extreme_eigenvalues, lanczos, top_eigenvectors
from lottery.landscape.matrices import Kind, Matrix, blocks, curvature
from lottery.landscape.memo import Memo
from lottery.landscape.spectral_density import Axis, density_of, quadrature, spectral_density
from lottery.landscape.surface import Surface
from lottery.landscape.trace import trace
from lottery.pruning.mask import Mask
from lottery.values import Part
from tests.support.surfaces import examples, killed_everywhere, known, planted, quadratic, streams, surface

BOTH = pytest.mark.parametrize("pruned", [False, True])
KINDS = pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])


def dense(at: Surface, kind: Kind) -> Tensor:
    """The matrix in the surviving coordinates by `torch.func`, made without this project's products."""
    batches = list(examples("train"))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])

    def outputs(vector: Tensor) -> Tensor:
        return functional_call(at.model, at.spread(vector), (x,))

    point = at.here().vector
    if kind == "hessian":
        return hessian(lambda vector: at.loss(outputs(vector), y))(point)
    jacobian = torch.func.jacrev(outputs)(point)
    return torch.einsum("aci,acbd,bdj->ij", jacobian, hessian(lambda out: at.loss(out, y))(outputs(point)), jacobian)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


@BOTH
@KINDS
def test_the_whole_spectrum_is_that_of_the_dense_matrix(pruned: bool, kind: Kind) -> None:
    at = surface(pruned)
    expected, vectors = torch.linalg.eigh(dense(at, kind))
    matrix = curvature(at, kind)
    found = lanczos(matrix, matrix.normal, streams(), Memo(), "all")
    close(found.values, expected.flip(0))
    for index in (0, 1, 2):
        assert abs(float(found.vector(index) @ vectors[:, -1 - index])) == pytest.approx(1, abs=1e-8)


@BOTH
@KINDS
def test_extreme_eigenvalues_lie_within_their_residuals_before_all_steps_are_taken(pruned: bool, kind: Kind) -> None:
    at = surface(pruned)
    expected = torch.linalg.eigvalsh(dense(at, kind)).flip(0)
    found = extreme_eigenvalues(curvature(at, kind), streams(), Memo(), "some", largest=3, smallest=True)
    assert len(found.values) < at.size
    assert bool(((found.values[:3] - expected[:3]).abs() <= found.residuals[:3]).all())
    assert abs(float(found.values[-1] - expected[-1])) <= float(found.residuals[-1])
    torch.testing.assert_close(found.values[:3], expected[:3], rtol=1e-3, atol=0)


@BOTH
def test_a_block_is_that_of_the_dense_matrix_on_its_parameter_alone(pruned: bool) -> None:
    at = surface(pruned)
    full = dense(at, "hessian")
    seen = []
    for name, block in blocks(at, curvature(at)):
        found = lanczos(block, block.normal, streams(), Memo(), name)
        close(found.values, torch.linalg.eigvalsh(full[at.blocks[name], at.blocks[name]]).flip(0))
        seen.append(name)
    assert seen == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@BOTH
def test_products_are_those_of_curvlinops(pruned: bool, kind: str) -> None:
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed")
    at = surface(pruned)
    operator = {"hessian": curvlinops.HessianLinearOperator, "gauss_newton": curvlinops.GGNLinearOperator}[kind]
    parameters = dict(at.model.named_parameters())
    theirs = operator(at.model, at.loss, list(parameters.values()), list(examples("train")))
    draws = torch.Generator().manual_seed(5)
    ours = curvature(at, kind)  # type: ignore[arg-type]
    for _ in range(3):
        vector = torch.randn(at.size, generator=draws, dtype=torch.float64)
        whole = torch.cat([part.flatten() for part in at.spread(vector).values()])
        product = torch.as_tensor(theirs @ whole)
        parts = product.split([p.numel() for p in parameters.values()])
        shaped = {name: part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}
        torch.testing.assert_close(ours.product(vector), at.flat(shaped), rtol=0, atol=1e-6)


def test_no_eigenvalue_comes_again_as_a_ghost() -> None:
    expected = torch.cat([torch.linspace(0, 1, 290), torch.linspace(20, 100, 10)]).double()
    matrix = known(planted(expected))
    found = lanczos(matrix, matrix.normal, streams(), Memo(), "all", steps=100)
    above = found.values[found.values > 10]
    torch.testing.assert_close(above, expected[-10:].flip(0), rtol=1e-10, atol=0)
    gram = torch.stack(list(found.basis)) @ torch.stack(list(found.basis)).T
    close(gram, torch.eye(100, dtype=torch.float64))
    assert int((_without_reorthogonalization(matrix, 100) > 10).sum()) > 10  # the matrix does raise ghosts


def _without_reorthogonalization(matrix: Matrix, steps: int) -> Tensor:
    vector, before, beside = matrix.normal(streams()(0)), torch.zeros(matrix.size, dtype=torch.float64), 0.0
    vector /= vector.norm()
    diagonal, off = [], []
    for _ in range(steps):
        rest = matrix.product(vector) - beside * before
        diagonal.append(float(vector @ rest))
        rest = rest - diagonal[-1] * vector
        beside = float(rest.norm())
        off.append(beside)
        before, vector = vector, rest / beside
    sides = torch.tensor(off[:-1], dtype=torch.float64)
    return torch.linalg.eigvalsh(
        torch.diag(torch.tensor(diagonal).double()) + torch.diag(sides, 1) + torch.diag(sides, -1)
    )


def test_a_closed_space_is_left_for_another_until_all_eigenvalues_are_found() -> None:
    expected = torch.tensor([3.0, 3.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    matrix = known(planted(expected))
    close(lanczos(matrix, matrix.normal, streams(), Memo(), "all").values, expected)


def test_single_precision_finds_the_top_of_a_spectrum_to_single_precision() -> None:
    expected = torch.cat([torch.linspace(-0.1, 1, 290), torch.linspace(20, 100, 10)]).double()
    single = planted(expected).float()
    matrix = known(single)
    found = lanczos(matrix, matrix.normal, streams(), Memo(), "all", steps=60)
    torch.testing.assert_close(found.values[:10], expected[-10:].flip(0), rtol=2e-6, atol=0)
    assert int((found.values > 10).sum()) == 10


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_hessian_at_zero_of_a_deep_linear_net_vanishes_from_depth_3(depth: int) -> None:
    torch.manual_seed(0)
    sizes = [3, *[4] * (depth - 1), 2]
    net = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))).double()
    for parameter in net.parameters():
        parameter.data.zero_()
    draws = torch.Generator().manual_seed(1)
    x, y = (torch.randn(20, n, generator=draws, dtype=torch.float64) for n in (3, 2))

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, y

    matrix = curvature(Surface(net, batches, loss=nn.MSELoss()))
    found = extreme_eigenvalues(matrix, streams(), Memo(), "all", smallest=True)
    largest, smallest = float(found.values[0]), float(found.values[-1])
    if depth == 1:  # of |W x - y|^2: twice the moments of x, half as there are two outputs
        assert largest == pytest.approx(float(torch.linalg.eigvalsh(x.T @ x / 20)[-1]), rel=1e-8)
    elif depth == 2:  # V U: a saddle, whose eigenvalues are the singular values of the moments of x and y, of each sign
        top = float(torch.linalg.matrix_norm(y.T @ x / 20, 2))
        assert (largest, smallest) == pytest.approx((top, -top), rel=1e-4)
    else:
        assert (largest, smallest) == (0, 0)


@BOTH
@pytest.mark.parametrize("steps", [0, 5, 100])
def test_a_trace_is_that_of_the_dense_matrix(pruned: bool, steps: int) -> None:
    at = surface(pruned)
    matrix, expected = curvature(at, "gauss_newton"), float(dense(at, "gauss_newton").trace())
    space = lanczos(matrix, matrix.normal, streams(), Memo(), "space", steps=steps) if steps else None
    found = trace(matrix, streams("trace"), Memo(), "trace", known=space, probes=400, tolerance=0.05)
    if steps == 100:
        assert found.value == pytest.approx(expected, abs=1e-8)
        assert (found.standard_error, found.draws) == (0, 0)
    else:
        assert abs(found.value - expected) < 4 * found.standard_error
        assert found.relative_error <= 0.05
        assert found.draws < 400


@pytest.mark.parametrize("steps", [0, 4])
def test_the_standard_error_of_a_trace_covers_the_truth_as_often_as_it_says(steps: int) -> None:
    expected = torch.cat([torch.linspace(-1, 3, 40), torch.tensor([10.0, 30.0])]).double()
    matrix = known(planted(expected))
    repeats, probes = 400, 20
    reach = float(stats.t.ppf(0.95, probes - 1))
    covered = 0
    for seed in range(repeats):
        space = lanczos(matrix, matrix.normal, streams("s", seed), Memo(), "s", steps=steps) if steps else None
        found = trace(matrix, streams("t", seed), Memo(), "t", known=space, probes=probes, tolerance=0)
        covered += abs(found.value - float(expected.sum())) <= reach * found.standard_error
    assert stats.binomtest(covered, repeats, 0.9).pvalue > 0.01


def test_a_trace_with_what_stands_out_known_is_more_exact() -> None:
    matrix = known(planted(torch.cat([torch.linspace(0, 0.1, 60), torch.tensor([30.0, 50.0])]).double()))
    space = extreme_eigenvalues(matrix, streams(), Memo(), "space", largest=2)
    plain = trace(matrix, streams("t"), Memo(), "t", probes=20, tolerance=0)
    known_top = trace(matrix, streams("t"), Memo(), "t", known=space, probes=20, tolerance=0)
    assert known_top.standard_error < plain.standard_error / 100


@BOTH
@pytest.mark.parametrize("axis", ["linear", "log"])
def test_the_density_of_a_probe_is_that_of_the_dense_matrix_seen_by_it(pruned: bool, axis: Axis) -> None:
    at = surface(pruned)
    matrix = curvature(at)
    values, vectors = torch.linalg.eigh(dense(at, "hessian"))
    probes = [
        torch.stack([values, (vectors.T @ matrix.signs(streams(f"{i}")(0))).square() / at.size]) for i in range(3)
    ]
    expected = density_of(probes, axis)
    found = spectral_density(matrix, lambda i: streams(f"{i}"), Memo(), "density", axis=axis, probes=3, tolerance=0)
    assert found.width == pytest.approx(expected.width, rel=1e-8)
    assert found.near_zero == pytest.approx(expected.near_zero, abs=1e-8)
    for one, two in zip(found.branches, expected.branches, strict=True):
        assert one.density == pytest.approx(two.density, abs=1e-8)
        assert one.standard_error == pytest.approx(two.standard_error, abs=1e-8)
    assert sum(branch.area for branch in found.branches) + found.near_zero == pytest.approx(1, abs=1e-5)


def test_a_density_by_formula_has_its_eigenvalues_at_their_places() -> None:
    matrix = known(torch.diag(torch.tensor([-1.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0, 3.0]).double()))
    linear = spectral_density(matrix, lambda i: streams(f"{i}"), Memo(), "d", axis="linear", probes=4)
    width = 0.04  # 1 % of the range from -1 to 3; random signs have equal weight on each axis, so that no probe errs
    assert linear.width == pytest.approx(width)
    for place, share in ((-1, 1 / 8), (0, 2 / 8), (3, 5 / 8)):
        at = abs(linear.branches[0].eigenvalues - place).argmin()
        offset = linear.branches[0].eigenvalues[at] - place
        peak = share / (width * math.sqrt(2 * math.pi)) * math.exp(-((offset / width) ** 2) / 2)
        assert linear.branches[0].density[at] == pytest.approx(peak, rel=1e-9)
    logarithmic = spectral_density(matrix, lambda i: streams(f"{i}"), Memo(), "d", axis="log", probes=4)
    assert [branch.area for branch in logarithmic.branches] == pytest.approx([5 / 8, 1 / 8], abs=1e-6)
    assert logarithmic.near_zero == pytest.approx(2 / 8)
    assert linear.probes == logarithmic.probes == 3  # the standard error is 0
    assert linear.error == pytest.approx(0, abs=1e-12)


def test_quadrature_is_exact_for_polynomials_of_degree_below_twice_its_steps() -> None:
    matrix = known(planted(torch.linspace(-1, 2, 50).double()))
    nodes, weights = quadrature(matrix, streams("p"), Memo(), "p", steps=4)
    probe = matrix.signs(streams("p")(0))
    power = probe
    for degree in range(8):
        assert float(weights @ nodes**degree) == pytest.approx(float(probe @ power) / 50, abs=1e-12)
        power = matrix.product(power)
    assert float(weights @ nodes**8) != pytest.approx(float(probe @ power) / 50, abs=1e-3)


def test_measurements_that_are_killed_go_on_to_the_same_bytes() -> None:
    matrix = known(planted(torch.linspace(-1, 2, 20).double()))

    def measure(memo: Memo) -> object:
        space = extreme_eigenvalues(matrix, streams(), memo, "space", largest=2, smallest=True, steps=12)
        values, vectors = top_eigenvectors(matrix, streams("top"), memo, "top")
        density = spectral_density(
            matrix, lambda i: streams(f"{i}"), memo, "density", axis="linear", probes=3, steps=6, tolerance=0
        )
        estimate = trace(matrix, streams("trace"), memo, "trace", known=space, probes=6, tolerance=0)
        branch = density.branches[0]
        numbers = [*(t.tolist() for t in (space.values, space.residuals, values, vectors)), branch.density.tolist()]
        return numbers, branch.standard_error.tolist(), estimate

    assert killed_everywhere(measure) > 60


def test_vectors_of_a_finished_probe_are_forgotten() -> None:
    memo = Memo()
    matrix = known(planted(torch.linspace(0, 1, 20).double()))
    spectral_density(matrix, lambda i: streams(f"{i}"), memo, "density", probes=3, steps=5, tolerance=0)
    top_eigenvectors(matrix, streams(), memo, "top")
    assert sorted(memo.parts) == [*(f"density probe {i}: nodes" for i in range(3)), "top: values", "top: vectors"]


def test_top_eigenvectors_are_those_of_a_planted_matrix() -> None:
    full = planted(torch.cat([torch.linspace(0, 1, 30), torch.tensor([5.0, 9.0])]).double())
    values, vectors = top_eigenvectors(known(full), streams(), Memo(), "top", tolerance=1e-6)
    torch.testing.assert_close(values, torch.tensor([9.0, 5.0], dtype=torch.float64), rtol=1e-10, atol=0)
    torch.testing.assert_close(full @ vectors.T, vectors.T * values, rtol=0, atol=1e-4)
    close(vectors @ vectors.T, torch.eye(2, dtype=torch.float64))


def test_a_matrix_that_is_not_finite_has_no_eigenvalue_trace_or_density() -> None:
    matrix = known(torch.full((4, 4), math.nan, dtype=torch.float64))
    assert extreme_eigenvalues(matrix, streams(), Memo(), "a").values.isnan().all()
    assert math.isnan(trace(matrix, streams(), Memo(), "t").value)
    density = spectral_density(matrix, lambda i: streams(f"{i}"), Memo(), "d")
    assert (density.branches, math.isnan(density.width)) == ((), True)


@BOTH
def test_the_eigenvalues_of_a_quadratic_are_its_own(pruned: bool) -> None:
    full = planted(torch.linspace(0.5, 4, 8).double())
    alive = torch.arange(8) % 2 == 0
    mask = Mask({"fc.weight": alive[None]}) if pruned else None
    at = quadratic(full, mask, torch.linspace(-1, 1, 8).double())
    expected = full[alive][:, alive] if pruned else full
    matrix = curvature(at)
    found = lanczos(matrix, matrix.normal, streams(), Memo(), "all")
    close(found.values, torch.linalg.eigvalsh(expected).flip(0))
