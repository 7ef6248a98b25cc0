"""The control that is the ticket which there is to be found: the one that the init has planted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.branches.controls import anew
from lottery.plan.origins import in_any_mode
from lottery.registry import branches, inits

if TYPE_CHECKING:
    import torch

    from lottery.pruning.start import Level, Start


@branches.register(
    "planted",
    source="Fischer & Burkholz 2022",
    origins={"": in_any_mode("initial", "planted")},
)
def planted(level: Level, generator: torch.Generator) -> Start:
    """The planted ticket, trained from step 0: the initial weights under the mask of the teacher's connections.

    It needs the init `planted`, and has the same density at each level: ask for it at one of them, `levels: 1`. What
    it reaches is what a finder of tickets could reach at that density.
    """
    import torch

    from lottery.data.teacher import make_teacher
    from lottery.pruning.mask import Mask

    teacher = make_teacher(**inits["planted"].all_arguments(level.init.args))
    mask = {name: torch.zeros_like(bits, dtype=torch.bool) for name, bits in level.mask.items()}
    for bits, connected in zip(mask.values(), teacher.connections, strict=True):
        bits[: len(connected), : connected.shape[1]] = connected
    return anew(level, Mask(mask), level.initial.weights)
