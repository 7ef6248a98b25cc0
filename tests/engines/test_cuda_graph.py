"""The graph engine, with a recorder for CPUs in the place of CUDA graphs: recorded steps are the dense ones."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.models._perceptron import Perceptron
from lottery.device import Machine
from lottery.engines import cuda_graph
from lottery.engines.choose import LEAST_STEPS, engine_for
from lottery.engines.cuda_graph import WARM_UP, CudaGraphs, GraphEngine, capturable, unsupported
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.schema import Recipe
from lottery.results.study import study
from lottery.runner import estimate
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Objective
from lottery.training.state import load_optimizer, optimizer_state
from tests.support.entries import make
from tests.support.micro import micro
from tests.support.perceptrons import STUDY
from tests.support.recorder import Recordings
from tests.support.restarts import contents, run_until_stopped
from tests.support.waiting import nothing_waits

INPUTS, CLASSES = 20, 5
EXACT = {  # rates that float32 has: a rate in a tensor is the same number
    "gd": 2**-3,
    "sgd": 2**-3,
    "momentum": 2**-4,
    "nesterov": 2**-4,
    "adam": 2**-9,
    "adamw": 2**-9,
    "amsgrad": 2**-9,
    "adadelta": 1.0,
    "rmsprop": 2**-9,
}
ROUNDED = {"adamax": 2**-9, "nadam": 2**-9}  # their bias corrections are computed in float32 where steps are recorded
Trained = tuple[nn.Module, torch.optim.Optimizer, Objective]


@pytest.fixture(autouse=True)
def capturable_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch lets its optimizers be captured on accelerators only; their arithmetic is the same here."""
    for name in ("adam", "adadelta", "rmsprop", "adamax", "nadam"):
        module = sys.modules[f"torch.optim.{name}"]
        monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda *args, **kwargs: ["cpu"])


