"""Seeds, levels and controls that the store has under the identities of a study and its recipe leaves out.

A choice of seeds after their results are seen makes any claim; nothing in the records of the seeds that are left tells.
What the store has, it tells: with the differences over all of it beside those of the recipe.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import column_of, points
from lottery.analysis.labels import density_label, optimizer_labels
from lottery.errors import LotteryError, MachineError
from lottery.plan.kinds import METRICS_FILE
from lottery.results.other_jobs import Family, Kin, family, kin_of
from lottery.results.study import once
from lottery.values import plain

if TYPE_CHECKING:
    from lottery.results.study import Study

Cell = tuple[int, str, int, str]  # the optimizer's place, the rewind point's label, the level, the column
Path = tuple[str, ...]  # what a job is, from its dense network down, whatever its seed
RETRAINED = "retrained with another optimizer"  # a column of no table of means
MOST_NAMED = 6  # levels or controls in one sentence


@dataclass(frozen=True)
class Over:
    """Mean difference to the dense network, a fraction, over the recipe's seeds and over all those of the store."""

    here: float | None
    seeds: int
    over_all: float
    all_seeds: int

    @property
    def sentence(self) -> str:
        """Return both figures in words, in points."""
        here = "" if self.here is None else f" (over those of the recipe {100 * self.here:+.2f})"
        return f"over all {self.all_seeds} the mean difference to dense is {100 * self.over_all:+.2f} points{here}"


@dataclass(frozen=True)
class LeftOut:
    """Seeds, levels and controls of a store that a recipe leaves out.

    `seeds` by the optimizer's place; `cells` have the differences over all seeds; `others` are the levels and controls
    in words, by the optimizer's place.
    """

    seeds: Mapping[int, Sequence[int]]
    cells: Mapping[Cell, Over]
    others: Mapping[int, Sequence[str]]

    def said(self, cell: Cell) -> str:
        """Return the sentence on a cell; empty where nothing of it is left out."""
        seeds, over = self.seeds.get(cell[0]), self.cells.get(cell)
        return f"the store has {numbered(seeds)} as well: {over.sentence}" if seeds and over else ""

    def sentences(self, study: Study) -> list[tuple[int, str]]:
        """Return the optimizer's place and a sentence for everything that is left out."""
        labels, told = optimizer_labels(study.recipe.train.optimizer), []
        for place, label in enumerate(labels):
            whose = f"{label}: " if len(labels) > 1 else ""
            if seeds := self.seeds.get(place):
                told.append((place, f"{whose}the store has {numbered(seeds)} of this study, left out by the recipe"))
            if others := self.others.get(place):
                more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
                named = ", ".join(others[:MOST_NAMED])
                told.append((place, f"{whose}the store has, left out by the recipe: {named}{more}"))
        return told


