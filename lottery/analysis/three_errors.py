"""The three errors of a network among others of its seed, which are where the best fit to the training set is from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from lottery.landscape.decomposition import ThreeErrors, three_errors

if TYPE_CHECKING:
    from lottery.pruning.mask import Mask

Measure = Literal["loss", "error"]
MEASURES: tuple[Measure, ...] = ("loss", "error")


@dataclass(frozen=True, eq=False)
class Fit:
    """The losses and errors of a network, and what decides whose best fit it may be.

    Attributes:
        name: Which network it is, in words: `dense`, `ticket at level 2`.
        seed: Its seed.
        step: Step of its training that it was measured at.
        mask: Its survivors; None for a dense network.
        keys: Keys of the jobs that this is known from.
        values: `train_loss`, `test_loss`, `train_error`, `test_error`.
    """

    name: str
    seed: int
    step: int
    mask: Mask | None
    keys: tuple[str, ...]
    values: Mapping[str, float]

    def within(self, other: Fit) -> bool:
        """Return True if each weight that survives here survives there."""
        if other.mask is None or self.mask is None:
            return other.mask is None or other.mask.density == 1
        return self.mask <= other.mask


class ToldApart(NamedTuple):
    """The three errors of a network, and the network whose training loss (or error) is the best fit."""

    errors: ThreeErrors
    best: Fit

    @property
    def source(self) -> str:
        """Where the best fit is from, in words such as `wider: dense`."""
        kind = self.errors.source
        return kind if kind == "itself" else f"{kind}: {self.best.name}"


def told_apart(fit: Fit, others: Iterable[Fit], measure: Measure) -> ToldApart:
    """Return the three errors of a network.

    Args:
        fit: The network.
        others: Networks of the study, of which those of its seed count that have its mask and were trained at least as
            long, and those whose mask contains it.
        measure: What adds up.
    """
    name = f"train_{measure}"
    best: dict[str, Fit] = {"itself": fit}
    for other in others:
        if other is fit or other.seed != fit.seed or not fit.within(other):
            continue
        kind = "longest" if other.within(fit) else "wider"
        if math.isnan(other.values[name]) or (kind == "longest" and other.step < fit.step):
            continue
        if kind not in best or other.values[name] < best[kind].values[name]:
            best[kind] = other
    fits = {kind: other.values[name] for kind, other in best.items()}
    test = fit.values.get(f"test_{measure}", math.nan)
    errors = three_errors(fits["itself"], test, longest=fits.get("longest"), wider=fits.get("wider"))
    return ToldApart(errors, best[errors.source])
