"""Several studies side by side at each density, each study tested against the first one, paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.accuracy import means_of
from lottery.analysis.cells import (
    CellKey,
    accuracies,
    densities,
    differences_by_seed,
    diverged,
    floor,
    records_by_cell,
)
from lottery.analysis.columns import DIFFERENCE, SEEDS, STUDY, Column, interval, p_values
from lottery.analysis.labels import density_label, finite, optimizer_labels
from lottery.analysis.rows import Row, Values, with_equal_columns
from lottery.audit.audit import audit
from lottery.audit.findings import listed_seeds
from lottery.environment import PLUGIN, mixed
from lottery.errors import UsageError
from lottery.statistics import paired
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study

TOLERANCE = 0.01  # of a density: further apart, two levels do not meet
Named = Sequence[tuple[str, "Study"]]  # studies with their labels


@dataclass(frozen=True, eq=False)
class Side:
    """A network of one study at one level.

    Attributes:
        label: The label of the study.
        study: The study.
        cell: The cell.
        network: `dense`, `ticket` or a control's label.
    """

    label: str
    study: Study
    cell: CellKey
    network: str

    @property
    def values(self) -> Mapping[int, float]:
        """Accuracies by seed, as fractions."""
        return accuracies(self.study).get(self.cell, {}).get(self.network, {})

    @property
    def records(self) -> list[Record]:
        """The finished trainings."""
        found = records_by_cell(self.study).get(self.cell, {}).get(self.network, ())
        return [record for _, record in found if record is not None]

    @property
    def density(self) -> float:
        """The density, a fraction; 1 for the dense network."""
        return densities(self.study).get(self.cell, 1.0) if self.cell[2] else 1.0


@dataclass(frozen=True)
class Comparison:
    """Two sides, paired by seed.

    Attributes:
        differences: Differences of accuracy by seed, as fractions: the first side less the second.
        p: p-value of the two-sided paired t test; 1 where a side diverged in a seed in which the other did not.
        lost: Numbers of seeds in which only the first side, and only the second, diverged.
        withheld: Reasons why nothing is claimed.
        unpaired: Seeds that one side has alone.
        same: True if both sides are the same trainings.
    """

    differences: Mapping[int, float]
    p: float
    lost: tuple[int, int]
    withheld: tuple[str, ...]
    unpaired: frozenset[int]
    same: bool


def compare(one: Side, other: Side) -> Comparison:
    """Compare two sides of the same or of two studies over the seeds that both have."""
    ours, theirs = one.values, other.values
    found = differences_by_seed(ours, theirs)
    lost = (
        len(diverged(one.records) & theirs.keys()),
        len(diverged(other.records) & ours.keys()),
    )
    least = max(floor(one.study), floor(other.study))
    p = 1.0 if any(lost) else paired.t_pvalue(list(found.values()), 0.0, "two-sided", least)
    keys = [{record.job.key for record in side.records} for side in (one, other)]
    unpaired = frozenset(ours.keys() ^ theirs.keys())
    return Comparison(found, p, lost, tuple(_withheld(one, other)), unpaired, bool(keys[0]) and keys[0] == keys[1])


def confidence_of(named: Named) -> float:
    """Return the highest confidence that a recipe declares under `compare`, or 0.95."""
    declared = [study.recipe.compare.confidence for _, study in named if study.recipe.compare is not None]
    return max(declared, default=0.95)


def sides(named: Named, network: str) -> dict[tuple[str, str], dict[str, list[Side]]]:
    """Return the sides that can meet, by what they have in common: optimizer and rewind point, then by study.

    Where no study has several optimizers they meet whatever their optimizers are, as these are what the studies differ
    in then; the same holds for rewind points.

    Raises:
        UsageError: No study has such a network.
    """
    several = any(len(study.recipe.train.optimizer) > 1 for _, study in named)
    many = any(len(study.recipe.rewind) > 1 for _, study in named)
    made: dict[tuple[str, str], dict[str, list[Side]]] = {}
    known: dict[str, None] = {}
    for label, study in named:
        names = optimizer_labels(study.recipe.train.optimizer)
        for cell, columns in records_by_cell(study).items():
            known |= dict.fromkeys(columns)
            if network in columns:
                place = names[cell[0]] if several else "", cell[1] if many else ""
                made.setdefault(place, {}).setdefault(label, []).append(Side(label, study, cell, network))
    if network not in known:
        raise UsageError(f"--network {network}: there are {', '.join(known)}")
    return made


def meeting(first: Sequence[Side], others: Sequence[Side]) -> dict[Side, Side]:
    """Return of each of `others` the one of `first` of the same density: each the other's nearest within TOLERANCE."""
    found = {}
    for side in others:
        nearest = _nearest(side, first)
        if nearest is not None and _nearest(nearest, others) == side:
            found[side] = nearest
    return found


