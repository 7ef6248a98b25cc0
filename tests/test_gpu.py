"""On a CUDA device: the same study, twice the same bytes, killed masks nowhere. Run with `pytest -m gpu`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from lottery.record import records
from lottery.store import Store
from lottery.work import Request, prepare, work

sys.path.insert(0, str(Path(__file__).parent))
from micro import contents, micro

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SMALL = ("seeds=1", "prune.levels=2")


@pytest.mark.parametrize("model", ["{name: lenet, widths: [24, 12], norm: batch}", "{name: conv2, norm: batch}"])
def test_two_deterministic_runs_on_a_gpu_give_the_same_bytes(tmp_path: Path, model: str) -> None:
    for name in ("a", "b"):
        request = Request(micro(40, *SMALL, f"model={model}"), Path(), tmp_path / name, "cuda", deterministic=True)
        events = list(work(prepare(request)))
        assert {event.kind for event in events} <= {"start", "progress", "done"}
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_gpu_learns_what_a_cpu_learns(tmp_path: Path, precision: str) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        recipe = micro(200, *SMALL, f"train.precision={precision}")
        bench = prepare(Request(recipe, Path(), tmp_path / device, device))
        list(work(bench))
        found = records(bench.plan, Store(tmp_path / device))
        losses[device] = [record.metrics["end"]["validation_loss"] for record in found.values()]
    mean = {device: sum(values) / len(values) for device, values in losses.items()}
    assert mean["cuda"] == pytest.approx(mean["cpu"], rel=0.15)


def test_the_step_does_not_wait_for_the_device(tmp_path: Path) -> None:
    from lottery.starts import training_of

    bench = prepare(Request(micro(40, *SMALL), Path(), tmp_path, "cuda"))
    list(work(bench))
    training = training_of(bench, next(job for job in bench.plan if job.kind == "dense"))
    x, y = next(bench.data(0).epoch(0, 32))
    training.engine.step(x, y)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.engine.step(x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