def network(optimizer: str, rate: float, norm: str = "batch", dtype: torch.dtype = torch.float32) -> Trained:
    """A network with all that a step may have: normalization, dropout, clipping, a batch in parts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Perceptron((INPUTS,), CLASSES, (24, 16), norm, "relu", 0.2, False).to(dtype)
    made = registry.optimizers[optimizer].make(model, lr=rate)
    assert isinstance(made, torch.optim.Optimizer)
    for group in made.param_groups:
        group["foreach"] = None if group.get("fused") else True  # as on a GPU
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return model, made, Objective(model, loss, lambda: iter(()), steps_per_epoch=1, clip=1.0, accumulate=2)


def mask_of(model: nn.Module) -> Mask:
    draws = torch.Generator().manual_seed(3)
    weights = {name: p for name, p in model.named_parameters() if name.startswith("fc") and p.dim() == 2}
    return Mask({name: torch.rand(weight.shape, generator=draws) < 0.3 for name, weight in weights.items()})


def batch(step: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(step)
    size = 33 if step % 5 else 12  # the last batch of a pass is a smaller one
    return torch.randn(size, INPUTS, generator=draws), torch.randint(CLASSES, (size,), generator=draws)


def train(trained: Trained, engine: Engine, rate: float, steps: range) -> list[float]:
    """Losses of steps with a schedule and with dropout that is seeded anew at each pass, as a training has them."""
    losses = []
    for step in steps:
        if step % 5 == 0:
            torch.manual_seed(step)
        trained[1].param_groups[0]["lr"] = rate * 0.5 ** (step // 15)
        x, y = batch(step)
        losses.append(engine.step(x.to(next(trained[0].parameters()).dtype), y).item())
    return losses


def values(trained: Trained) -> list[Tensor]:
    """Weights, running statistics, and what the optimizer keeps of each weight."""
    model, optimizer, _ = trained
    kept = [value for p in model.parameters() for _, value in sorted(optimizer.state.get(p, {}).items())]
    return [value.detach() for value in (*model.parameters(), *model.buffers(), *kept)]


def same(one: Trained, other: Trained) -> bool:
    return all(torch.equal(a, b) for a, b in zip(values(one), values(other), strict=True))


@pytest.mark.parametrize("optimizer", EXACT)
def test_recorded_steps_are_the_dense_ones_to_the_bit(optimizer: str) -> None:
    rate, recordings = EXACT[optimizer], Recordings()
    dense, graph = network(optimizer, rate), network(optimizer, rate)
    mask = mask_of(dense[0])
    with masked(dense[0], mask, dense[1]):
        wanted = train(dense, DenseEngine(dense[2], dense[1]), rate, range(40))
    with masked(graph[0], mask, graph[1]):
        engine = GraphEngine(graph[2], graph[1], recordings)
        assert train(graph, engine, rate, range(40)) == wanted
    assert same(dense, graph)
    assert all(not graph[0].get_parameter(name)[~mask[name]].any() for name in mask)
    assert isinstance(graph[1].param_groups[0]["lr"], float)
    # two shapes of batches, each with its warm-up and its recording
    assert (recordings.runs, recordings.recorded, recordings.replayed) == (2 * WARM_UP, 2, 40 - 2 * WARM_UP)


@pytest.mark.parametrize("optimizer", ROUNDED)
def test_where_corrections_are_computed_in_float32_steps_agree_within_its_rounding(optimizer: str) -> None:
    rate = ROUNDED[optimizer]
    dense, graph, exact = (network(optimizer, rate, "none", t) for t in (torch.float32, torch.float32, torch.float64))
    losses = []
    for trained in (dense, graph, exact):
        trained[0].eval()  # dropout would draw otherwise in another type
        plain = DenseEngine(trained[2], trained[1])
        engine = GraphEngine(trained[2], trained[1], Recordings()) if trained is graph else plain
        losses.append(train(trained, engine, rate, range(40)))
    assert losses[1] == pytest.approx(losses[2], abs=2e-6)
    for here, wanted in zip(graph[0].parameters(), exact[0].parameters(), strict=True):
        assert (here - wanted).abs().max() <= 1e-4 * 40 * rate  # the correction of the first step has 4 digits


def test_a_rate_that_float32_has_not_is_rounded_to_it() -> None:
    dense, graph = network("momentum", 0.1), network("momentum", 0.1)
    rounded = float(torch.tensor(0.1, dtype=torch.float32))
    wanted = train(dense, DenseEngine(dense[2], dense[1]), rounded, range(20))
    assert train(graph, GraphEngine(graph[2], graph[1], Recordings()), 0.1, range(20)) == wanted
    assert same(dense, graph)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "rmsprop"])
def test_state_that_is_loaded_in_the_middle_is_what_goes_on(optimizer: str) -> None:
    rate = EXACT[optimizer]
    whole, broken = network(optimizer, rate), network(optimizer, rate)
    train(whole, DenseEngine(whole[2], whole[1]), rate, range(30))
    recordings = Recordings()
    engine = GraphEngine(broken[2], broken[1], recordings)
    train(broken, engine, rate, range(15))
    weights = {name: value.clone() for name, value in broken[0].state_dict().items()}
    state = copy.deepcopy(optimizer_state(broken[1]))
    train(broken, engine, rate, range(20, 30))  # steps that are undone
    broken[0].load_state_dict(weights)
    load_optimizer(broken[1], state)
    engine.load()
    recorded = recordings.recorded
    train(broken, engine, rate, range(15, 30))
    assert same(whole, broken)
    assert recordings.recorded > recorded  # the optimizer's state lies elsewhere now
    assert "capturable" not in state["param_groups"][0] and "lr" not in state["param_groups"][0]


def test_a_step_that_cannot_be_recorded_is_launched_with_a_warning_that_says_why() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.abs().max().item()

    dense, graph = network("adam", 2**-9), network("adam", 2**-9)
    recordings = Recordings()
    for model, _, _ in (dense, graph):
        model.get_submodule("after1").append(Reads())  # type: ignore[operator]
    wanted = train(dense, DenseEngine(dense[2], dense[1]), 2**-9, range(20))
    with pytest.warns(
        UserWarning, match=r"cannot be recorded.*not permitted when stream is capturing.*launched"
    ) as told:
        engine = GraphEngine(graph[2], graph[1], recordings)
        assert train(graph, engine, 2**-9, range(20)) == wanted
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert same(dense, graph)
    assert recordings.recorded == recordings.replayed == 0 == engine.recorded == engine.replayed
    assert engine.name == "graph, launched"  # and not what was asked for, in what is recorded of the training


def test_a_recording_that_fails_drops_those_that_drew_from_the_same_generator() -> None:
    """A step on another shape of batch that cannot be recorded: the first shape's recording is not replayed either."""

    class Fails(Recordings):
        def record(self, call: Callable[[], None]) -> Callable[[], None]:
            if self.recorded:
                raise RuntimeError("operation not permitted when stream is capturing")
            return super().record(call)

    dense, graph = network("adam", 2**-9), network("adam", 2**-9)
    recordings = Fails()
    wanted = train(dense, DenseEngine(dense[2], dense[1]), 2**-9, range(30))
    engine = GraphEngine(graph[2], graph[1], recordings)
    with pytest.warns(UserWarning, match="cannot be recorded"):
        assert train(graph, engine, 2**-9, range(30)) == wanted
    replayed = recordings.replayed
    assert engine.recorded == 1 and replayed > 0
    train(graph, engine, 2**-9, range(30, 40))
    assert recordings.replayed == replayed == engine.replayed