def rows(named: Named, network: str = "ticket") -> list[Row]:
    """Return a row for each study, optimizer, rewind point and density; those of one density stand side by side.

    The columns are those of `means` of the dense network and of `network`, with `study` in front. At the end, for each
    study but the first, stands the comparison of its `network` with the first study's of the same density: `difference`
    is the mean over the `n` seeds that both have of its accuracy less the first one's, a fraction, with its two-sided t
    interval (`low`, `high`); `p` that of the two-sided paired t test that they do not differ, `p_adjusted` by Holm's
    procedure over all comparisons of the table; `verdict` superior, inferior, inconclusive, or withheld where an audit
    found something or environments are mixed. `test` says this in words, `note` what else a reader must know.

    Raises:
        UsageError: No study has such a network, or a study has no density of the first one.
    """
    groups = _groups(named, network)
    compared = {side: compare(side, other) for group in groups for side, other in group if other is not None}
    adjusted = dict(zip(compared, paired.holm([each.p for each in compared.values()]), strict=True))
    confidence, least = confidence_of(named), max(floor(study) for _, study in named)
    test = describe(f"each study against {named[0][0]}", len(compared), confidence)
    rewinds = {side.cell[1] for group in groups for side, _ in group}
    means = {label: means_of(study, network) for label, study in named}
    table = []
    for side, other in (pair for group in groups for pair in group):
        row = means[side.label][side.cell]
        values = {name: value for name, value in row.items() if _belongs(name, network)}
        head: Values = {STUDY: side.label, "optimizer": row["optimizer"]}
        head |= {"rewind": side.cell[1]} if len(rewinds) > 1 else {}
        found = compared.get(side)
        tested = _tested(found, adjusted.get(side), confidence, least)
        said = [row["note"], *(_told(found) if found else _unmet(side, named[0][0]))]
        values |= {**tested, "test": test, "note": "; ".join(filter(None, said))}
        keys = dict.fromkeys([*row.made_from, *(record.job.key for record in (other.records if other else ()))])
        table.append(Row(finite(head | values), keys))
    return with_equal_columns(table, [*_tested(None, None, confidence, least), "test", "note"])


def _belongs(name: str, network: str) -> bool:
    """Return True for a column of means that stays: one of the dense or the compared network, or of none."""
    of = name.network if isinstance(name, Column) else ""
    return of in ("", "dense", network) and name not in ("optimizer", "rewind", "note")


def describe(what: str, family: int, confidence: float) -> str:
    """Return in words how several comparisons are tested."""
    return (
        f"{what}: two-sided paired t test over the seeds that both have; Holm's correction over "
        f"{counted(family, 'comparison')}; {100 * confidence:g} %"
    )


