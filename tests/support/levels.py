"""A finished level of a trunk that no training made, for what starts from one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from lottery import registry
from lottery.network.build import initialized, prunable
from lottery.pruning.amounts import Pruning
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Criterion, Weights
from lottery.pruning.start import Spec, Start
from lottery.values import Component
from tests.support.draws import generator

LENET = Component("lenet", {"widths": (16, 8)})
SPEC = Spec(Component("adam", {"lr": 0.01}), Component("constant"), first=5)
PRUNING = Pruning("layer", Fraction(1, 5), {})
INIT = Component("kaiming_normal")
EVERYWHERE = [entry for entry in registry.branches if entry.name != "planted"]  # which needs an init of its own
STATE = {"state": "of the optimizer"}


@dataclass
class FakeLevel:
    """A level whose dense network is drawn by a seed, and whose mask keeps its largest weights, a fraction of them."""

    seed: int = 0
    density: float = 0.3
    model: Component = LENET
    number: int = 2
    other: FakeLevel | None = None
    pruning: Pruning = PRUNING
    mode: str = "weights"
    init: Component = INIT
    rounds: int = 1

    def criterion(self, draws: torch.Generator) -> Criterion:
        return lambda weights, mask: {name: weights[name].abs() for name in mask}

    def network(self, model: Component, draws: torch.Generator) -> nn.Module:
        construct = int(torch.randint(2**62, (), generator=draws))
        return initialized(model, (10,), 4, self.init, construct, draws)

    def fresh(self, draws: torch.Generator) -> Weights:
        return self.network(self.model, draws).state_dict()

    @property
    def rewound(self) -> Start:
        network = self.network(self.model, generator(self.seed))
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(0.25)
        return Start(network.state_dict(), Mask.dense(prunable(network)), SPEC, STATE)

    @property
    def dense(self) -> Weights:
        """The weights have moved as far as another draw lies from the first."""
        return self.network(self.model, generator(self.seed + 1000)).state_dict()

    @property
    def trained(self) -> Weights:
        return self.mask.apply(self.dense)

    @property
    def initial(self) -> Start:
        return replace(self.rewound, spec=replace(SPEC, first=0), optimizer_state=None)

    @property
    def searched(self) -> Fraction:
        return Fraction(5, 2)

    @property
    def mask(self) -> Mask:
        start = self.rewound
        scores = {name: start.weights[name].abs() for name in start.mask}
        return keep_top(scores, start.mask, {n: math.ceil(self.density * s.numel()) for n, s in scores.items()})

    @property
    def start(self) -> Start:
        start = self.rewound
        return Start(start.weights, self.mask, start.spec, start.optimizer_state)

    @property
    def partner(self) -> FakeLevel:
        assert self.other is not None
        return self.other


def branch(name: str, level: FakeLevel, seed: int = 7, **args: Any) -> Start:
    args, problems = registry.branches[name].check(args)
    assert not problems
    start = registry.branches[name].make(level, generator(seed), **args)
    assert isinstance(start, Start)
    return start
