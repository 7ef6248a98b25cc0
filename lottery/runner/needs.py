"""What a worker needs of its machine to take the jobs of a plan: a device, and memory at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

if TYPE_CHECKING:
    from lottery.runner.context import RunContext

Kind = Literal["cpu", "gpu", "any"]

ON_PROCESSORS, ON_GPUS = ("onednn", "sparse", "background"), ("graph",)  # of `train.engine`; the others take either
COPIES = 3  # of the weights that every training holds: they, their gradient, their mask
IN_WORDS = {"cpu": "a processor", "gpu": "a GPU", "any": "a processor or a GPU"}


@dataclass(frozen=True)
class Needs:
    """The needs of the jobs of one plan, which are the same for all that train.

    Attributes:
        device: Where they can be trained.
        least_bytes: Memory of the examples and of the weights; what a step computes between them comes on top.
    """

    device: Kind
    least_bytes: int

    def sentence(self) -> str:
        """Return the needs in words."""
        memory = f"{self.least_bytes / 1e6:,.0f} MB of memory for examples and weights"
        return f"a worker needs: {IN_WORDS[self.device]}, {memory} and what a step computes"


def needs_of(context: RunContext) -> Needs:
    """Return what a worker needs to take the jobs of a plan."""
    engine = context.plan.recipe.train.engine
    device: Kind = "cpu" if engine in ON_PROCESSORS else "gpu" if engine in ON_GPUS else "any"
    held = [each for splits in (context.splits, *context.others.values()) for each in vars(splits).values()]
    examples = sum(each.nbytes for each in held if isinstance(each, Tensor))
    weights = sum(each.nbytes for each in context.networks.blank().state_dict().values())
    return Needs(device, examples + COPIES * weights)
