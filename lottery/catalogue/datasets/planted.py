"""Targets of a sparse network, whose mask is the ticket that there is to be found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.errors import UsageError
from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits

Size = Annotated[int, Field(strict=True, ge=1, le=1024)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=20)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


@datasets.register("planted", computed_by=(), source="Fischer & Burkholz 2022")
def planted(
    root: Path,
    *,
    inputs: Size = 20,
    widths: Sizes = (8, 8),
    outputs: Size = 4,
    fan_in: Size = 3,
    seed: Seed = 0,
    samples: Annotated[int, Field(strict=True, ge=50, le=1_000_000)] = 5000,
) -> Splits:
    """Outputs of a sparse teacher for normal inputs: a regression that a known mask solves.

    The teacher is a network of rectifiers with hidden layers of `widths`, `fan_in` connections into each unit and no
    biases, drawn by the `seed`; four fifths of the `samples` are for training. With the init `planted` of the same keys
    the teacher's connections are in the student's initialization.

    Raises:
        UsageError: The widths and `fan_in` do not go together.
    """
    import torch

    from lottery.data.splits import Splits
    from lottery.data.teacher import make_teacher
    from lottery.seed import generator

    try:
        teacher = make_teacher(inputs, widths, outputs, fan_in, seed)
    except UsageError as error:
        raise UsageError(f"data.{error}") from error
    x = torch.randn(samples, inputs, generator=generator(seed, "planted"))
    y, count = teacher(x).float(), samples * 4 // 5
    return Splits(x[:count], y[:count], x[count:], y[count:], classes=outputs)
