"""Supermasks: what a mask alone can do, on weights that are never trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from lottery.branches.controls import Positive, signed_constant
from lottery.origins import REWOUND, UNTRAINED, in_any_mode
from lottery.registry import branches
from lottery.spec import Component

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from lottery.trunk import Level, Start, Weights

Frozen = Literal["rewound", "constant"]
WEIGHTS = {"rewound": REWOUND, "constant": "one absolute value a layer, original signs"}  # by the key `weights`
FROZEN = {option: in_any_mode(f"{weights}, frozen", "learned") for option, weights in WEIGHTS.items()}


@branches.register(
    "supermask",
    source="Zhou et al. 2019",
    changes=("steps", "own_steps"),
    mask_alone=True,
    origins={option: in_any_mode(each, "the ticket's", UNTRAINED, "none", "0") for option, each in WEIGHTS.items()},
)
def supermask(
    level: Level, generator: torch.Generator, *, weights: Frozen = "rewound", magnitude: Positive = 1.0
) -> Start:
    """The ticket measured as it is, without a step of training.

    With `weights: constant` each weight is its sign times the standard deviation of its layer, times `magnitude`."""
    start = level.rewound
    spec = replace(start.spec, untrained=True)
    return replace(start, weights=_frozen(level, weights, magnitude), mask=level.mask, spec=spec, optimizer_state=None)


@branches.register(
    "learned_supermask",
    source="Zhou et al. 2019, section 5",
    changes=("optimizer", "learning_rate", "tuning"),
    origins=FROZEN,
    mask_alone=True,
)
def learned_supermask(
    level: Level,
    generator: torch.Generator,
    *,
    weights: Frozen = "rewound",
    magnitude: Positive = 1.0,
    evaluate: Literal["sampled", "rounded"] = "sampled",
    optimizer: Component | None = None,
) -> Start:
    """A mask learned by gradient descent on frozen weights: each weight is there with a probability that is trained.

    The scores start at 0, probability 1/2, and are trained by the recipe's optimizer or the one given: the authors
    take momentum with learning rates of about 100. They evaluate masks that are drawn; here `sampled` is one draw for
    the whole training, so that its curve and its density are those of one mask at each step, and `rounded` keeps what
    has a probability above 1/2. Biases and normalizations are frozen as well; density is what the mask ends with, not
    the ticket's."""
    import torch

    draws = {name: torch.rand(bits.shape, generator=generator) for name, bits in level.mask.items()}

    def make(name: str, weight: Tensor) -> nn.Module:
        from lottery.branches._learned import Bernoulli

        return Bernoulli(draws[name] if evaluate == "sampled" else torch.full(weight.shape, 0.5))

    return _molded(level, _frozen(level, weights, magnitude), make, optimizer)


@branches.register(
    "edge_popup",
    source="Ramanujan et al. 2020",
    changes=("optimizer", "learning_rate", "tuning"),
    origins=FROZEN,
    mask_alone=True,
)
def edge_popup(
    level: Level,
    generator: torch.Generator,
    *,
    weights: Frozen = "rewound",
    magnitude: Positive = 1.0,
    optimizer: Component | None = None,
) -> Start:
    """A mask of the ticket's layer densities learned on frozen weights: the largest absolute scores pop up.

    The scores are trained by the recipe's optimizer or the one given. Biases and normalizations are frozen as well."""
    from lottery.branches._learned import EdgePopup, kaiming_scores

    counts = level.mask.alive()
    scores = {name: kaiming_scores(bits, generator) for name, bits in level.mask.items()}
    return _molded(
        level,
        _frozen(level, weights, magnitude),
        lambda name, weight: EdgePopup(scores[name].clone(), counts[name]),
        optimizer,
    )


def _frozen(level: Level, weights: Frozen, magnitude: float) -> Weights:
    return level.rewound.weights if weights == "rewound" else signed_constant(level, magnitude)


def _molded(
    level: Level, weights: Weights, make: Callable[[str, Tensor], nn.Module], optimizer: Component | None
) -> Start:
    """A full training, from step 0, of the scores that `make` puts on each layer."""
    from lottery.branches._learned import learn_masks
    from lottery.mask import Mask

    start = level.rewound
    spec = replace(start.spec, first=0, optimizer=optimizer or start.spec.optimizer)
    return replace(
        start,
        weights=weights,
        mask=Mask.dense(level.mask),
        spec=spec,
        optimizer_state=None,
        mold=lambda model: learn_masks(model, make),
    )
