"""The loss surface of a network: its coordinates, and derivatives against the dense Hessian in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian

from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.surface import Batches, Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part


def network(norm: bool = False) -> nn.Module:
    torch.manual_seed(3)
    layers: list[nn.Module] = [nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)]
    if norm:
        layers.insert(1, nn.BatchNorm1d(6))
    return nn.Sequential(*layers).double()


def batches(sizes: tuple[int, ...] = (7, 5)) -> Batches:
    def make(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        draws = torch.Generator().manual_seed({"train": 1, "validation": 2, "test": 3}[part])
        for size in sizes:
            x = torch.randn(size, 5, generator=draws, dtype=torch.float64)
            yield x, torch.randint(3, (size,), generator=draws)

    return make


def half(model: nn.Module) -> Mask:
    draws = torch.Generator().manual_seed(0)
    return Mask({f"{i}.weight": torch.rand(model[i].weight.shape, generator=draws) < 0.5 for i in (0,)})  # type: ignore[index]


def whole_batch() -> tuple[Tensor, Tensor]:
    parts = list(batches()("train"))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def dense_matrix(surface: Surface, kind: str) -> Tensor:
    """The matrix in the surviving coordinates by `torch.func`, made without this project's products."""
    x, y = whole_batch()
    at = surface.here()

    def outputs(vector: Tensor) -> Tensor:
        return functional_call(surface.model, surface.spread(vector), (x,))

    if kind == "hessian":
        return hessian(lambda vector: surface.loss(outputs(vector), y))(at.vector)
    jacobian = torch.func.jacrev(outputs)(at.vector)  # (examples, classes, n)
    inner = hessian(lambda out: surface.loss(out, y))(outputs(at.vector))
    return torch.einsum("aci,acbd,bdj->ij", jacobian, inner, jacobian)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)])
@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_are_those_of_the_dense_matrix(pruned: bool, loss: nn.Module, kind: str) -> None:
    model = network()
    surface = Surface(model, batches(), half(model) if pruned else None, loss=loss)
    surface.load(surface.point(state_of(network())))
    matrix = dense_matrix(surface, kind)
    product = surface.hessian_product if kind == "hessian" else surface.gauss_newton_product
    found = torch.stack([product(unit) for unit in torch.eye(surface.size, dtype=torch.float64)])
    torch.testing.assert_close(found, matrix, rtol=0, atol=1e-12)
    assert surface.size == (5 * 6 + 6 + 6 * 3 + 3) - (int((~half(model)["0.weight"]).sum()) if pruned else 0)


def test_a_gradient_over_batches_is_that_of_all_examples_at_once() -> None:
    model = network()
    surface = Surface(model, batches(), half(model), loss=nn.CrossEntropyLoss())
    surface.load(surface.point(state_of(model)))
    loss, gradient = surface.gradient()
    x, y = whole_batch()
    at = surface.here().vector.requires_grad_()
    value = nn.functional.cross_entropy(functional_call(model, surface.spread(at), (x,)), y)
    (expected,) = torch.autograd.grad(value, at)
    assert loss == pytest.approx(value.item(), abs=1e-14)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-14)


def test_pruned_weights_are_neither_read_nor_moved() -> None:
    model = network()
    mask = half(model)
    clean = Surface(network(), batches(), mask, loss=nn.CrossEntropyLoss())
    poisoned = Surface(network(), batches(), mask, loss=nn.CrossEntropyLoss())
    state = state_of(network())
    bad = {name: value.clone() for name, value in state.items()}
    bad["0.weight"][~mask["0.weight"]] = float("nan")
    clean.load(clean.point(state))
    poisoned.load(poisoned.point(bad))
    assert torch.equal(clean.gradient()[1], poisoned.gradient()[1])
    assert clean.measure("test") == poisoned.measure("test")
    assert not poisoned.model.get_parameter("0.weight")[~mask["0.weight"]].any()


