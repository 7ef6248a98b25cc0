"""Figures of trainings themselves: learning curves and weights."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.curves import evaluations
from lottery.analysis.labels import head, optimizer_labels, rewind_label, whose
from lottery.errors import UsageError
from lottery.figures.selection import ALL, Selection
from lottery.figures.sizes import wrapped
from lottery.figures.style import COLORS, finish, follow, panels
from lottery.plan.jobs import Job
from lottery.plan.kinds import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from lottery.analysis.rows import Row
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study

BINS = 60
MEASURES = (  # the first that the curves have is drawn: split, column, label, factor
    ("validation", "accuracy", "validation accuracy (%)", 100),
    ("validation", "r2", "validation r2", 1),
    ("validation", "loss", "validation loss", 1),
    ("train", "loss", "training loss", 1),
)


def curves(study: Study, shown: Selection = ALL, width: float | None = None) -> Figure:
    """Draw validation accuracy over the steps, mean over the seeds that got to each step.

    Without a validation split it is the training loss. The dense network is black, levels go from dark to light. The
    values are those of the view `curves`. A panel for each optimizer and rewind point, and for each column where
    others than the ticket are selected.

    Raises:
        UsageError: Nothing is finished, or there is nothing that is selected.
    """
    import matplotlib

    table = [row for row in evaluations(study) if row["retrained_with"] is None]
    optimizers, (levels,) = shown.optimizers_of([study]), shown.levels_of([study])
    columns = shown.columns_of([study], ("ticket",))
    split, name, label, factor = next(
        each for each in MEASURES if each is MEASURES[-1] or any(_has(row, each) for row in table)
    )
    found: dict[tuple[str, str], dict[int, dict[int, dict[int, list[float]]]]] = {}  # panel, level, step, seed
    for row in table:
        if row["optimizer"] in optimizers and row["level"] in levels and row["kind"] in ("dense", *columns):
            for panel in _panels_of(study.recipe, row, columns):
                steps = found.setdefault(panel, {}).setdefault(row["level"], {})
                if row["split"] == split and row[name] is not None:
                    steps.setdefault(row["step"], {}).setdefault(row["seed"], []).append(row[name])
    left = {row["level"]: row["density"] for row in reversed(table) if row["kind"] == "ticket"}
    last = max(left, default=1)
    figure, every = panels([", ".join(filter(None, panel)) for panel in found], width=width)
    colours, seen = matplotlib.colormaps["viridis"], list[float]()
    for axes, named in zip(every, found.values(), strict=True):
        for level, steps in sorted(named.items()):
            at = sorted(steps)
            means = [factor * statistics.fmean(map(statistics.fmean, steps[step].values())) for step in at]
            seen += means
            style: dict[str, Any] = {"color": "black" if level == 0 else colours(0.9 * level / max(1, last))}
            style["linewidth"] = 1.6 if level == 0 else 1
            axes.plot(at, means, label="dense" if level == 0 else f"{100 * left[level]:.3g} % of the weights", **style)
        axes.set_xlabel("training step")
    follow(every, seen, percent=factor == 100)
    finish(figure, every, label)
    return figure


def _has(row: Row, measure: tuple[str, str, str, int]) -> bool:
    return row["split"] == measure[0] and row.get(measure[1]) is not None


def _panels_of(recipe: Recipe, row: Row, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the panels that a training stands in: a dense network in those of all rewind points and columns."""
    of_all = row["kind"] == "dense"
    for rewind in [rewind_label(each) for each in recipe.rewind] if of_all else [row["rewind"]]:
        for column in columns if of_all else [row["kind"]]:
            yield whose(head(recipe, rewind, optimizer=row["optimizer"])), "" if columns == ["ticket"] else column


def weights(study: Study, shown: Selection = ALL, width: float | None = None) -> Figure:
    """Draw a histogram of each layer's weights where a ticket of the first seed starts and where it ends.

    The ticket is the sparsest of the first optimizer among what is selected. Surviving weights are drawn at start and
    end, and those pruned as they were at the start. A ticket that goes on from trained weights (modes lr and finetune)
    starts from those of the level above; pruned are then the weights that this level pruned, as the others were 0
    there.

    Raises:
        UsageError: No ticket that is selected is finished.
    """
    optimizers, (levels,) = shown.optimizers_of([study]), shown.levels_of([study])
    labels = optimizer_labels(study.recipe.train.optimizer)
    tickets = [job for job in study.plan if job.kind is Kind.TICKET and job.key in study.found]
    whole = [job for job in tickets if study.found[job.key].diverged is None]
    whole = [job for job in whole if job.level in levels and labels[job.optimizer_index] in optimizers]
    if not whole:
        raise UsageError(f"{study.recipe.name}: no ticket that this figure shows is finished yet")
    job = next(job for job in whole if job.level == max(each.level for each in whole))
    initial, trained, alive, above = _states(study, job)
    figure, every = panels([name.removesuffix(".weight") for name in alive], share_y=False, width=width)
    for axes, (name, kept) in zip(every, alive.items(), strict=True):
        start, end = initial[name].flatten(), trained[name].flatten()
        bits, before = kept.flatten(), above[name].flatten()
        parts = {
            "pruned, at the start": start[before & ~bits],
            "kept, at the start": start[bits],
            "kept, at the end": end[bits],
        }
        reach = max((float(part.abs().max()) for part in parts.values() if len(part)), default=1.0)
        for index, (label, part) in enumerate(parts.items()):
            style: dict[str, Any] = {"color": ("#999999", *COLORS)[index], "label": label, "density": True}
            filled: dict[str, Any] = (
                {"histtype": "stepfilled", "alpha": 0.4} if index == 0 else {"histtype": "step", "linewidth": 1.3}
            )
            if len(part):
                axes.hist(part.tolist(), bins=BINS, range=(-reach, reach), **style, **filled)
        axes.set_xlabel("weight")
    percent = 100 * study.found[job.key].density
    said = f"{labels[job.optimizer_index]}, seed {job.seed}, {percent:.3g} % of the weights"
    figure.suptitle(wrapped(said, figure.get_figwidth()), fontsize=8)
    finish(figure, every, "probability density")
    return figure


def _states(
    study: Study, job: Job
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the weights of a ticket at the start and the end of its training, and two masks, all by name.

    The first mask says which weights are alive, the second which have a value at the start, being alive in what it
    starts from.
    """
    from lottery.pruning.mask import Mask
    from lottery.results.artifacts import read_mask, read_state, read_trained

    mask = read_mask(study.store, job.key)
    trained = read_trained(study.store, job.key, mask)
    assert job.point is not None and job.rewind is not None
    tensors, _ = read_state(study.store, job.point)
    dense = Mask.dense({name: tensors[f"model/{name}"] for name in mask})
    if job.rewind.mode == "weights" or study.recipe.prune.when == "training":
        start, above = {name: tensors[f"model/{name}"] for name in mask}, dense
    else:
        parent = study.plan.trunk(job)[-2]
        above = read_mask(study.store, parent.key) if parent.kind is Kind.TICKET else dense
        start = dict(read_trained(study.store, parent.key, above if parent.kind is Kind.TICKET else None))
    return start, trained, {name: mask[name] for name in mask}, {name: above[name] for name in mask}
