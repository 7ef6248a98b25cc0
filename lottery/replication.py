"""Published claims held against a study: which of them hold, with figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery.errors import UsageError
from lottery.pairs import Cells, accuracies, censored, dense, densities, steps
from lottery.stats import lower_bound, t_interval, upper_bound
from lottery.tables import Place, Row, density_label, finite, optimizer_labels, paired, rewind_label

if TYPE_CHECKING:
    from lottery.sections import ClaimSpec, ReplicatesSpec
    from lottery.study import Study

Verdict = Literal["holds", "fails", "undecided"]
NEAR = 0.08  # a level stands for a density of a paper that is at most this part away from its own


@dataclass(frozen=True)
class Seen:
    """What a claim speaks of at one level: the values by seed, on the scale they are tested on."""

    level: int
    density: float
    values: Sequence[float]  # percentage points, or logarithms of ratios of steps
    censored: tuple[int, int] = (0, 0)  # trainings whose early-stop step is their last: of the column, and against it

    def judge(self, claim: ClaimSpec, confidence: float) -> Verdict:
        """Whether both limits are shown to be kept, or one to be broken, at this one-sided confidence.

        A censored step is later than it says: where the column's are, the ratio is at least what is seen, and nothing
        bounds it from above; where those against it are, the other way round."""
        least, most = (_scaled(claim, limit) for limit in (claim.least, claim.most))
        low, high = lower_bound(self.values, confidence), upper_bound(self.values, confidence)
        low, high = (-math.inf if self.censored[1] else low), (math.inf if self.censored[0] else high)
        if (least is None or low >= least) and (most is None or high <= most):
            return "holds"
        if (least is not None and high < least) or (most is not None and low > most):
            return "fails"
        return "undecided"


def rows(study: Study) -> list[Row]:
    """A row for each claim, optimizer, rewind point and density, and the verdict on the claim as a whole.

    `estimate`, `low` and `high` (two-sided t interval) are percentage points of accuracy, or ratios of early-stop
    steps; `here` is the verdict at this density alone. A claim on all of its densities holds where it holds at each
    (intersection-union), and fails where it fails at one of them at a level divided by their number (Bonferroni); a
    claim on any of them the other way round. Densities without a finished training are missing, and leave the claim
    undecided. Raises UsageError where the recipe replicates nothing."""
    recipe, replicates = study.recipe, study.recipe.replicates
    if replicates is None:
        raise UsageError(f"{recipe.name}: replicates nothing of the literature; its recipe has no `replicates`")
    labels, table = optimizer_labels(recipe.train.optimizer), list[Row]()
    known = densities(study)
    for claim in replicates.claims:
        cells = accuracies(study) if claim.measure == "accuracy" else steps(study)
        for place, label in enumerate(labels):
            for rewind in [rewind_label(r) for r in recipe.rewind if claim.rewind in (None, r.to)]:
                places = {wanted: _place(known, place, rewind, wanted) for wanted in claim.densities}
                seen = {d: _seen(study, claim, cells, at, known[at] if at else 0.0) for d, at in places.items()}
                about: Row = {"claim": claim.text, "source": f"{replicates.source}, {claim.source}"}
                about |= {"optimizer": label, "rewind": rewind, "verdict": _verdict(claim, replicates, seen)}
                for wanted, found in seen.items():
                    table.append({**about, **_row(claim, replicates, wanted, found)})
    return table


@dataclass(frozen=True)
class Judged:
    """A claim as it is told to a person: the verdict and a line of figures for each density."""

    text: str
    source: str
    verdict: str
    where: str  # optimizer and rewind point, where the study has several
    figures: list[str]


def claims(table: Sequence[Row]) -> list[Judged]:
    """The claims of the rows of a replication, in their order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row["claim"], row["optimizer"], row["rewind"]), []).append(row)
    several = len({key[1:] for key in groups}) > 1
    return [
        Judged(
            claim, mine[0]["source"], mine[0]["verdict"], f" ({optimizer}, {rewind})" if several else "", _told(mine)
        )
        for (claim, optimizer, rewind), mine in groups.items()
    ]


