"""Masks and networks inside the wrappers of others: their names are understood, or it is said how they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import lottery
from lottery.errors import UsageError
from lottery.pruning.mask import Mask


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))


class OptimizedModule(nn.Module):
    """The class of the same name in torch, as far as names go."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._orig_mod(x)
        return out


def compiled_inside(model: nn.Sequential) -> nn.Sequential:
    model[2] = OptimizedModule(model[2])
    return model


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


def distributed(model: nn.Module) -> Any:
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model)


WRAPPERS: dict[str, Callable[[Any], nn.Module]] = {
    "plain": lambda model: model,
    "compiled": OptimizedModule,
    "compiled inside": compiled_inside,
    "parallel": nn.DataParallel,
    "parallel, compiled": lambda model: OptimizedModule(nn.DataParallel(model)),
    "distributed": distributed,
    "compiled, distributed": lambda model: distributed(OptimizedModule(model)),
}


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int = 5) -> None:
    draws = torch.Generator().manual_seed(1)
    for _ in range(count):
        optimizer.zero_grad()
        model(torch.randn(16, 6, generator=draws)).square().mean().backward()
        optimizer.step()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_network_is_pruned_held_and_rewound_as_the_network_itself(wrap: Any, tmp_path: Any) -> None:
    plain, wrapped = network(), wrap(network())
    mask = lottery.prune(plain, 0.5, "global")
    assert lottery.prune(wrapped, 0.5, "global") == mask and list(mask) == ["0.weight", "2.weight"]
    own = Mask(dict(zip(dict(_weights(wrapped)), mask.values(), strict=True)))
    trained = []
    for model, held in ((plain, mask), (plain, own), (wrapped, mask), (wrapped, own)):
        inner = dict(_weights(model))
        for weight, start in zip(inner.values(), dict(_weights(network())).values(), strict=True):
            weight.data.copy_(start)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        with lottery.masked(model, held, optimizer):
            steps(model, optimizer)
        assert all(not weight[~bits].any() for weight, bits in zip(inner.values(), mask.values(), strict=True))
        trained.append([weight.detach().clone() for weight in inner.values()])
        state = held.apply(network().state_dict()) if model is plain else held.apply(wrapped.state_dict())
        assert sum(int(state[name].count_nonzero()) for name in state if name.endswith("weight")) == 40
        model.load_state_dict(state)
    biases = {id(p) for p in plain.parameters()}  # which go on from run to run, so that only the first two start alike
    assert biases and all(torch.equal(a, b) for a, b in zip(trained[0], trained[2], strict=True))
    lottery.save_ticket(tmp_path / "a.ticket", mask, network())
    model, found = lottery.load_ticket(tmp_path / "a.ticket", wrapped)
    assert model is wrapped and found == mask
    expected = mask.apply(network().state_dict())
    assert all(torch.equal(w, expected[n]) for w, n in zip(dict(_weights(wrapped)).values(), mask, strict=True))
    lottery.save_ticket(tmp_path / "b.ticket", own, wrapped.state_dict(), wrapped)
    fresh = network()
    _, found = lottery.load_ticket(tmp_path / "b.ticket", fresh, weights="trained")
    assert found == mask and torch.equal(fresh[0].weight, expected["0.weight"])


def _weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.dim() == 2)


def test_an_average_of_weights_is_pruned_by_its_state() -> None:
    model = network()
    mask = lottery.prune(model, 0.5)
    average = AveragedModel(model)
    state = mask.apply(average.state_dict())
    assert state.keys() == average.state_dict().keys()
    assert [int(state[f"module.{name}"].count_nonzero()) for name in mask] == [24, 16]
    average.load_state_dict(state)
    assert lottery.prune(average, 0.5, mask=mask).alive() == {"0.weight": 12, "2.weight": 8}


def test_a_mask_does_not_pass_over_a_state_that_lacks_its_weights() -> None:
    mask = lottery.prune(network(), 0.5)
    state = {f"network.{name}": value for name, value in network().state_dict().items()}
    with pytest.raises(UsageError, match=r"there is network\.0\.weight: hand over the network in 'network' itself"):
        mask.apply(state)
    both = {
        f"{front}.{name}": value
        for front in ("module", "other.module")
        for name, value in network().state_dict().items()
    }
    assert int(mask.apply(both)["module.0.weight"].count_nonzero()) == 24
    with pytest.raises(UsageError, match=r"the mask has 0\.weight of shape \(8, 6\), the model has not$"):
        mask.apply({"fc.weight": torch.ones(8, 6)})
    with pytest.raises(UsageError, match=r"the mask has 0\.weight of shape \(8, 6\), the model has not"):
        mask.apply({"0.weight": torch.ones(6, 8), "2.weight": torch.ones(4, 8)})