def numbered(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 1, 3`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


@once
def left_out(study: Study) -> LeftOut:
    """Compare what the store has under the identities of a study's dense networks with what its recipe names.

    Seeds are those of the same training, optimizer by optimizer; levels those pruned in the same way by other amounts;
    controls those off a ticket of the recipe. Reads the identities of the store's jobs (`results.other_jobs`) and the
    metrics of what is left out.
    """
    stored = family(study.store).jobs
    planned = {job.key: kin for job in study.plan if (kin := kin_of(plain(job.identity))) is not None}
    paths = Family({**stored, **planned}).paths
    cells: dict[Path, list[Cell]] = {}
    for job in study.plan:
        if job.kind.measured:
            column = column_of(job) if job.transfer is None else RETRAINED
            places = [(job.place, point, job.level, column) for point in points(study.recipe, job)]
            cells.setdefault(paths[job.key][0], places)
    found = _Found(study, cells)
    for key, (path, seed) in paths.items():
        if path[0] in found.roots and key in stored:
            found.add(key, path, seed, stored[key])
    return LeftOut(found.seeds(), found.over(), found.others(study.recipe.prune.auto is not None))


class _Found:
    """Jobs of a store that belong to a study's dense networks, by what they are and by seed."""

    def __init__(self, study: Study, cells: Mapping[Path, list[Cell]]):
        self.study, self.cells = study, cells
        self.roots = {path[0]: places[0][0] for path, places in cells.items() if len(path) == 1}
        self.keys: dict[Path, dict[int, list[str]]] = {}
        self.kin: dict[Path, Kin] = {}
        self._scores: dict[str, float | None] = {}
        self._densities: dict[str, float] = {}

    def add(self, key: str, path: Path, seed: int, kin: Kin) -> None:
        self.keys.setdefault(path, {}).setdefault(seed, []).append(key)
        self.kin[path] = kin

    def seeds(self) -> dict[int, list[int]]:
        """Return the seeds of each optimizer's dense network that the recipe leaves out, by its place."""
        ours = set(self.study.recipe.seeds)
        more = {place: sorted(self.keys.get((root,), {}).keys() - ours) for root, place in self.roots.items()}
        return {place: seeds for place, seeds in more.items() if seeds}

    def over(self) -> dict[Cell, Over]:
        """Return the differences of each cell of which the store has other seeds as well."""
        ours, found = set(self.study.recipe.seeds), dict[Cell, Over]()
        for path, places in self.cells.items():
            if len(path) == 1 or not self.keys.get(path, {}).keys() - ours:
                continue
            every = self._differences(path)
            if every.keys() - ours:
                here = [value for seed, value in every.items() if seed in ours]
                mean = statistics.fmean(here) if here else None
                over = Over(mean, len(here), statistics.fmean(every.values()), len(every))
                found |= dict.fromkeys(places, over)
        return found

    def others(self, adaptive: bool) -> dict[int, list[str]]:
        """Levels and controls of which the recipe has none, in words; where its levels are found, only controls."""
        pruned = {self.kin[path].pruned for path in self.cells if path in self.kin} - {""}
        told: dict[int, list[tuple[float, str]]] = {}
        for path in self.keys.keys() - self.cells.keys():
            kin = self.kin[path]
            level = kin.kind == "ticket" and kin.pruned in pruned and not adaptive
            control = kin.kind == "branch" and path[:-1] in self.cells and len(path) > 1
            values = self._differences(path) if level or control else {}
            if values:
                density = self._densities[next(iter(self.keys[path].values()))[0]]
                what = f"{'' if level else kin.branch + ' at '}{density_label(density)}"
                mean = f"{100 * statistics.fmean(values.values()):+.2f} points, {len(values)} seeds"
                told.setdefault(self.roots[path[0]], []).append((-density, f"{what} ({mean})"))
        return {place: [words for _, words in sorted(each)] for place, each in told.items()}

    def _differences(self, path: Path) -> dict[int, float]:
        """Difference to the dense network of each seed, samples of a control averaged; without those that diverged."""
        dense, found = self.keys.get(path[:1], {}), dict[int, float]()
        for seed, keys in self.keys[path].items():
            values = [self._score(key) for key in keys]
            reference = self._score(dense[seed][0]) if seed in dense else None
            known = [value for value in values if value is not None]
            if reference is not None and known and len(known) == len(values):
                found[seed] = statistics.fmean(known) - reference
        return found

    def _score(self, key: str) -> float | None:
        if key not in self._scores:
            metrics = self._metrics(key)
            measured: Mapping[str, Any] = metrics.get(self.study.recipe.report) or {}
            self._densities[key] = float(metrics.get("density", 1.0))
            self._scores[key] = measured.get("test_r2", measured.get("test_accuracy"))
        return self._scores[key]

    def _metrics(self, key: str) -> Mapping[str, Any]:
        record = self.study.found.get(key)
        if record is not None:
            return record.metrics
        try:
            metrics = self.study.store.read_json(key, METRICS_FILE)
        except MachineError:
            raise
        except LotteryError:  # damaged or without metrics: nothing is known of it
            return {}
        return metrics if isinstance(metrics, dict) else {}
