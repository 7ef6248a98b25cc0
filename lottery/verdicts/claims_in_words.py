"""Published claims and their verdicts as they are told to a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.labels import density_label
from lottery.recipe.readings import IN_WORDS, READINGS

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.recipe.claims import ClaimSpec

_UNITS = {
    "accuracy": "accuracy, points",
    "loss": "test loss",
    "train_loss": "training loss",
    "diverged": "share of seeds that diverged, points",
    "seconds": "seconds",
    "early_stop_step": "early-stop step",
}


def compared(claim: ClaimSpec, labels: Sequence[str], unit: str) -> str:
    """Return in words what a claim compares: `ticket against dense: accuracy, points`.

    Args:
        claim: The claim.
        labels: The optimizers' labels, by which another one is named.
        unit: That of its effect, see `claim_units.unit_of`.
    """
    sides = claim.column if claim.against is None else f"{claim.column} against {claim.against}"
    if claim.analysis is not None:
        sides = str(claim.networks)
    if claim.retrained_with is not None:
        other = labels[claim.retrained_with]
        sides = f"ticket retrained with {other} against {claim.against} of {other}"
    if claim.minus is not None:
        sides += f" minus {claim.minus.networks or sides}"
        sides += "" if claim.minus.optimizer is None else f" of {labels[claim.minus.optimizer]}"
    several = claim.right is not None or claim.minus is not None
    several |= claim.analysis is None and claim.against is not None
    ratio = ", ratio" if claim.logarithmic and several else ""
    order = "" if claim.right is None else ", left over right" if claim.logarithmic else ", left minus right"
    points = ", points" if claim.analysis is not None and unit == "points" else ""
    return f"{sides}: {_measured(claim)}{points}{ratio}{order}"


def _measured(claim: ClaimSpec) -> str:
    """Return in words what a claim measures, with its unit."""
    if claim.analysis is not None:
        return f"{claim.value} of {claim.analysis}"
    if claim.reaches is not None:
        return f"{claim.measure.partition('_')[0]} to {claim.reaches.words}"
    if claim.measure == "good_values":
        return f"number of values of {claim.over} within {claim.within:g} points of the best"
    return _UNITS[claim.measure]


def claimed(claim: ClaimSpec) -> str:
    """Return in words the limits of a claim: `at least 1, at all of 2 densities`."""
    least = "" if claim.least is None else f"at least {claim.least:g}"
    most = "" if claim.most is None else f"at most {claim.most:g}"
    limits = " and ".join(filter(None, (least, most)))
    return limits if len(claim.densities) == 1 else f"{limits}, at {claim.where} of {len(claim.densities)} densities"


@dataclass(frozen=True)
class ClaimInWords:
    """A claim as it is told to a person: the verdict and a line of figures for each density."""

    text: str
    source: str
    verdict: str
    where: str  # optimizer and rewind point, where the study has several
    figures: list[str]
    rows: Sequence[Row]


def claims_in_words(table: Sequence[Row]) -> list[ClaimInWords]:
    """Return the claims of the rows of a replication, in their order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in table:
        about = (row.get("left", ""), row.get("right", ""), row["compared"], row["claimed"])
        groups.setdefault((row["claim"], *about, row["optimizer"], row["rewind"]), []).append(row)
    places = {(row["claim"], row.get("left"), row["optimizer"], row["rewind"]) for row in table}
    several = len({place[2:] for place in places if place[1] is None}) > 1
    return [
        ClaimInWords(
            mine[0]["claim"],
            mine[0]["source"],
            mine[0]["verdict"],
            f" ({mine[0]['optimizer']}, {mine[0]['rewind']})" if several and "left" not in mine[0] else "",
            _figures_in_words(mine),
            mine,
        )
        for mine in groups.values()
    ]


def _figures_in_words(mine: Sequence[Row]) -> list[str]:
    wanted = mine[0]["claim_seeds_needed"]
    points = points_in_words(mine[0])
    lines = [f"{mine[0]['compared']}{f' ({points})' if points else ''}, claimed {mine[0]['claimed']}"]
    lines[0] += f"; {wanted} seeds would decide it" if wanted is not None else ""
    for row in mine:
        figures = row["note"]
        if row["estimate"] is not None:
            figures = f"{effect(row)} {row['bounds']}, from {row['n']} seeds: {row['here']}"
            more = f"; {row['seeds_needed']} seeds would decide" if row["seeds_needed"] is not None else ""
            figures += f"{more} ({'; '.join(filter(None, (row['note'], elsewhere(row))))})"
        lines.append(f"at {density_label(row['density'])}: {figures}")
    return lines


def points_in_words(row: Row) -> str:
    """Return the points of a sweep that a row compares, `left a=1; right a=2`; empty where there is no sweep."""
    return "; ".join(f"{side} {row[side]}" for side in ("left", "right") if row.get(side))


def effect(row: Row) -> str:
    """Return the estimate of a row with its bounds, `1.2 [0.8, ?]`; empty where nothing may be said."""
    if row["estimate"] is None:
        return ""
    low, high = ("?" if row[name] is None else f"{row[name]:.4g}" for name in ("low", "high"))
    return f"{row['estimate']:.4g} [{low}, {high}]"


def elsewhere(row: Row) -> str:
    """Return in words what would be decided at the other readings, where that is something else."""
    told = []
    for reading in READINGS:
        if row.get(f"here_{reading}") not in (None, row["here"]):
            value = row[f"estimate_{reading}"]
            told.append(f"{row[f'here_{reading}']} ({'?' if value is None else f'{value:.4g}'}) {IN_WORDS[reading]}")
    return f"read otherwise: {', '.join(told)}" if told else ""


def would_change(claim: ClaimSpec, rows: Sequence[Row]) -> str:
    """Return in words what would change the verdict on a claim: other limits, more seeds, another reading.

    Args:
        claim: The claim.
        rows: Its rows, one for each density.
    """
    told = []
    if rows[0]["claim_seeds_needed"] is not None:
        told.append(f"{rows[0]['claim_seeds_needed']} seeds would decide it, if means and spreads stay")
    elif rows[0]["verdict"] == "undecided":
        told.append("no number of seeds tried would decide it")
    told += [limits_that_decide(claim, rows)] if all(row["estimate"] is not None for row in rows) else []
    read = dict.fromkeys(elsewhere(row) for row in rows)
    return "; ".join(filter(None, (*told, *read)))


def limits_that_decide(claim: ClaimSpec, rows: Sequence[Row]) -> str:
    """Return in words with which other limit a claim would hold, and with which it would fail.

    Empty for a claim with two limits, whose bounds say it.
    """
    if claim.least is not None and claim.most is not None:
        return ""
    low = [-math.inf if row["low"] is None else row["low"] for row in rows]
    high = [math.inf if row["high"] is None else row["high"] for row in rows]
    every = claim.where == "all"
    if claim.least is not None:
        holds, fails = (min(low), min(high)) if every else (max(low), max(high))
        words = (f"a limit of {holds:.3g} or less would hold", f"one above {fails:.3g} would fail")
    else:
        holds, fails = (max(high), max(low)) if every else (min(high), min(low))
        words = (f"a limit of {holds:.3g} or more would hold", f"one below {fails:.3g} would fail")
    return ", ".join(said for said, value in zip(words, (holds, fails), strict=True) if math.isfinite(value))