def test_a_module_around_the_network_is_told_from_it() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

    around = Around()
    optimizer = torch.optim.SGD(around.parameters(), lr=0.1)
    with (
        pytest.raises(UsageError, match=r"there is network\.0\.weight: hand over the network in 'network' itself"),
        lottery.masked(around, lottery.prune(around.network, 0.5), optimizer),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"there is 0\.weight: name the weights of the mask without 'network\.'"),
        lottery.masked(around.network, lottery.prune(around, 0.5), optimizer),
    ):
        pass


def test_attentions_packed_projections_are_pruned_in_the_state_dict_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8))
    mask = lottery.prune(model, 0.5)
    assert [name for name in mask if ".self_attn." in f".{name}"][:3] == [f"0.self_attn.{x}.weight" for x in "qkv"]
    for front in ("", "_orig_mod.", "module."):
        state = mask.apply({f"{front}{name}": value for name, value in model.state_dict().items()})
        packed = state[f"{front}0.self_attn.in_proj_weight"]
        assert [int(rows.count_nonzero()) for rows in packed.chunk(3)] == [8, 8, 8]
        expected = torch.cat([mask[f"0.self_attn.{letter}.weight"] for letter in "qkv"])
        assert torch.equal(packed != 0, expected)


@pytest.mark.usefixtures("group")
def test_parameters_in_shards_are_refused_with_the_way_out() -> None:
    fully_shard = pytest.importorskip("torch.distributed.fsdp").fully_shard
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = network()
    mask = lottery.prune(model, 0.5)
    fully_shard(model, mesh=mesh)
    with pytest.raises(UsageError, match=r"its parameters lie in shards .* train it with DistributedDataParallel"):
        lottery.prune(model, 0.5)
    with (
        pytest.raises(UsageError, match="its parameters lie in shards"),
        lottery.masked(model, mask, torch.optim.SGD(model.parameters(), lr=0.1)),
    ):
        pass


class Stepper:
    """Steps with the optimizer inside, as Accelerate's wrapper does, and has no hooks."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_the_hooks_are_those_of_the_optimizer_inside_a_wrapper() -> None:
    model = network()
    mask = lottery.prune(model, 0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    stepper: Any = Stepper(optimizer)
    with lottery.masked(model, mask, stepper):
        steps(model, optimizer)
        assert not model[0].weight[~mask["0.weight"]].any()
    nothing: Any = object()
    with (
        pytest.raises(UsageError, match=r"object: is no torch\.optim\.Optimizer"),
        lottery.masked(model, mask, nothing),
    ):
        pass


@pytest.mark.slow  # torch.compile takes seconds to import
def test_what_torch_compiles_is_understood() -> None:
    compiled: Any = torch.compile(network(), backend="aot_eager")
    mask = lottery.prune(compiled, 0.5, "global")
    assert list(mask) == ["0.weight", "2.weight"]
    optimizer = torch.optim.AdamW(compiled.parameters(), lr=0.1)
    with lottery.masked(compiled, mask, optimizer):
        steps(compiled, optimizer)
    plain = network()
    own = torch.optim.AdamW(plain.parameters(), lr=0.1)
    with lottery.masked(plain, mask, own):
        steps(plain, own)
    for (name, expected), weight in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name)
    assert (
        sum(int(value.count_nonzero()) for value in mask.apply(compiled.state_dict()).values() if value.dim() > 1) == 40
    )


def _rank(rank: int, store: str, out: str) -> None:
    """Train the wrapped network on this rank's half of each batch, under the mask, and leave its weights in a file."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = distributed(network())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    draws = torch.Generator().manual_seed(1)
    with lottery.masked(model, lottery.prune(model, 0.5, "global"), optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(16, 6, generator=draws)[8 * rank : 8 * rank + 8]).square().mean().backward()
            optimizer.step()
    torch.save(model.module.state_dict(), f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow  # two processes that import torch
def test_two_distributed_ranks_train_the_masked_network_as_one_does(tmp_path: Any) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)  # type: ignore[attr-defined]
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    model = network()
    mask = lottery.prune(model, 0.5, "global")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with lottery.masked(model, mask, optimizer):
        steps(model, optimizer)
    for name, expected in model.state_dict().items():
        assert torch.equal(one[name], other[name])
        torch.testing.assert_close(one[name], expected, rtol=1e-4, atol=1e-5)
        assert name not in mask or not one[name][~mask[name]].any()
