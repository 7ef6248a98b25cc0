"""Published claims and their verdicts as they are told to a person."""

from __future__ import annotations

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


def compared(claim: ClaimSpec, labels: Sequence[str]) -> str:
    """Return in words what a claim compares: `ticket against dense: accuracy, points`.

    Args:
        claim: The claim.
        labels: The optimizers' labels, by which another one is named.
    """
    sides = claim.column if claim.against is None else f"{claim.column} against {claim.against}"
    if claim.analysis is not None:
        sides = str(claim.networks)
    if claim.minus is not None:
        sides += f" minus {claim.minus.networks or sides}"
        sides += "" if claim.minus.optimizer is None else f" of {labels[claim.minus.optimizer]}"
    several = claim.right is not None or claim.minus is not None
    several |= claim.analysis is None and claim.against is not None
    ratio = ", ratio" if claim.logarithmic and several else ""
    order = "" if claim.right is None else ", left over right" if claim.logarithmic else ", left minus right"
    return f"{sides}: {_measured(claim)}{ratio}{order}"


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


def claims_in_words(table: Sequence[Row]) -> list[ClaimInWords]:
    """Return the claims of the rows of a replication, in their order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row["claim"], row["optimizer"], row["rewind"]), []).append(row)
    several = len({key[1:] for key in groups}) > 1
    return [
        ClaimInWords(
            claim,
            mine[0]["source"],
            mine[0]["verdict"],
            f" ({optimizer}, {rewind})" if several else "",
            _figures_in_words(mine),
        )
        for (claim, optimizer, rewind), mine in groups.items()
    ]


def _figures_in_words(mine: Sequence[Row]) -> list[str]:
    wanted = mine[0]["claim_seeds_needed"]
    points = "; ".join(f"{side} {mine[0][side]}" for side in ("left", "right") if mine[0].get(side))
    lines = [f"{mine[0]['compared']}{f' ({points})' if points else ''}, claimed {mine[0]['claimed']}"]
    lines[0] += f"; {wanted} seeds would decide it" if wanted is not None else ""
    for row in mine:
        figures = row["note"]
        if row["estimate"] is not None:
            low, high = ("?" if row[name] is None else f"{row[name]:.4g}" for name in ("low", "high"))
            figures = f"{row['estimate']:.4g} [{low}, {high}] {row['bounds']}, from {row['n']} seeds: {row['here']}"
            more = f"; {row['seeds_needed']} seeds would decide" if row["seeds_needed"] is not None else ""
            figures += f"{more} ({'; '.join(filter(None, (row['note'], _elsewhere(row))))})"
        lines.append(f"at {density_label(row['density'])}: {figures}")
    return lines


def _elsewhere(row: Row) -> str:
    """Return in words what would be decided at the other readings, where that is something else."""
    there = [reading for reading in READINGS if row.get(f"here_{reading}") not in (None, row["here"])]
    told = [f"{row[f'here_{reading}']} ({row[f'estimate_{reading}']:.4g}) {IN_WORDS[reading]}" for reading in there]
    return f"read otherwise: {', '.join(told)}" if told else ""
