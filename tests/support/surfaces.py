"""Small surfaces and matrices for tests of the landscape, and measurements that are killed at each of their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from lottery.landscape.matrices import Matrix, Streams
from lottery.landscape.memo import Memo
from lottery.landscape.subject import State, Subject
from lottery.landscape.surface import Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.seed import generator
from lottery.values import Part


def streams(purpose: str = "test", seed: int = 0) -> Streams:
    """Return the streams of random numbers of a purpose."""
    return lambda index: generator(seed, purpose, index)


def known(matrix: Tensor) -> Matrix:
    """Return a matrix that is there, as one known by its products."""
    return Matrix(len(matrix), lambda vector: matrix @ vector, matrix.device, matrix.dtype)


def planted(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """Return a symmetric matrix with these eigenvalues and random eigenvectors."""
    draws = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=draws, dtype=torch.float64))
    return turn @ torch.diag(eigenvalues) @ turn.T


class Quadratic(nn.Module):
    """A network whose mean squared error is w^T A w / 2 with a positive semidefinite A, whatever its inputs are."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        values, vectors = torch.linalg.eigh(matrix)
        self.register_buffer("root", (vectors * (values.clamp_min(0) * len(matrix) / 2).sqrt()).T, persistent=False)
        self.fc = nn.Linear(len(matrix), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the square root of A, scaled, times w for each input (b, n)."""
        root: Tensor = self.root  # type: ignore[assignment]
        return (root @ self.fc.weight[0]).expand(len(x), -1)


def quadratic(matrix: Tensor, mask: Mask | None = None, at: Tensor | None = None) -> Surface:
    """Return the surface w^T A w / 2 of a positive semidefinite A, at 0 or another point (n,)."""
    size = len(matrix)
    model = Quadratic(matrix).double()
    model.fc.weight.data = (torch.zeros(size, dtype=torch.float64) if at is None else at)[None]

    def batches(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        for count in (2, 3):
            yield torch.zeros(count, size, dtype=torch.float64), torch.zeros(count, size, dtype=torch.float64)

    surface = Surface(model, batches, mask, loss=nn.MSELoss())
    surface.load(surface.point(state_of(model)))
    return surface


def perceptron(activation: Callable[[], nn.Module] = nn.Tanh, seed: int = 3) -> nn.Sequential:
    """Return a network 5-6-3 in double precision."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 3)).double()


def examples(part: Part, count: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield two batches of 12 examples in all, of 5 numbers and 3 classes."""
    draws = torch.Generator().manual_seed({"train": 1, "validation": 2, "test": 3}[part])
    for size in (7, 5):
        x = torch.randn(size, 5, generator=draws, dtype=torch.float64)
        yield x, torch.randint(3, (size,), generator=draws)


def half(model: nn.Module) -> Mask:
    """Return a mask of about half of the first layer's weights."""
    draws = torch.Generator().manual_seed(0)
    return Mask({"0.weight": torch.rand(model.get_parameter("0.weight").shape, generator=draws) < 0.5})


def surface(pruned: bool = False, activation: Callable[[], nn.Module] = nn.Tanh) -> Surface:
    """Return the surface of the perceptron over all 12 examples, at its weights."""
    model = perceptron(activation)
    found = Surface(model, examples, half(model) if pruned else None, loss=nn.CrossEntropyLoss())
    found.load(found.point(state_of(perceptron(activation))))
    return found


def subject(*shares: float, pruned: bool = False, poison: float = 0.0) -> Subject:
    """Return a subject of one state for each share, which the perceptron's weights are multiplied with.

    The value `poison` stands in place of pruned weights.
    """
    model = perceptron()
    mask = half(model) if pruned else None
    states = []
    for step, share in enumerate(shares):
        weights = {name: share * value for name, value in state_of(model).items()}
        if mask is not None:
            weights["0.weight"] = torch.where(mask["0.weight"], weights["0.weight"], poison)
        states.append(State(f"at {step}", f"{step:064x}", weights, mask, 10 * step))
    return Subject(states, 1, perceptron, perceptron, nn.CrossEntropyLoss(), examples, mask)


def killed_everywhere(measure: Callable[[Memo], object]) -> int:
    """Hold a measurement that is killed at each of its parts to the one never stopped; return the number of parts.

    After each part it goes on to the next, and the bytes of the parts are compared; after a few it goes on to the end.
    """
    saved: list[dict[str, Tensor]] = []
    whole = repr(measure(Memo(after=lambda memo: saved.append(dict(memo.parts)))))
    for before, after in pairwise(saved):
        memo = Memo(before, after=_killed)
        with pytest.raises(Killed):
            measure(memo)
        assert _bytes(memo.parts) == _bytes(after)
    for parts in saved[:: max(1, len(saved) // 4)]:
        assert repr(measure(Memo(parts))) == whole
    assert repr(measure(Memo(saved[-1]))) == whole
    return len(saved)


class Killed(Exception):
    """Raised by a memo in place of a kill."""


def _killed(memo: Memo) -> None:
    raise Killed


def _bytes(parts: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in parts.items()}
