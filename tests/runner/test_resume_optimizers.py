"""A study with each optimizer, stopped and continued: to the same bytes. Run with `pytest -m slow` or `-m gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from tests.support.entries import OPTIMIZERS, arguments, refuses
from tests.support.restarts import contents, full_recipe, run_until_stopped


def stopped_and_continued(folder: Path, name: str, device: str) -> bool:
    """Whether a study with this optimizer that is stopped gives the bytes of the uninterrupted one."""
    inner = ", optimizer: momentum" if "optimizer" in arguments(name) else ""
    whole = ", batch_size: all" if refuses(name, "batch_size") else ""
    optimizer = f"{{name: {name}, lr: {arguments(name)['lr']}{inner}{whole}}}"
    recipe = full_recipe(
        12,
        "seeds=1",
        "prune.levels=2",
        f"train.optimizer={optimizer}",
        "train.clip=null",
        "rewind=3it",
        "train.schedule=cosine",
    )
    straight, parts = (
        Request(recipe, Path(), folder / place, device, deterministic=True, checkpoint_seconds=0)
        for place in ("straight", "parts")
    )
    list(work(prepare(straight)))
    run_until_stopped(parts, 17)
    list(work(prepare(parts)))
    return contents(folder / "straight") == contents(folder / "parts")


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_stopped_on_a_cpu_continues_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    assert stopped_and_continued(tmp_path, name, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_stopped_on_a_gpu_continues_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    assert stopped_and_continued(tmp_path, name, "cuda")
