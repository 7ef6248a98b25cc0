"""Comparison of tickets, controls and dense networks test example by test example, and class by class."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery.analysis.cells import by_place, densities
from lottery.analysis.labels import Row, head, optimizer_labels
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
Column = Sequence[tuple["Job", "Record | None"]]


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each optimizer, rewind point, level and `network` (`ticket` or a control) whose trainings kept
    which test examples they recognize, at the recipe's `report`, held against the dense network of the same seed.

    `difference` is the mean over `n` seeds and all test `examples` of network less dense accuracy, a fraction; its
    interval (`low`, `high`) is that for other seeds and other test examples, see `crossed.crossed`; `seeds_share` and
    `examples_share` are the shares of its variance. `disagreement` is the share of test examples on which exactly one
    of network and dense network is right; `dense_disagreement` the same of two dense networks of different seeds, a
    yardstick. Where the data are there: `worst_class` is the class that loses most, `worst_class_diff` what it loses
    (Hooker et al. 2019), and `classes_lost` the number of classes whose accuracy is shown to be lower, by one-sided
    paired t tests over seeds, corrected over the classes by Holm's procedure. Samples of a control are averaged within
    their seed. Raises UsageError where no training kept its examples: regression, or nothing finished.
    """
    recipe, known, labels = study.recipe, densities(study), optimizer_labels(study.recipe.train.optimizer)
    confidence, alpha = (recipe.compare.confidence, recipe.compare.alpha) if recipe.compare else (0.95, 0.05)
    classes, cells = _Classes(study, alpha), by_place(study)
    columns = {"ticket": None, **{branch.label: branch for branch in recipe.branches}}
    dense: dict[int, Mapping[int, Array]] = {}  # by the optimizer's place and by seed
    table: list[Row] = []
    for place in known:
        if not place[2]:
            continue
        if place[0] not in dense:
            dense[place[0]] = _read(study, cells.get((place[0], place[1], 0), {}).get("dense", ()))
        theirs = dense[place[0]]
        for name, branch in columns.items():
            ours = {} if _on_other_data(branch) else _read(study, cells[place].get(name, ()))
            if seeds := sorted(ours.keys() & theirs.keys()):
                pair = np.stack([ours[seed] for seed in seeds]), np.stack([theirs[seed] for seed in seeds])
                about = head(recipe, place[1], optimizer=labels[place[0]])
                about |= {"level": place[2], "density": known[place], "network": name}
                yardstick = between_seeds(np.stack(list(theirs.values())))
                table.append(
                    about | _measured(*pair, confidence) | {"dense_disagreement": yardstick} | classes.of(*pair)
                )
    if not table:
        raise UsageError(f"{recipe.name}: no finished pair of networks says which test examples it recognizes")
    return table


def _read(study: Study, column: Column) -> dict[int, Array]:
    """Return by seed which test examples a column's networks recognize, averaged over samples; seeds lack none."""
    found: dict[int, list[Array]] = {}
    wanted = max((job.branch.samples for job, _ in column if job.branch), default=1)
    for job, record in column:
        if record is not None and record.diverged is None:
            bits = read_correct(study.store, job.key).get(study.recipe.report)
            if bits is not None:
                found.setdefault(job.seed, []).append(bits.numpy())
    whole = {seed: samples for seed, samples in found.items() if len(samples) == wanted}
    return {seed: np.stack(samples).mean(axis=0, dtype=np.float32) for seed, samples in whole.items()}


def _on_other_data(branch: BranchSpec | None) -> bool:
    return branch is not None and branch.component.args.get("dataset") is not None


def _measured(ours: Array, theirs: Array, confidence: float) -> Row:
    values = ours - theirs
    found: Crossed = crossed(values, confidence)
    return {
        "n": len(values),
        "examples": values.shape[1],
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "seeds_share": found.seeds_share,
        "examples_share": found.examples_share,
        "disagreement": float(np.abs(values).mean()),
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

    def of(self, ours: Array, theirs: Array) -> Row:
        """Return the columns of classes: None without the data, and `classes_lost` None for fewer than two seeds."""
        names = ("worst_class", "worst_class_diff", "classes_lost")
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
