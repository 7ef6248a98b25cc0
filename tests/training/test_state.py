"""The state of an optimizer, put into another one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lottery.training.state import load_optimizer, optimizer_state


def stepped() -> torch.optim.NAdam:
    """NAdam after two steps on the CPU."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.NAdam([weight], lr=0.1)
    for _ in range(2):
        weight.grad = torch.ones(3)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("capturable", [False, True])
def test_a_counter_is_on_the_host_after_a_load_unless_steps_are_captured(capturable: bool) -> None:
    """torch leaves `step` there and moves NAdam's other one, which each step of each parameter then waits for.

    The device of tensors without values stands in for a GPU.
    """
    before = stepped()
    weight = nn.Parameter(torch.ones(3, device="meta"))
    optimizer = torch.optim.NAdam([weight], lr=0.1)
    optimizer.param_groups[0]["capturable"] = capturable
    load_optimizer(optimizer, optimizer_state(before))
    values, (kept,) = optimizer.state[weight], before.state.values()
    assert values["exp_avg"].device.type == "meta"
    assert values["mu_product"].device.type == ("meta" if capturable else "cpu")
    assert capturable or torch.equal(values["mu_product"], kept["mu_product"])