def test_batch_statistics_are_used_without_a_change_of_the_running_ones() -> None:
    model = network(norm=True)
    surface = Surface(model, batches(), loss=nn.CrossEntropyLoss(), statistics="batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, _ = surface.gradient()
    surface.hessian_product(torch.ones(surface.size, dtype=torch.float64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train()
    expected = sum(nn.functional.cross_entropy(model(x), y).item() * len(y) for x, y in batches()("train")) / 12
    assert loss == pytest.approx(expected, abs=1e-14)


def test_the_ends_of_a_line_are_the_points_themselves() -> None:
    surface = Surface(network(norm=True), batches(), loss=nn.CrossEntropyLoss())
    one, two = surface.here(), surface.here().moved(torch.full((surface.size,), 1 / 3, dtype=torch.float64))
    assert one.toward(two, 0) is one
    assert one.toward(two, 1) is two
    assert torch.equal(one.toward(two, 0.25).vector, 0.75 * one.vector + 0.25 * two.vector)


def test_a_mask_that_leaves_nothing_is_refused() -> None:
    model = network()
    empty = Mask({name: torch.zeros_like(model.get_parameter(name), dtype=torch.bool) for name in ("0.weight",)})
    with pytest.raises(UsageError, match="leaves no weight"):
        Surface(model, batches(), empty, loss=nn.CrossEntropyLoss())


def test_a_network_without_second_derivatives_is_refused() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient * 2

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(self.fc(x))

    surface = Surface(Net(), batches(), loss=nn.CrossEntropyLoss())
    with pytest.raises(UsageError, match=r"no second derivative .* leave out analyses of curvature"):
        surface.hessian_product(torch.ones(surface.size, dtype=torch.float64))


def test_a_stopped_measurement_goes_on_where_it_was() -> None:
    calls: list[str] = []

    def called(name: str) -> None:
        calls.append(name)

    def value() -> dict[str, float]:
        called("value")
        return {"loss": float("nan"), "error": 0.1}

    def walk(step: int, state: dict[str, Tensor]) -> dict[str, Tensor]:
        called("walk")
        return {"x": state["x"] * 3 + step}

    def measure(memo: Memo) -> str:
        return repr([memo.values("alpha 0", value), memo.iterate("walk", 3, {"x": torch.tensor(1.0)}, walk)])

    kept: list[dict[str, Tensor]] = []
    whole = measure(Memo(after=lambda memo: kept.append(dict(memo.parts))))
    assert calls == ["value", "walk", "walk", "walk"]
    for parts in kept:
        assert measure(Memo(parts)) == whole
    assert calls == ["value", *["walk"] * 3, *["walk"] * (3 + 2 + 1)]


class Held:
    """Bytes that graphs hold for their backward passes, now and at most, by torch's hooks on what is saved."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, value: Tensor) -> Kept:
        return Kept(self, value)


class Kept:
    """A tensor that a graph holds, counted as long as it does."""

    def __init__(self, held: Held, value: Tensor):
        self.held, self.value, self.size = held, value, value.numel() * value.element_size()
        held.now += self.size
        held.most = max(held.most, held.now)

    def __del__(self) -> None:
        self.held.now -= self.size


@pytest.mark.parametrize("operation", ["gradient", "hessian_product", "gauss_newton_product"])
@pytest.mark.parametrize("pruned", [False, True])
def test_memory_is_that_of_one_batch_however_many_there_are(operation: str, pruned: bool) -> None:
    def most(sizes: tuple[int, ...]) -> int:
        model, held = network(), Held()
        surface = Surface(model, batches(sizes), half(model) if pruned else None, loss=nn.CrossEntropyLoss())
        call = getattr(surface, operation)
        with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept.value):
            call() if operation == "gradient" else call(torch.ones(surface.size, dtype=surface.dtype))
        return held.most

    assert most((16,)) == most((16,) * 12) > 0
    assert most((32,)) > 1.2 * most((16,))  # what is counted grows with a batch


class Recurrent(nn.Module):
    """A network that reads an example number by number, and notes at each pass whether cuDNN may be used."""

    def __init__(self, kind: Any):
        super().__init__()
        torch.manual_seed(5)
        self.rows = None if kind is None else kind(1, 3, batch_first=True)
        self.output = nn.Linear(5 if kind is None else 3, 3)
        self.double()
        self.allowed: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.allowed.append(torch.backends.cudnn.enabled)
        return self.output(x if self.rows is None else self.rows(x.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, None])
def test_recurrent_layers_do_without_cudnn_wherever_derivatives_are_taken(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its recurrent layers have no gradient in evaluation mode; loss and error are as evaluations of trainings."""
    model = Recurrent(kind)
    surface = Surface(model, batches((4,)), loss=nn.CrossEntropyLoss())
    vector = torch.ones(surface.size, dtype=torch.float64)
    x, y = next(surface.examples("train"))
    differentiated: dict[str, Callable[[], object]] = {
        "gradient": surface.gradient,
        "hessian": lambda: surface.hessian_product(vector),
        "gauss_newton": lambda: surface.gauss_newton_product(vector),
        "outputs": lambda: surface.outputs(x).sum().backward(),
        "value_of": lambda: surface.value_of(surface.here(), x, y),
    }
    for name, take in differentiated.items():
        model.allowed.clear()
        take()
        assert model.allowed and set(model.allowed) == {kind is None}, name
        assert torch.backends.cudnn.enabled, name
    for take in (lambda: surface.measure("train"), surface.mean_loss):
        model.allowed.clear()
        take()
        assert set(model.allowed) == {True}
    if kind is not None:
        with pytest.raises(RuntimeError, match="halt"), monkeypatch.context() as patch:
            patch.setattr(surface, "loss", _halt)
            surface.gradient()
        assert torch.backends.cudnn.enabled


def _halt(outputs: Tensor, y: Tensor) -> Tensor:
    raise RuntimeError("halt")


@pytest.mark.gpu
def test_curvature_of_a_recurrent_network_on_a_gpu_is_that_on_a_cpu() -> None:
    products = []
    for device in ("cpu", "cuda"):
        surface = Surface(Recurrent(nn.LSTM).to(device), batches((4,)), loss=nn.CrossEntropyLoss())
        vector = torch.ones(surface.size, dtype=torch.float64, device=device)
        products.append(surface.hessian_product(vector).cpu())
    one, other = products
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-12)
