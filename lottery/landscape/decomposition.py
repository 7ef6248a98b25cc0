"""A network's test loss as the sum of three errors: of representation, of optimization and of generalization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ThreeErrors:
    """The three errors of a network, whose sum is its test loss (or error).

    Attributes:
        representation: The best fit found to the training set. It is an estimate of the lowest training loss that the
            architecture can have, and no bound on its own: that of a much wider network may be out of this one's reach
            (then it is too low), that of the longest training of this one may not be its lowest (then it is too high).
        optimization: Training loss less the best fit found: what training left. It is a lower estimate as far as a
            better fit of this network exists and was not found, an upper one where the fit is a wider network's.
        generalization: Test loss less training loss. It estimates the gap of expected and training loss, with the
            sampling error of the test set; it is negative where the test set is easier, or training is made harder.
        source: Where the best fit comes from: a `wider` network, a training of this one that is at least as long
            (`longest`), or `itself`.
    """

    representation: float
    optimization: float
    generalization: float
    source: Literal["wider", "longest", "itself"]


def three_errors(train: float, test: float, *, longest: float | None = None, wider: float | None = None) -> ThreeErrors:
    """Return the three errors of a network from measured losses, or from errors: one kind for all.

    Losses are those of evaluation, without dropout, augmentation and label smoothing. The best fit is the lowest of
    the training losses; a network that fits best itself has no optimization error. Another's
    NaN is passed over; where the network's own is NaN all three are.

    Args:
        train: Training loss of the network.
        test: Its test loss.
        longest: Lowest training loss of the trainings of the same architecture that are at least as long, the longest
            among them; None if there is none.
        wider: Lowest training loss of a much wider network; None if there is none.
    """
    fits: dict[Literal["wider", "longest", "itself"], float] = {"itself": train}
    if longest is not None and not math.isnan(longest):
        fits["longest"] = longest
    if wider is not None and not math.isnan(wider):
        fits["wider"] = wider
    if math.isnan(train):  # a diverged network has no errors to tell apart
        return ThreeErrors(train, train, train, "itself")
    source = min(fits, key=lambda name: fits[name])
    return ThreeErrors(fits[source], train - fits[source], test - train, source)
