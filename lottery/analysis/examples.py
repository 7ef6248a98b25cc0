"""Comparison of tickets, controls and dense networks test example by test example, and class by class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery.analysis.cells import densities, records_by_cell
from lottery.analysis.columns import DENSITY, DIFFERENCE, LEVEL_OF_DENSITY, SEEDS, Column, diff, interval
from lottery.analysis.labels import head, optimizer_labels
from lottery.analysis.rows import Row, Values, keys_of
from lottery.errors import DataError, UsageError
from lottery.results.artifacts import read_correct
from lottery.results.resolution import floor
from lottery.results.study import once
from lottery.runner.finished_study import context_of
from lottery.statistics import paired
from lottery.statistics.crossed import Crossed, between_seeds, by_class, crossed

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.schema import BranchSpec
    from lottery.results.record import Record
    from lottery.results.study import Study

Array = np.ndarray[Any, np.dtype[Any]]
Trainings = Sequence[tuple["Job", "Record | None"]]


@once
def rows(study: Study) -> list[Row]:
    """Return tickets and controls held against the dense network of the same seed, test example by test example.

    There is a row for each optimizer, rewind point, level and `network` (`ticket` or a control) whose trainings kept
    which test examples they recognize at the recipe's `report`.

    `difference` is the mean over `n` seeds and all test `examples` of network less dense accuracy, a fraction; its
    interval (`low`, `high`) is that for other seeds and other test examples, see `crossed.crossed`; `seeds_share` and
    `examples_share` are the shares of its variance. `disagreement` is the share of test examples on which exactly one
    of network and dense network is right; `dense_disagreement` the same of two dense networks of different seeds, a
    yardstick. Where the data are there: `worst_class` is the class that loses most, `worst_class_diff` what it loses
    (Hooker et al. 2019), and `classes_lost` the number of classes whose accuracy is shown to be lower, by one-sided
    paired t tests over seeds, corrected over the classes by Holm's procedure. Samples of a control are averaged within
    their seed.

    Raises:
        UsageError: Where no training kept its examples: regression, or nothing finished.
    """
    recipe, known, labels = study.recipe, densities(study), optimizer_labels(study.recipe.train.optimizer)
    confidence, alpha = (recipe.compare.confidence, recipe.compare.alpha) if recipe.compare else (0.95, 0.05)
    classes, cells = _Classes(study, alpha), records_by_cell(study)
    columns = {"ticket": None, **{branch.label: branch for branch in recipe.branches}}
    dense: dict[int, _Read] = {}  # by the optimizer's index
    table: list[Row] = []
    for cell in known:
        if not cell[2]:
            continue
        if cell[0] not in dense:
            dense[cell[0]] = _read(study, cells.get((cell[0], cell[1], 0), {}).get("dense", ()))
        theirs = dense[cell[0]]
        for name, branch in columns.items():
            ours = _read(study, () if _on_other_data(branch) else cells[cell].get(name, ()))
            if seeds := sorted(ours.correct.keys() & theirs.correct.keys()):
                pair = ours.of(seeds), theirs.of(seeds)
                about = head(recipe, cell[1], optimizer=labels[cell[0]])
                about |= {LEVEL_OF_DENSITY: cell[2], DENSITY: known[cell], "network": name}
                yardstick = between_seeds(np.stack(list(theirs.correct.values())))
                about |= (
                    _measured(*pair, confidence)
                    | {Column("dense_disagreement", "fraction"): yardstick}
                    | classes.of(*pair)
                )
                compared = [record for record in ours.records if record.job.seed in seeds]
                table.append(Row(about, keys_of(study, [*compared, *theirs.records])))
    if not table:
        raise UsageError(f"{recipe.name}: no finished pair of networks says which test examples it recognizes")
    return table


@dataclass(frozen=True)
class _Read:
    """The test examples that a column's networks recognize.

    `correct` are by seed the shares of its samples that recognize each, (examples,); `records` are the trainings that
    say so. A seed that lacks a sample is in neither.
    """

    correct: Mapping[int, Array]
    records: Sequence[Record]

    def of(self, seeds: Sequence[int]) -> Array:
        """Return the shares of these seeds, (seeds, examples)."""
        return np.stack([self.correct[seed] for seed in seeds])


def _read(study: Study, column: Trainings) -> _Read:
    """Return the test examples that a column's networks recognize."""
    found: dict[int, list[tuple[Record, Array]]] = {}
    wanted = max((job.branch.samples for job, _ in column if job.branch), default=1)
    for job, record in column:
        if record is not None and record.diverged is None:
            bits = read_correct(study.store, job.key).get(study.recipe.report)
            if bits is not None:
                found.setdefault(job.seed, []).append((record, bits))
    whole = {seed: samples for seed, samples in found.items() if len(samples) == wanted}
    return _Read(
        {seed: np.stack([each for _, each in s]).mean(axis=0, dtype=np.float32) for seed, s in whole.items()},
        [record for samples in whole.values() for record, _ in samples],
    )


def _on_other_data(branch: BranchSpec | None) -> bool:
    return branch is not None and branch.component.args.get("dataset") is not None


def _measured(ours: Array, theirs: Array, confidence: float) -> Values:
    values = ours - theirs
    found: Crossed = crossed(values, confidence)
    low, high = interval("points", confidence)
    return {
        SEEDS: len(values),
        "examples": values.shape[1],
        DIFFERENCE: found.estimate,
        low: found.low,
        high: found.high,
        Column("seeds_share", "fraction"): found.seeds_share,
        Column("examples_share", "fraction"): found.examples_share,
        Column("disagreement", "fraction"): float(np.abs(values).mean()),
    }


class _Classes:
    """Loss of accuracy by class; needs the data, whose labels the test examples have."""

    def __init__(self, study: Study, alpha: float):
        self.alpha = alpha
        self.labels: Array | None = None
        try:
            splits = context_of(study).splits
            self.labels, self.classes = splits.test_y.numpy(), splits.classes
        except DataError as error:
            logging.getLogger("lottery").warning("%s; what single classes lose is left out", error)

    def of(self, ours: Array, theirs: Array) -> Values:
        """Return the columns of classes: None without the data, and `classes_lost` None for fewer than two seeds."""
        names = ("worst_class", diff("worst_class"), "classes_lost")
        if self.labels is None:
            return dict.fromkeys(names)
        values = by_class(ours - theirs, self.labels, self.classes)
        there = np.flatnonzero(~np.isnan(values[0]))
        means = values[:, there].mean(axis=0)
        worst = int(means.argmin())
        lost = None
        if len(values) > 1:
            sizes = np.bincount(self.labels, minlength=self.classes)
            adjusted = paired.holm(
                [paired.t_pvalue(values[:, at].tolist(), 0.0, "less", floor(int(sizes[at]))) for at in there]
            )
            lost = sum(p <= self.alpha for p in adjusted)
        return dict(zip(names, (int(there[worst]), float(means[worst]), lost), strict=True))
