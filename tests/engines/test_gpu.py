"""On a CUDA device: the same study, twice the same bytes, killed masks nowhere; steps replayed from CUDA graphs.

Run with `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.device import Machine, prepared
from lottery.engines.cuda_graph import WARM_UP, CudaGraphs, GraphEngine, unsupported
from lottery.engines.lockstep import Lockstep, Member
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.results.record import records
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective
from tests.support.restarts import contents, full_recipe, run_until_stopped
from tests.support.waiting import nothing_waits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SMALL = ("seeds=1", "prune.levels=2")


SHORT = ("prune.levels=1", "train.optimizer={name: momentum, lr: 0.05}", "branches=[shuffle]")
STUDIES = {
    "lenet": ("model={name: lenet, widths: [24, 12], norm: batch}",),
    "conv2": ("model={name: conv2, norm: batch}",),
    "resnet20": ("model=resnet20", *SHORT),
    "resnet20, bf16": ("model=resnet20", "train.precision=bf16", *SHORT),
    "densenet": ("model={name: densenet, depth: 10, growth: 4}", *SHORT),
    "learned masks": ("model={name: conv2}", *SHORT, "branches=[learned_supermask, edge_popup]"),
}


def train(request: Request) -> RunContext:
    """Train what a request asks for, and return its run; a training that fails is told of with its reason."""
    context = prepare(request)
    wrong = [event for event in work(context) if event.kind not in ("start", "progress", "done")]
    assert not [(event.kind, event.label, event.about.get("message")) for event in wrong]
    return context


@pytest.mark.parametrize("study", STUDIES)
def test_two_deterministic_runs_on_a_gpu_give_the_same_bytes(tmp_path: Path, study: str) -> None:
    recipe = full_recipe(40, *SMALL, *STUDIES[study])
    for name in ("a", "b"):
        train(Request(recipe, Path(), tmp_path / name, "cuda", deterministic=True))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_step_does_not_wait_for_the_device(tmp_path: Path) -> None:
    from lottery.runner.assemble import training_of

    context = train(Request(full_recipe(40, *SMALL), Path(), tmp_path, "cuda"))
    training = training_of(context, next(job for job in context.plan if job.kind == "dense"))
    x, y = next(context.data(0).epoch(0, 32))
    training.engine.step(x, y)
    with nothing_waits():
        training.engine.step(x, y)


CUDA = torch.device("cuda")
LENET = ("lenet", {"widths": (24, 12), "norm": "batch", "activation": "relu", "dropout": 0.2}, "fp32", 1e-4)
RESNET = ("resnet20", {"norm": "batch", "activation": "relu"}, "bf16", 3e-2)


def batch(step: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(step)
    size = 64 if step % 5 else 24  # the last batch of a pass is a smaller one
    x, y = torch.randn(size, 3, 32, 32, generator=draws), torch.randint(10, (size,), generator=draws)
    return x.to(CUDA, memory_format=torch.channels_last), y.to(CUDA)


def network(name: str, args: dict[str, Any], precision: str, optimizer: str) -> tuple[Objective, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = registry.models[name].make((3, 32, 32), 10, **args).to(CUDA, memory_format=torch.channels_last)
    made = registry.optimizers[optimizer].make(model, lr=2**-9)
    loss = nn.CrossEntropyLoss()
    return Objective(model, loss, lambda: iter(()), steps_per_epoch=5, precision=precision, clip=1.0), made


def losses(objective: Objective, optimizer: torch.optim.Optimizer, engine: GraphEngine | DenseEngine) -> list[float]:
    """Of 30 steps under a mask, with a schedule, and with dropout seeded anew at each pass."""
    found = []
    weights = {name: p for name, p in objective.model.named_parameters() if p.dim() > 1}
    draws = torch.Generator().manual_seed(3)
    mask = Mask({name: torch.rand(weight.shape, generator=draws) < 0.3 for name, weight in weights.items()})
    with masked(objective.model, mask, optimizer):
        for step in range(30):
            if step % 5 == 0:
                torch.manual_seed(step)
            optimizer.param_groups[0]["lr"] = 2**-9 * 0.5 ** (step // 10)
            found.append(engine.step(*batch(step)).item())
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "rmsprop", "nadam"])
@pytest.mark.parametrize("kind", [LENET, RESNET], ids=lambda kind: kind[0])
def test_replayed_steps_agree_with_dense_ones(kind: tuple[str, dict[str, object], str, float], optimizer: str) -> None:
    name, args, precision, tolerance = kind
    with prepared(Machine(CUDA, 1, True), precision):
        dense, graph = (network(name, args, precision, optimizer) for _ in range(2))
        assert unsupported(*graph) is None
        wanted = losses(*dense, DenseEngine(*dense))
        engine = GraphEngine(*graph, CudaGraphs(CUDA))
        found = losses(*graph, engine)
    assert found == pytest.approx(wanted, rel=tolerance)
    assert (engine.name, engine.recorded, engine.replayed) == ("graph", 2, 30 - 2 * WARM_UP)
    assert wanted[-1] != wanted[-6]


def test_a_step_that_reads_a_value_is_launched_with_a_warning() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (1 + 0 * x.abs().max().item())

    name, args, precision, tolerance = LENET
    with prepared(Machine(CUDA, 1, True), precision):
        dense, graph = (network(name, args, precision, "adam") for _ in range(2))
        for objective, _ in (dense, graph):
            objective.model.get_submodule("after1").append(Reads())  # type: ignore[operator]
        wanted = losses(*dense, DenseEngine(*dense))
        with pytest.warns(UserWarning, match="cannot be recorded as a graph"):
            found = losses(*graph, GraphEngine(*graph, CudaGraphs(CUDA)))
        assert found == pytest.approx(wanted, rel=tolerance)
        again = network(name, args, precision, "adam")  # the device is as it was: another graph can be recorded
        engine = GraphEngine(*again, CudaGraphs(CUDA))
        losses(*again, engine)
        assert (engine.name, engine.recorded) == ("graph", 2)


def test_a_replay_waits_for_nothing() -> None:
    name, args, precision, _ = RESNET
    objective, optimizer = network(name, args, precision, "momentum")
    engine = GraphEngine(objective, optimizer, CudaGraphs(CUDA))
    x, y = batch(1)
    for _ in range(WARM_UP + 1):
        engine.step(x, y)
    with nothing_waits():
        for step in range(3):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            engine.step(x, y)


@pytest.mark.parametrize("model", ["{name: lenet, widths: [24, 12], norm: batch, dropout: 0.2}", "{name: conv2}"])
def test_a_study_by_graph_gives_the_same_bytes_twice_and_when_it_is_stopped_and_continued(
    tmp_path: Path, model: str
) -> None:
    recipe = full_recipe(40, *SMALL, f"model={model}", "train.batch_size=256", "train.engine=graph")
    for name in ("a", "b"):
        train(Request(recipe, Path(), tmp_path / name, "cuda", deterministic=True))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    stopped = Request(recipe, Path(), tmp_path / "c", "cuda", deterministic=True, checkpoint_seconds=0)
    for steps in (5, 44, 61):
        run_until_stopped(stopped, steps)
    train(Request(recipe, Path(), tmp_path / "c", "cuda", deterministic=True))
    assert contents(tmp_path / "c") == contents(tmp_path / "a")
    store = Store(tmp_path / "c")
    assert {e for r in records(prepare(stopped).plan, store).values() for e in r.manifest.engines} == {"graph"}


def in_lockstep(kind: tuple[str, dict[str, Any], str, float], steps: int) -> tuple[Lockstep, Tensor, Tensor]:
    """Train three networks in lockstep; return it, its losses, and those of each network alone by graph, (steps, 3)."""
    name, args, precision, _ = kind
    batches = [[batch(5 * member + 1 + step % 4) for member in range(3)] for step in range(steps)]  # of one size
    found = []
    made, others = ([network(name, args, precision, "momentum") for _ in range(3)] for _ in range(2))
    for objective, _ in (*made, *others):
        objective.clip = None  # which stacked networks have not
    lockstep = Lockstep([Member(*each, Mask({})) for each in made], CudaGraphs(CUDA))
    for each in batches:
        x = torch.stack([x.permute(0, 2, 3, 1) for x, _ in each]).permute(0, 1, 4, 2, 3)  # channels last, as alone
        found.append(lockstep.step(x, torch.stack([y for _, y in each])).clone())
    alone = []
    for member in range(3):
        engine = GraphEngine(*others[member], CudaGraphs(CUDA))
        alone.append(torch.stack([engine.step(*each[member]).clone() for each in batches]))
    return lockstep, torch.stack(found), torch.stack(alone, dim=1)


def test_perceptrons_in_lockstep_have_the_losses_of_each_alone() -> None:
    kind = ("lenet", {"widths": (24, 12), "norm": "none", "activation": "relu"}, "fp32", 0.0)
    with prepared(Machine(CUDA, 1, True), "fp32"):
        lockstep, found, alone = in_lockstep(kind, 20)
    assert lockstep.name == "lockstep, graph"
    assert torch.allclose(found, alone, rtol=1e-4)


def test_convolutional_networks_side_by_side_have_the_bits_of_each_alone() -> None:
    with prepared(Machine(CUDA, 1, True), "fp32"):
        lockstep, found, alone = in_lockstep(("resnet20", {"norm": "batch", "activation": "relu"}, "fp32", 0.0), 10)
    assert lockstep.name == "lockstep, graph"
    assert torch.equal(found, alone)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_gpu_learns_what_a_cpu_learns(tmp_path: Path, precision: str) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        recipe = full_recipe(200, *SMALL, f"train.precision={precision}")
        context = train(Request(recipe, Path(), tmp_path / device, device))
        found = records(context.plan, Store(tmp_path / device))
        losses[device] = [record.metrics["end"]["validation_loss"] for record in found.values()]
    mean = {device: sum(values) / len(values) for device, values in losses.items()}
    assert mean["cuda"] == pytest.approx(mean["cpu"], rel=0.15)