def _told(mine: Sequence[Row]) -> list[str]:
    lines = [f"{mine[0]['compared']}, claimed {mine[0]['claimed']}"]
    for row in mine:
        figures = "not trained yet"
        if row["estimate"] is not None:
            low, high = ("?" if row[name] is None else f"{row[name]:.4g}" for name in ("low", "high"))
            figures = f"{row['estimate']:.4g} [{low}, {high}] from {row['n']} seeds: {row['here']} ({row['note']})"
        lines.append(f"at {density_label(row['density'])}: {figures}")
    return lines


def _row(claim: ClaimSpec, replicates: ReplicatesSpec, wanted: float, seen: Seen | None) -> Row:
    compared = claim.column if claim.against is None else f"{claim.column} against {claim.against}"
    what = "accuracy, points" if claim.measure == "accuracy" else "early-stop step, ratio"
    row: Row = {"density": wanted, "level": seen.level if seen else None}
    row |= {"compared": f"{compared}: {what}", "claimed": _claimed(claim)}
    if seen is None:
        return {**row, "estimate": None, "low": None, "high": None, "n": 0, "here": "undecided", "note": "not trained"}
    interval = t_interval(seen.values, replicates.confidence)
    figures = [interval.estimate, interval.low, interval.high]
    if claim.measure == "early_stop_step":
        figures = [math.exp(figure) for figure in figures]
    notes = [f"level {seen.level} at {density_label(seen.density)}"]
    names = (claim.column, claim.against)
    notes += [f"{name} censored: {count}" for name, count in zip(names, seen.censored, strict=True) if count]
    row |= finite(dict(zip(_FIGURES, figures, strict=True)))
    return {
        **row,
        "n": len(seen.values),
        "here": seen.judge(claim, replicates.confidence),
        "note": "; ".join(notes),
    }


_FIGURES = ("estimate", "low", "high")


def _verdict(claim: ClaimSpec, replicates: ReplicatesSpec, seen: Mapping[float, Seen | None]) -> Verdict:
    found = [each for each in seen.values() if each is not None]
    strict = 1 - (1 - replicates.confidence) / len(claim.densities)
    plain = [each.judge(claim, replicates.confidence) for each in found]
    careful = [each.judge(claim, strict) for each in found]
    whole = len(found) == len(seen)
    if claim.where == "all":
        if "fails" in careful:
            return "fails"
        return "holds" if whole and set(plain) == {"holds"} else "undecided"
    if "holds" in careful:
        return "holds"
    return "fails" if whole and set(plain) == {"fails"} else "undecided"


def _claimed(claim: ClaimSpec) -> str:
    least = "" if claim.least is None else f"at least {claim.least:g}"
    most = "" if claim.most is None else f"at most {claim.most:g}"
    limits = " and ".join(filter(None, (least, most)))
    return limits if len(claim.densities) == 1 else f"{limits}, at {claim.where} of {len(claim.densities)} densities"


def _scaled(claim: ClaimSpec, limit: float | None) -> float | None:
    return limit if limit is None or claim.measure == "accuracy" else math.log(limit)


def _place(known: Mapping[Place, float], place: int, rewind: str, wanted: float) -> Place | None:
    """The level nearest to a density, None where none is near."""
    mine = {at: density for at, density in known.items() if at[:2] == (place, rewind)}
    at = min(mine, key=lambda at: abs(math.log(mine[at] / wanted)), default=None)
    return at if at is not None and abs(mine[at] / wanted - 1) <= NEAR else None


def _seen(study: Study, claim: ClaimSpec, cells: Cells, at: Place | None, density: float) -> Seen | None:
    if at is None:
        return None
    values, others = ({} if name is None else _column(cells, at, name) for name in (claim.column, claim.against))
    if claim.against is None:
        pairs = {seed: 100 * value for seed, value in values.items()}
    elif claim.measure == "accuracy":
        pairs = {seed: 100 * difference for seed, difference in paired(values, others).items()}
    else:
        both = [seed for seed in values if seed in others]
        pairs = {seed: math.log(max(1, values[seed]) / max(1, others[seed])) for seed in both}
    if not pairs:
        return None
    if claim.measure == "accuracy" or claim.against is None:
        return Seen(at[2], density, list(pairs.values()))
    ours, theirs = (len(censored(study, at, name) & set(pairs)) for name in (claim.column, claim.against))
    return Seen(at[2], density, list(pairs.values()), (ours, theirs))


def _column(cells: Cells, at: Place, name: str) -> Mapping[int, float]:
    return dense(cells, at) if name == "dense" else cells.get(at, {}).get(name, {})