PRIVATE = {"end": "_cuda_endAllocateToPool", "release": "_cuda_releasePool"}  # functions of torch._C


class Allocator:
    """torch's CUDA allocator and generator as far as a recording that fails leaves them in it, before torch 2.12."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mends: str):
        self.mends, self.made, self.done = mends, 0, list[object]()
        self.recording: set[tuple[int, int]] = set()
        for name, stand_in in {
            "default_generators": (None, self),
            "current_stream": lambda device: None,
            "set_stream": lambda stream: self.done.append("the stream is back"),
            "graph": self.graph,
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
            "graph_pool_handle": self.pool,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(cuda_graph, "_stream_of", lambda device: None)
        for name, function in {"end": self.end, "release": lambda device, pool: self.done.append("released")}.items():
            monkeypatch.setattr(torch._C, PRIVATE[name], function, raising=False)
            if mends == "without the functions":
                monkeypatch.delattr(torch._C, PRIVATE[name])

    def clone_state(self) -> str:
        return "a state of its own"

    def graphsafe_set_state(self, state: object) -> None:
        self.done.append(state)

    def pool(self) -> tuple[int, int]:
        self.made += 1
        return 0, self.made

    def end(self, device: int, pool: tuple[int, int]) -> None:
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    @contextmanager
    def graph(self, graph: object, pool: tuple[int, int], **about: object) -> Iterator[None]:
        if pool in self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.recording.add(pool)
        try:
            yield
        except BaseException:
            if self.mends:
                self.recording.remove(pool)
            raise
        self.recording.remove(pool)


@pytest.mark.parametrize("mends", ["", "by itself", "without the functions"])
def test_after_a_recording_that_failed_generator_and_memory_are_in_none_and_another_can_be_made(
    monkeypatch: pytest.MonkeyPatch, mends: str
) -> None:
    """torch before 2.13 leaves the generator in it, torch before 2.12 the allocator. Both are stood in for here."""

    def reads() -> None:
        raise RuntimeError("no capture here")

    allocator = Allocator(monkeypatch, mends)
    graphs = CudaGraphs(torch.device("cuda", 1))
    graphs.record(lambda: None)
    with pytest.raises(RuntimeError, match="no capture here"):
        graphs.record(reads)
    assert not allocator.recording  # else torch frees no memory that it keeps, as if a recording went on
    assert allocator.done[1:] == ["a state of its own", *([] if mends else ["released"]), "the stream is back"]
    graphs.record(lambda: None)


@pytest.mark.parametrize("fails", [True, False])
def test_that_nothing_waits_is_asked_of_torch_where_warnings_are_errors_and_never_for_longer(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    modes: list[str] = []

    def set_mode(mode: str) -> None:  # as torch does it: it is set before the warning is one
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError) if fails else nullcontext(), nothing_waits():
            assert modes == ["error"] and 1 / (not fails)
    assert modes == ["error", "default"]


def test_a_counter_on_the_host_cannot_be_recorded_unseen() -> None:
    """The recorder of these tests finds out steps that only look recorded: numbers in it stay what they were."""
    dense, graph = network("yogi", 2**-9), network("yogi", 2**-9)
    assert not capturable(graph[1])
    train(dense, DenseEngine(dense[2], dense[1]), 2**-9, range(14))
    engine = GraphEngine(graph[2], graph[1], Recordings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_train", lambda batch: engine._dense.step(batch.x, batch.y))
        train(graph, engine, 2**-9, range(14))
    assert not same(dense, graph)


def test_which_optimizers_can_be_recorded() -> None:
    model = Perceptron((INPUTS,), CLASSES, (24, 16), "none", "relu", 0.0, False)
    names = [entry.name for entry in registry.optimizers if entry.traits.package is None]
    assert {name for name in names if capturable(make(name, model))} == {*EXACT, *ROUNDED}


def test_what_cannot_be_recorded_is_told() -> None:
    _, optimizer, objective = network("sgd", 0.1)
    assert unsupported(objective, optimizer) == "works on a CUDA device only"
    meta = Objective(nn.Linear(1, 1, device="meta"), nn.MSELoss(), lambda: iter(()), steps_per_epoch=1)
    assert "CUDA" in str(unsupported(meta, optimizer))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recordings]:
    """This CPU taken for a CUDA device; all recorders that were made."""
    made: list[Recordings] = []

    def recorder(device: torch.device) -> Recordings:
        made.append(Recordings())
        return made[-1]

    monkeypatch.setattr(cuda_graph, "CudaGraphs", recorder)
    monkeypatch.setattr(
        cuda_graph, "unsupported", lambda objective, optimizer: None if capturable(optimizer) else "knows others only"
    )
    return made


def taken(wanted: Any, optimizer: str = "sgd", density: float | None = 1.0) -> str:
    model, made, objective = network(optimizer, 0.1)
    bits = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if p.dim() == 2}
    bits["fc1.weight"][0] = density == 1
    mask = None if density is None else Mask(bits)
    machine = Machine(torch.device("cpu"), 1, True)
    return engine_for(objective, made, mask, wanted, machine, list, steps=LEAST_STEPS).name


def test_an_estimate_times_replayed_steps_and_no_recording(
    recorded: list[Recordings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = prepare(Request(micro("train.engine=graph", "train.optimizer={name: sgd, lr: 0.1}"), tmp_path, tmp_path))
    seen: list[tuple[int, int]] = []

    def now() -> float:
        seen.append((recorded[-1].recorded, recorded[-1].replayed))
        return float(len(seen))

    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=now))
    estimate._timed(context, 0)
    assert seen[0] == (1, 1) and seen[-1][1] > 1 and {count for count, _ in seen} == {1}


@pytest.mark.usefixtures("recorded")
def test_the_graph_is_taken_where_it_is_asked_for_and_can_be() -> None:
    assert taken("graph") == taken("graph", density=0.9) == "graph"
    assert taken("auto") == taken("dense") == "dense"
    assert taken("graph", density=None) == "dense"  # a mask that changes on the way
    assert taken("graph", "yogi", density=None) == "dense"  # nor does it matter then what can be recorded
    with pytest.raises(UsageError, match=r"train.engine: graph knows others only; write auto"):
        taken("graph", "yogi")


def test_without_a_cuda_device_the_graph_is_refused() -> None:
    with pytest.raises(UsageError, match=r"train.engine: graph works on a CUDA device only; write auto"):
        taken("graph")


GRAPH = (
    "model={name: lenet, widths: [24, 12], norm: batch, dropout: 0.2}",
    "train.optimizer={name: adam, lr: 0.00390625}",
    "train.batch_size=256",
    "train.clip=1.0",
    "train.engine=graph",
)


def recipe(*overrides: str) -> Recipe:
    return micro(*STUDY, *GRAPH, *overrides)


def request(store: Path, *overrides: str, **options: Any) -> Request:
    return Request(recipe(*overrides), Path("nowhere"), store, device="cpu", deterministic=True, **options)


def test_a_study_by_graph_is_that_by_dense_steps_and_survives_being_stopped_anywhere(
    tmp_path: Path, recorded: list[Recordings]
) -> None:
    list(work(prepare(request(tmp_path / "dense", "train.engine=dense"))))
    list(work(prepare(request(tmp_path / "graph"))))
    assert sum(each.replayed for each in recorded) > 100
    # the rates are numbers of float32: metrics at the end and at the early stop, masks and weights are the same bytes
    assert contents(tmp_path / "graph") == contents(tmp_path / "dense")
    stopped = request(tmp_path / "stopped", checkpoint_seconds=0)
    for steps in (5, 44, 61):
        run_until_stopped(stopped, steps)
    list(work(prepare(request(tmp_path / "stopped"))))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "graph")
    found = study(recipe(), store=tmp_path / "stopped")
    assert {engine for record in found.found.values() for engine in record.manifest.engines} == {"graph"}


def test_a_recipe_that_wants_the_graph_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.engine: graph works on a CUDA device only"):
        prepare(request(tmp_path))
