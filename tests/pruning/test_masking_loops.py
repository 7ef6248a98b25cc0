"""Masks beside what training loops have: pruned weights stay exactly zero, and survivors are trained."""

from __future__ import annotations

import copy
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import lottery
from lottery.pruning.mask import Mask
from tests.support import ROOT


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))


def batch(step: int) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=draws), torch.randint(4, (8,), generator=draws)


def zero(model: nn.Module, mask: Mask) -> bool:
    """Whether each pruned weight is exactly zero."""
    state = model.state_dict()
    return all(not state[name][~alive].any() for name, alive in mask.items())


def loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    dtype: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    average: AveragedModel | None = None,
    overflow: int | None = None,
) -> None:
    """A loop as others write it: two batches a step, autocast, a scaler, clipping, an average of weights."""
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    for step in steps:
        optimizer.zero_grad()
        for part in (0, 1):
            x, y = batch(2 * step + part)
            with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                loss = nn.functional.cross_entropy(model(x), y) / 2
            if step == overflow:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        if average is not None:
            average.update_parameters(model)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["AdamW", "SGD", "fused"])
def test_pruned_weights_stay_zero_through_mixed_precision_a_scaler_clipping_and_accumulation(
    dtype: torch.dtype | None, kind: str
) -> None:
    model = network()
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        if kind == "SGD"
        else torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1, fused=kind == "fused")
    )
    loop(model, optimizer, range(5))  # so that there are momenta of what will be pruned
    mask = lottery.prune(model, 0.7, "global")
    before = model[2].weight.detach().clone()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype is torch.float16)
    with lottery.masked(model, mask, optimizer):
        loop(model, optimizer, range(5, 20), dtype, scaler)
        assert zero(model, mask)
        for weight, alive in ((model[0].weight, mask["0.weight"]), (model[2].weight, mask["2.weight"])):
            kept = [each for each in optimizer.state[weight].values() if each.shape == weight.shape]
            assert kept and all(not each[~alive].any() for each in kept)
    assert zero(model, mask) and not torch.equal(model[2].weight[mask["2.weight"]], before[mask["2.weight"]])


def test_a_step_that_a_scaler_leaves_out_for_an_overflow_changes_no_weight_and_leaves_no_nan() -> None:
    model = network()
    mask = lottery.prune(model, 0.7, "global")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with lottery.masked(model, mask, optimizer):
        loop(model, optimizer, range(3), torch.float16, scaler)
        state = deepcopy(model.state_dict())
        loop(model, optimizer, range(3, 4), torch.float16, scaler, overflow=3)
        assert scaler.get_scale() == 512.0
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        loop(model, optimizer, range(4, 8), torch.float16, scaler)
    assert zero(model, mask) and all(bool(p.isfinite().all()) for p in model.parameters())


def test_an_average_that_begins_under_the_mask_has_zeros_and_one_from_before_does_not_until_it_is_applied() -> None:
    model = network()
    early = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    mask = lottery.prune(model, 0.7, "global")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with lottery.masked(model, mask, optimizer):
        late = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        loop(model, optimizer, range(5), average=late)
        loop(model, optimizer, range(5, 10), average=early)
    assert zero(late.module, mask)
    early.update_parameters(model)
    early.load_state_dict(mask.apply(early.state_dict()))
    assert zero(early.module, mask)


def test_a_training_goes_on_from_its_checkpoint_under_the_mask_bit_for_bit() -> None:
    def begun() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = network()
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    mask = lottery.prune(network(), 0.7, "global")
    whole, optimizer = begun()
    with lottery.masked(whole, mask, optimizer):
        loop(whole, optimizer, range(4))
        saved = deepcopy({"model": whole.state_dict(), "optimizer": optimizer.state_dict()})
        loop(whole, optimizer, range(4, 9))
    resumed, optimizer = begun()
    resumed.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    with lottery.masked(resumed, mask, optimizer):
        loop(resumed, optimizer, range(4, 9))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_loop_of_the_docstring_of_prune_is_iterative_pruning_with_rewinding() -> None:
    model = network()
    start, mask = deepcopy(model.state_dict()), None
    for level in range(3):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with lottery.masked(model, mask or Mask({}), optimizer):
            loop(model, optimizer, range(4))
        new = lottery.prune(model, 0.2, "global", mask=mask)
        assert mask is None or new <= mask, level
        mask = new
        model.load_state_dict(start)
    assert mask is not None and sum(mask.alive().values()) == 82  # 160, 128, 102 (102.4), 82 (81.6)
    assert torch.equal(model[0].weight, start["0.weight"])


def test_the_code_of_the_page_on_own_loops_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "own_loop.md").read_text(), re.M | re.S)
    blocks = [block for block in blocks if "Callback" not in block and "accelerator" not in block]
    assert len(blocks) == 4
    model = network()

    def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    known: dict[str, Any] = {
        "copy": copy,
        "model": model,
        "optimizer": make_optimizer(model),
        "make_optimizer": make_optimizer,
        "train": lambda model, optimizer: loop(model, optimizer, range(2)),
        "sparse_weights": {"0.weight": torch.tensor([[0.0, 2.0]])},
    }
    exec(blocks[0], known)
    assert repr(known["mask"]) == "Mask: 20.0 % of 160 weights" and zero(model, known["mask"])
    exec(blocks[1], known)
    assert sum(known["mask"].alive().values()) == 18  # of 128, 102, 82, 66, 53, 42, 34, 27, 22
    assert zero(model, known["mask"]) and not torch.equal(model[0].weight, known["start"]["0.weight"])  # trained last
    whole = known["mask"]
    exec(blocks[3], known)
    assert known["mask"] == whole
    known["model"] = held = network()
    prune.custom_from_mask(held[0], "weight", whole["0.weight"])
    exec(blocks[2], known)
    assert known["mask"] == whole.of(["0.weight"])


def test_weights_that_are_not_trained_are_pruned_and_stay_so() -> None:
    model = network()
    model[0].requires_grad_(False)
    mask = lottery.prune(model, 0.5)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    frozen = model[0].weight.detach().clone()
    with lottery.masked(model, mask, optimizer):
        loop(model, optimizer, range(3))
    assert zero(model, mask) and torch.equal(model[0].weight, frozen * mask["0.weight"])


def test_a_held_mask_is_tightened_and_never_loosened() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mask = lottery.prune(model, 0.5)
    with lottery.masked(model, mask, optimizer) as held:
        loop(model, optimizer, range(3))
        assert repr(held) == "HeldMask: 50.0 % of 160 weights of Sequential"
        held.tighten(lottery.prune(model, 0.5, mask=mask))
        loop(model, optimizer, range(3, 6))
        with pytest.raises(lottery.errors.UsageError, match="tighten: this mask revives weights that are pruned"):
            held.tighten(mask)
        assert held.mask.density == 0.25
    assert zero(model, held.mask)