def _groups(named: Named, network: str) -> list[list[tuple[Side, Side | None]]]:
    """Return the sides with a finished training, those of one density together, each with the one it is tested against.

    Raises:
        UsageError: A study has nothing that meets the first one.
    """
    first, groups, met = named[0][0], list[list[tuple[Side, Side | None]]](), set[str]()
    begun: dict[str, list[Side]] = {label: [] for label, _ in named}
    for by_study in sides(named, network).values():
        done = {label: [side for side in each if side.records] for label, each in by_study.items()}
        found: dict[Side, list[tuple[Side, Side | None]]] = {side: [(side, None)] for side in done.get(first, ())}
        for label, others in done.items():
            begun[label] += others
            if label != first:
                meets = meeting(done.get(first, ()), others)
                met |= {label} if meets else set()
                for side in others:
                    other = meets.get(side)
                    found.setdefault(other or side, []).append((side, other))
        groups += sorted(found.values(), key=lambda group: -group[0][0].density)
    for label, others in begun.items():
        if label != first and others and begun[first] and label not in met:
            there, here = (", ".join(dict.fromkeys(map(_place, begun[each]))) for each in (first, label))
            raise UsageError(f"{label}: has nothing that {first} has at the same density ({here} here, {there} there)")
    return groups


def _place(side: Side) -> str:
    optimizers = side.study.recipe.train.optimizer
    return f"{optimizer_labels(optimizers)[side.cell[0]]} from {side.cell[1]} at {density_label(side.density)}"


def _nearest(side: Side, others: Sequence[Side]) -> Side | None:
    """Return the side of the nearest density, None where it is further away than TOLERANCE."""
    nearest = min(others, key=lambda other: abs(other.density - side.density), default=None)
    if nearest is None or abs(nearest.density - side.density) > TOLERANCE * max(nearest.density, side.density):
        return None
    return nearest


def _tested(found: Comparison | None, adjusted: float | None, confidence: float, least: float) -> Values:
    """Return the columns of a comparison, empty where there is none."""
    low, high = interval("points", confidence)
    plain, corrected = p_values("p", confidence)
    names = (SEEDS, DIFFERENCE, low, high, plain, corrected, "verdict")
    if found is None or adjusted is None:
        return dict.fromkeys(names)
    seen = paired.t_interval(list(found.differences.values()), confidence, least)
    verdict = "inconclusive"
    if found.withheld:
        verdict = "withheld"
    elif adjusted <= round(1 - confidence, 12):
        verdict = "superior" if seen.estimate > 0 else "inferior"
    figures = (seen.n, seen.estimate, seen.low, seen.high, found.p, adjusted, verdict)
    return dict(zip(names, figures, strict=True))


def _told(found: Comparison) -> Iterator[str]:
    """Yield what a reader of a comparison must know."""
    yield from found.withheld
    if found.same:
        yield "the same trainings as the first study's"
    if found.unpaired:
        yield f"in one of the two studies alone, not in the test: seeds {listed_seeds(found.unpaired)}"
    for count, whose in zip(found.lost, ("this study", "the first study"), strict=True):
        if count:
            yield f"{counted(count, 'seed')} diverged in {whose} alone: nothing is claimed"


def _unmet(side: Side, first: str) -> list[str]:
    """Return why a side is compared with none."""
    if side.label == first:
        return []
    return [f"{first} has none within {100 * TOLERANCE:g} % of this density: not compared"]


def _withheld(one: Side, other: Side) -> Iterator[str]:
    """Yield in words why nothing is claimed: what the audits found of both sides, and environments that differ."""
    for side in (one, other):
        for reason in audit(side.study).withheld().get((*side.cell, side.network), ()):
            yield f"{side.label}: {reason}"
    allowed = [set(each.allow) if (each := side.study.recipe.compare) is not None else set() for side in (one, other)]
    fields = mixed(record.manifest.machines for side in (one, other) for record in side.records)
    apart = [field for field in fields if field not in set.intersection(*allowed) and not field.startswith(PLUGIN)]
    if apart:
        yield f"mixed environments: {', '.join(apart)}"
