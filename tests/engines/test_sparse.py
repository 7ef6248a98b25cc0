"""The sparse engine: the dense one's steps within rounding, at a cost that follows the density."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from torch import nn

from lottery.analysis.accuracy import means
from lottery.analysis.engines import how_computed
from lottery.audit.audit import audit
from lottery.catalogue.models._perceptron import Perceptron
from lottery.device import Machine
from lottery.engines.choices import COMPILED_FOR
from lottery.engines.choose import LEAST_STEPS, engine_for
from lottery.engines.compiled.background import BackgroundEngine
from lottery.engines.compiled.base import stoppable
from lottery.engines.compiled.sparse import STRETCH, SparseEngine, by_source, compressed
from lottery.engines.support import unsupported
from lottery.errors import MachineError, UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.schema import Recipe
from lottery.results.study import study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective
from lottery.training.trainer import Stopped
from tests.support import ROOT
from tests.support.micro import micro
from tests.support.perceptrons import (
    CLASSES,
    INPUTS,
    OPTIMIZERS,
    STUDY,
    assert_as_close_as_dense_steps,
    batch,
    mask_of,
    network,
    values,
)
from tests.support.restarts import contents, run_until_stopped


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_sparse_steps_are_as_close_to_double_precision_as_dense_ones(
    optimizer: str, residual: bool, threads: int
) -> None:
    dense, sparse = network(optimizer, residual), network(optimizer, residual)
    exact = network(optimizer, residual, torch.float64)
    mask = mask_of(dense[0])
    with masked(dense[0], mask, dense[1]), masked(sparse[0], mask, sparse[1]), masked(exact[0], mask, exact[1]):
        engine = SparseEngine(sparse[2], sparse[1], mask, threads)
        assert_as_close_as_dense_steps(engine, sparse, dense, exact, batch)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_flushed_and_loaded_again_an_engine_goes_on_to_the_same_bits(optimizer: str) -> None:
    whole, broken = network(optimizer, True), network(optimizer, True)
    mask = mask_of(whole[0])
    engines = []
    for trained in (whole, broken):
        with masked(trained[0], mask, trained[1]):
            engine = SparseEngine(trained[2], trained[1], mask, 1)
            for step in range(12):
                engine.step(*batch(step))
                if trained is broken and step in (0, 6):
                    engine.flush()
                    engine = SparseEngine(trained[2], trained[1], mask, 1)
            engine.flush()
        engines.append(values(trained))
    assert all(torch.equal(one, other) for one, other in zip(*engines, strict=True))


def test_torch_keeps_its_number_of_threads() -> None:
    """In a process of its own: only the first use of numba's threads changes it."""
    program = """
import torch
torch.set_num_threads(1)
from lottery.engines.compiled.sparse import SparseEngine
from tests.support.perceptrons import batch, mask_of, network
model, optimizer, objective = network("sgd", False)
engine = SparseEngine(objective, optimizer, mask_of(model), 1)
engine.step(*batch(1))
assert torch.get_num_threads() == 1, torch.get_num_threads()
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_compilation_ends_when_it_is_told_to_and_can_begin_again() -> None:
    looks = iter([False] * 5 + [True])
    compiled = numba.njit(lambda x: x + 1)
    with pytest.raises(Stopped), stoppable(lambda: next(looks)):
        compiled(1)
    with stoppable(lambda: False):
        assert compiled(1) == 2
    assert numba.njit(lambda x: x - 1)(1) == 0  # nobody looks any more


@pytest.mark.parametrize("inputs", [5, 3 * STRETCH])
def test_compressed_rows_are_those_of_scipy(inputs: int) -> None:
    from scipy.sparse import csr_array

    draws = torch.Generator().manual_seed(0)
    alive = [(torch.rand(shape, generator=draws) < 0.4).numpy() for shape in ((6, inputs), (4, 6), (3, 4))]
    (first, parts, owners, starts, units), rows, kept = compressed(alive)
    whole = torch.zeros(13, inputs + 13, dtype=torch.bool).numpy()  # a row a unit, a column a unit below
    for bits, row, column in zip(alive, (0, 6, 10), (0, inputs, inputs + 6), strict=True):
        whole[row : row + bits.shape[0], column : column + bits.shape[1]] = bits
    assert first.tolist() == [0, 6, 10, 13]
    assert len(owners) == parts[-1] and starts[-1] == len(units) and parts[1] == (5 if inputs == 5 else 18)
    for layer in range(3):
        of_layer = owners[parts[layer] : parts[layer + 1]]
        assert first[layer] <= of_layer.min() and of_layer.max() < first[layer + 1]
    assert rows.tolist() == owners.repeat(starts[1:] - starts[:-1]).tolist()
    assert csr_array((units >= 0, (rows, units)), shape=whole.shape).toarray().tolist() == whole.tolist()
    for segment in range(len(owners)):  # neighbours come from one stretch, in order
        of_segment = units[starts[segment] : starts[segment + 1]]
        assert (of_segment[1:] > of_segment[:-1]).all() and of_segment[-1] - of_segment[0] <= STRETCH
    tptr, trows, tplaces = by_source(units, rows, inputs, inputs, 10)
    columns = csr_array(whole[:, inputs : inputs + 10].T)
    assert tptr.tolist() == columns.indptr.tolist()
    assert all(units[place] == inputs + unit for unit in range(10) for place in tplaces[tptr[unit] : tptr[unit + 1]])
    assert (rows[tplaces] + inputs).tolist() == trows.tolist()
    lengths = [int(bits.sum()) for bits in alive]
    for bits, places in zip(alive, kept, strict=True):
        assert sorted(places) == bits.reshape(-1).nonzero()[0].tolist()
    assert [len(places) for places in kept] == lengths
    (places, *_), width = kept, alive[0].shape[1]
    assert (places // width).tolist() == rows[: lengths[0]].tolist()
    assert (places % width).tolist() == units[: lengths[0]].tolist()


@pytest.mark.parametrize("pruned", [("fc2.weight",), ("fc1.weight", "fc2.weight", "output.weight")])
@pytest.mark.parametrize("kind", ["sparse", "background"])
def test_a_layer_without_weights_trains_its_biases_as_the_dense_engine_does(kind: str, pruned: tuple[str, ...]) -> None:
    ends = []
    for name in (kind, "dense"):
        trained = network("momentum", False)
        mask = mask_of(trained[0])
        mask = Mask({each: mask[each] & (each not in pruned) for each in mask})
        with masked(trained[0], mask, trained[1]):
            about = trained[2], trained[1], mask, 2
            engine: Any = DenseEngine(trained[2], trained[1])
            if name != "dense":
                engine = SparseEngine(*about) if name == "sparse" else BackgroundEngine(*about, torch.zeros(INPUTS))
            for step in range(5):
                engine.step(*batch(step))
            engine.flush()
            ends.append([*values(trained), engine.outputs(batch(9)[0])])
    for here, there in zip(*ends, strict=True):
        assert torch.allclose(here, there, atol=1e-6)


def test_a_training_that_diverges_shows_it() -> None:
    trained = network("sgd", False)
    trained[1].param_groups[0]["lr"] = 1e20
    mask = mask_of(trained[0])
    with masked(trained[0], mask, trained[1]):
        engine = SparseEngine(trained[2], trained[1], mask, 1)
        losses = [engine.step(*batch(step)).item() for step in range(8)]
    assert not math.isfinite(losses[-1])


def test_what_the_engine_cannot_train_is_told() -> None:
    model, optimizer, objective = network("adam", False)
    assert unsupported(objective, optimizer) is None
    assert "optimizers" in str(unsupported(objective, torch.optim.RMSprop(model.parameters())))
    amsgrad = torch.optim.Adam(model.parameters(), amsgrad=True)
    assert "optimizers" in str(unsupported(objective, amsgrad))
    groups = torch.optim.SGD([{"params": [p], "lr": 0.1} for p in model.parameters()])
    assert "optimizers" in str(unsupported(objective, groups))
    for name, value in (("clip", 1.0), ("accumulate", 2), ("precision", "bf16")):
        assert (
            f"train.{name}" in str(unsupported(network("adam", False, **dict[str, Any]({name: value}))[2], optimizer))
            or value
        )
    double = network("adam", False, torch.float64)
    assert "float32" in str(unsupported(double[2], double[1]))
    squares = Objective(model, nn.MSELoss(), lambda: iter(()), steps_per_epoch=1)
    assert "loss" in str(unsupported(squares, optimizer))
    for norm, activation, dropout in (("batch", "relu", 0.0), ("none", "tanh", 0.0), ("none", "relu", 0.5)):
        other = Perceptron((INPUTS,), CLASSES, (8,), norm, activation, dropout, False)
        assert "rectifiers" in str(
            unsupported(Objective(other, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1), optimizer)
        )
    convolution = Objective(nn.Conv2d(1, 1, 3), nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    assert "fully connected" in str(unsupported(convolution, optimizer))


def wide(density: float, deterministic: bool, wanted: Any, steps: int = COMPILED_FOR) -> str:
    """The engine taken for a network on which the sparse one is faster by far where the density is low."""
    model = Perceptron((800,), 10, (800,), "none", "relu", 0.0, False)
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    mask = Mask({"fc1.weight": torch.rand(800, 800, generator=torch.Generator().manual_seed(0)) < density})
    batches = [(torch.randn(128, 800), torch.randint(10, (128,))) for _ in range(8)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    machine = Machine(torch.device("cpu"), 1, deterministic)
    engine = engine_for(objective, optimizer, mask, wanted, machine, lambda: batches, steps=steps)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimizer.state
    return engine.name


@pytest.mark.parametrize(("sparse", "taken"), [(0.9, "sparse"), (1.1, "dense")])
def test_auto_takes_the_engine_that_a_measurement_shows_to_be_faster(
    step_seconds: dict[str, float], sparse: float, taken: str
) -> None:
    step_seconds |= {"dense": 1.0, "onednn": 1.0, "sparse": sparse}
    assert wide(0.5, False, "auto") == taken


@pytest.mark.slow
def test_sparse_steps_are_faster_where_nearly_all_is_pruned() -> None:
    assert wide(0.01, False, "auto") == "sparse"  # where nothing is pruned it depends on the processor


def test_auto_takes_no_clock_where_bytes_must_come_out_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock() -> float:
        raise AssertionError("a clock was read")

    monkeypatch.setattr(time, "perf_counter", clock)
    assert wide(0.49, True, "auto") == "sparse"
    assert wide(0.52, True, "auto") == "dense"
    assert wide(0.29, True, "auto", steps=LEAST_STEPS - 1) == "dense"


def test_without_numba_auto_is_dense_with_a_warning_and_sparse_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lottery.engines.compiled.sparse", None)  # importing it is an ImportError
    for deterministic in (False, True):
        with pytest.warns(UserWarning, match="numba cannot work here.*dense steps"):
            assert wide(0.01, deterministic, "auto") == "dense"
    with pytest.raises(MachineError, match="NUMBA_CACHE_DIR"):
        wide(0.01, True, "sparse")


def test_the_recipe_may_name_the_engine() -> None:
    assert wide(0.01, False, "dense") == "dense"
    assert wide(0.99, False, "sparse", steps=1) == "sparse"


def recipe(*overrides: str) -> Recipe:
    return micro(*STUDY, "train.label_smoothing=0.1", "train.engine=sparse", *overrides)


def run(store: Path, *overrides: str) -> None:
    list(work(prepare(Request(recipe(*overrides), Path("nowhere"), store, device="cpu", deterministic=True))))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sparse")
    run(store)
    return store


def test_a_sparse_study_stopped_anywhere_continues_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    request = Request(recipe(), Path("nowhere"), tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (1, 37, 18, 44, 61, 90):
        run_until_stopped(request, steps)
    run(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_records_and_tables_name_the_engine(finished: Path) -> None:
    found = study(recipe(), store=finished)
    engines = {(record.job.kind, *record.manifest.engines) for record in found.found.values()}
    assert engines == {("dense", "dense"), ("ticket", "sparse"), ("branch", "sparse")}
    for row in means(found):
        assert "mixed" not in row["note"] and "engine" not in row["note"]
    (told,) = how_computed(found)
    assert told.startswith("Engines: dense at a density of 100 %, sparse below.")
    assert {cell: why for cell, why in audit(found).withheld().items() if any("engine" in each for each in why)} == {}


def test_the_engine_is_not_part_of_the_key_and_accuracies_agree(finished: Path, tmp_path: Path) -> None:
    run(tmp_path, "train.engine=dense")
    sparse, dense = (study(recipe(), store=store) for store in (finished, tmp_path))
    assert sparse.found.keys() == dense.found.keys()
    for key, record in sparse.found.items():
        curves = [json.loads(Store(store).read(key, "metrics.json"))["curve"] for store in (finished, tmp_path)]
        assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]]
        losses = [[row["validation_loss"] for row in curve] for curve in curves]
        exact = record.job.kind == "dense"
        assert losses[0] == losses[1] if exact else losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_network_that_the_engine_cannot_train_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train.engine: sparse .*rectifiers.*write auto"):
        run(tmp_path, "model.norm=batch")
