"""Fair learning rates: the same number of trials for each optimizer, and the choice among them."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import UsageError
from lottery.seed import stream
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.recipe.schema import TuneSpec


def learning_rates(tune: TuneSpec, optimizer: Component) -> list[float]:
    """Return the rates that are tried, ascending, to four digits: over the optimizer's `rates`, else its entry's range.

    A grid is even on the log scale and holds both ends; draws are log-uniform, the first of them the same for any
    number of trials.
    """
    low, high = optimizer.args.get("rates") or default_range(optimizer)
    if tune.search == "grid":
        positions = [i / (tune.trials - 1) for i in range(tune.trials)]
    else:
        draws = random.Random(stream(tune.seeds[0], f"tune/{optimizer.name}"))
        positions = [draws.random() for _ in range(tune.trials)]
    rates = {float(f"{low * math.exp(position * math.log(high / low)):.4g}") for position in positions}
    return sorted(rates)


def default_range(optimizer: Component) -> tuple[float, float]:
    """Return the lowest and highest rate of its entry, or of the optimizer inside if that one takes the outer's rate.

    Raises:
        UsageError: The entry, one of a plugin, has no range.
    """
    traits = registry.optimizers[optimizer.name].traits
    inner = next((component for _, component in optimizer.within()), None)
    if inner is not None and not traits.inner_lr:
        return default_range(inner)
    if traits.rates is None:
        raise UsageError(f"train.optimizer: {optimizer.name} has no range of learning rates; write rates: [1e-4, 1e-1]")
    return traits.rates


def choose(trials: Sequence[tuple[float, Sequence[Mapping[str, float] | None]]], by: str) -> dict[str, Any] | None:
    """Return the best of the trials: the rate, what each was worth, and whether the best lies at the edge of the range.

    With `by` "accuracy" the highest mean accuracy (or r2) counts, and the lower mean loss among equals; with "loss" the
    lowest mean loss; at last the smaller rate.

    Args:
        trials: A rate each, with the validation measures of its seeds; None where a training diverged, which rules the
            rate out.
        by: "accuracy" or "loss".

    Returns:
        The choice, or None if every rate is ruled out.
    """
    rows, best = [], None
    for rate, measures in sorted(trials, key=lambda trial: trial[0]):
        row: dict[str, Any] = {"lr": rate, "diverged": sum(measured is None for measured in measures)}
        found = [measured for measured in measures if measured is not None]
        if len(found) == len(measures):
            row["validation_loss"] = statistics.fmean(m["validation_loss"] for m in found)
            score = next(name for name in ("validation_accuracy", "validation_r2") if name in found[0])
            row[score] = statistics.fmean(m[score] for m in found)
            rank = (-row[score], row["validation_loss"]) if by == "accuracy" else (row["validation_loss"],)
            if best is None or rank < best[0]:
                best = (rank, rate)
        rows.append(row)
    if best is None:
        return None
    edge = {rows[0]["lr"]: "lowest", rows[-1]["lr"]: "highest"}.get(best[1])
    return {"lr": best[1], "by": by, "edge": edge, "trials": rows}
