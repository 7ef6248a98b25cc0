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
from lottery.audit.findings import Cell
from lottery.errors import LotteryError, MachineError
from lottery.plan.kinds import METRICS_FILE
from lottery.results.other_jobs import Family, Kin, family, kin_of
from lottery.results.study import once
from lottery.values import plain

if TYPE_CHECKING:
    from lottery.results.study import Study

JobPath = tuple[str, ...]  # what a job is, from its dense network down, whatever its seed
RETRAINED = "retrained with another optimizer"  # a column of no table of means
MOST_NAMED = 6  # levels or controls in one sentence


@dataclass(frozen=True)
class OverSeeds:
    """Mean difference to the dense network, a fraction, over the recipe's seeds and over all seeds of the store.

    Attributes:
        here: The mean over the recipe's seeds; None where none has a result.
        seeds: The number of the recipe's seeds with a result.
        over_all: The mean over all seeds.
        all_seeds: Their number.
    """

    here: float | None
    seeds: int
    over_all: float
    all_seeds: int

    @property
    def sentence(self) -> str:
        """Both figures in words, in points."""
        here = "" if self.here is None else f" (over those of the recipe {100 * self.here:+.2f})"
        return f"over all {self.all_seeds} the mean difference to dense is {100 * self.over_all:+.2f} points{here}"


@dataclass(frozen=True)
class LeftOut:
    """Seeds, levels and controls of a store that a recipe leaves out.

    Attributes:
        seeds: The seeds, by the optimizer's index in the recipe.
        cells: The differences over all seeds, by cell.
        others: The levels and controls in words, by the optimizer's index in the recipe.
    """

    seeds: Mapping[int, Sequence[int]]
    cells: Mapping[Cell, OverSeeds]
    others: Mapping[int, Sequence[str]]

    def sentence(self, cell: Cell) -> str:
        """Return the sentence on a cell; empty where nothing of it is left out."""
        seeds, over = self.seeds.get(cell[0]), self.cells.get(cell)
        return f"the store has {seeds_in_words(seeds)} as well: {over.sentence}" if seeds and over else ""

    def sentences(self, study: Study) -> list[tuple[int, str]]:
        """Return a sentence for everything that is left out, each with the optimizer's index."""
        labels, told = optimizer_labels(study.recipe.train.optimizer), []
        for index, label in enumerate(labels):
            whose = f"{label}: " if len(labels) > 1 else ""
            if seeds := self.seeds.get(index):
                told.append(
                    (index, f"{whose}the store has {seeds_in_words(seeds)} of this study, left out by the recipe")
                )
            if others := self.others.get(index):
                more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
                named = ", ".join(others[:MOST_NAMED])
                told.append((index, f"{whose}the store has, left out by the recipe: {named}{more}"))
        return told


def seeds_in_words(seeds: Sequence[int]) -> str:
    """Return `seed 3`, or `seeds 1, 3`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


@once
def left_out(study: Study) -> LeftOut:
    """Compare what the store has under the identities of a study's dense networks with what its recipe names.

    Seeds are those of the same training, optimizer by optimizer; levels those pruned in the same way by other amounts;
    controls those of a ticket of the recipe. Reads the identities of the store's jobs (`lottery.results.other_jobs`)
    and the metrics of what is left out.
    """
    stored = family(study.store).jobs
    planned = {job.key: kin for job in study.plan if (kin := kin_of(plain(job.identity))) is not None}
    paths = Family({**stored, **planned}).paths
    cells: dict[JobPath, list[Cell]] = {}
    for job in study.plan:
        if job.kind.measured:
            column = column_of(job) if job.transfer is None else RETRAINED
            its_cells = [(job.optimizer_index, point, job.level, column) for point in points(study.recipe, job)]
            cells.setdefault(paths[job.key][0], its_cells)
    of_store = _StoredFamily(study, cells)
    for key, (path, seed) in paths.items():
        if path[0] in of_store.roots and key in stored:
            of_store.add(key, path, seed, stored[key])
    return LeftOut(of_store.seeds(), of_store.differences(), of_store.others(study.recipe.prune.auto is not None))


class _StoredFamily:
    """Jobs of a store that belong to a study's dense networks, by their path and by seed."""

    def __init__(self, study: Study, cells: Mapping[JobPath, list[Cell]]):
        self.study, self.cells = study, cells
        self.roots = {path[0]: its_cells[0][0] for path, its_cells in cells.items() if len(path) == 1}
        self.keys: dict[JobPath, dict[int, list[str]]] = {}
        self.kin: dict[JobPath, Kin] = {}
        self._scores: dict[str, float | None] = {}
        self._densities: dict[str, float] = {}

    def add(self, key: str, path: JobPath, seed: int, kin: Kin) -> None:
        """Add a job of the store."""
        self.keys.setdefault(path, {}).setdefault(seed, []).append(key)
        self.kin[path] = kin

    def seeds(self) -> dict[int, list[int]]:
        """Return the seeds of each optimizer's dense network that the recipe leaves out, by the optimizer's index."""
        ours = set(self.study.recipe.seeds)
        more = {index: sorted(self.keys.get((root,), {}).keys() - ours) for root, index in self.roots.items()}
        return {index: seeds for index, seeds in more.items() if seeds}

    def differences(self) -> dict[Cell, OverSeeds]:
        """Return the differences of each cell of which the store has other seeds as well."""
        ours, found = set(self.study.recipe.seeds), dict[Cell, OverSeeds]()
        for path, its_cells in self.cells.items():
            if len(path) == 1 or not self.keys.get(path, {}).keys() - ours:
                continue
            every = self._differences(path)
            if every.keys() - ours:
                here = [value for seed, value in every.items() if seed in ours]
                mean = statistics.fmean(here) if here else None
                over = OverSeeds(mean, len(here), statistics.fmean(every.values()), len(every))
                found |= dict.fromkeys(its_cells, over)
        return found

    def others(self, adaptive: bool) -> dict[int, list[str]]:
        """Return the levels and controls that the recipe lacks, in words; if `adaptive`, only the controls."""
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
        return {index: [words for _, words in sorted(each)] for index, each in told.items()}

    def _differences(self, path: JobPath) -> dict[int, float]:
        """Return the difference to the dense network by seed, a fraction; diverged trainings have none.

        Samples of a control are averaged.
        """
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
