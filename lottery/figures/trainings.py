"""Figures of trainings themselves: learning curves, weights, and optimizers against each other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import points
from lottery.analysis.labels import head, optimizer_labels, whose
from lottery.errors import UsageError
from lottery.figures.style import COLORS, FONT, finish, panels
from lottery.plan.jobs import Job
from lottery.plan.kinds import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from lottery.analysis.rows import Row
    from lottery.results.study import Study

BINS = 60
MEASURES = (  # the first that the curves have is drawn
    ("validation_accuracy", "validation accuracy (%)", 100),
    ("validation_r2", "validation r2", 1),
    ("validation_loss", "validation loss", 1),
    ("train_loss", "training loss", 1),
)


def curves(study: Study) -> Figure:
    """Draw validation accuracy over the steps, mean over the seeds that got to each step.

    Without a validation split it is the training loss. The dense network is black, levels go from dark to light.
    """
    import matplotlib

    found: dict[tuple[int, str], dict[int, list[Mapping[int, float]]]] = {}
    densities = dict[int, float]()
    measure = next(m for m in MEASURES if m[0] == "train_loss" or _measured(study, m[0]))
    for job in study.plan:
        record = study.found.get(job.key)
        if record is None or not job.kind.in_trunk:
            continue
        curve = {
            row["step"]: row[measure[0]] for row in record.metrics.get("curve", ()) if row.get(measure[0]) is not None
        }
        densities.setdefault(job.level, record.density)
        for rewind in points(study.recipe, job):
            found.setdefault((job.optimizer_index, rewind), {}).setdefault(job.level, []).append(curve)
    labels = optimizer_labels(study.recipe.train.optimizer)
    figure, every = panels([whose(head(study.recipe, rewind, optimizer=labels[index])) for index, rewind in found])
    colours = matplotlib.colormaps["viridis"]
    for axes, levels in zip(every, found.values(), strict=True):
        last = max(levels)
        for level, seeds in sorted(levels.items()):
            at = sorted({step for curve in seeds for step in curve})
            means = [measure[2] * statistics.fmean(p[step] for p in seeds if step in p) for step in at]
            colour = "black" if level == 0 else colours(0.9 * level / max(1, last))
            name = "dense" if level == 0 else f"{100 * densities[level]:.3g} % of the weights"
            axes.plot(at, means, color=colour, linewidth=1.6 if level == 0 else 1, label=name)
        axes.set_xlabel("training step")
    finish(figure, every, measure[1])
    return figure


def _measured(study: Study, name: str) -> bool:
    return any(name in row for record in study.found.values() for row in record.metrics.get("curve", ())[-1:])


def weights(study: Study, level: int | None = None) -> Figure:
    """Draw a histogram of each layer's weights where a ticket of the first seed starts and where it ends.

    The ticket is that of `level`, else the sparsest there is. Surviving weights are drawn at start and end, and those
    pruned as they were at the start. A ticket that goes on from trained weights (modes lr and finetune) starts from
    those of the level above; pruned are then the weights that this level pruned, as the others were 0 there.

    Raises:
        UsageError: No ticket, or none of `level`, is finished.
    """
    tickets = [job for job in study.plan if job.kind is Kind.TICKET and job.key in study.found]
    whole = [job for job in tickets if study.found[job.key].diverged is None]
    levels = {job.level for job in whole}
    if not whole or (level is not None and level not in levels):
        raise UsageError(
            f"{study.recipe.name}: no ticket{'' if level is None else f' of level {level}'} is finished yet"
        )
    job = next(job for job in whole if job.level == (max(levels) if level is None else level))
    initial, trained, alive, above = _states(study, job)
    figure, every = panels([name.removesuffix(".weight") for name in alive], share_y=False)
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
    figure.suptitle(f"{job.optimizer.name}, seed {job.seed}, {percent:.3g} % of the weights", fontsize=8)
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


def transfer(study: Study) -> Figure:
    """Draw test accuracy of each optimizer's ticket retrained with each, as a heat map with its numbers.

    Dense networks are on top, diverged cells hatched. A panel for each density and rewind point.

    Raises:
        UsageError: No ticket is retrained.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from lottery.analysis.labels import DENSE
    from lottery.analysis.transfer import transfer as rows

    labels, table = optimizer_labels(study.recipe.train.optimizer), rows(study)
    groups: dict[tuple[Any, float], list[Row]] = {}
    for row in table:
        if row["found_with"] != DENSE:
            groups.setdefault((row.get("rewind"), round(row["density"], 4)), []).append(row)
    if not groups:
        raise UsageError(f"{study.recipe.name}: no ticket is retrained yet; lottery run does so")
    size = 0.42 * len(labels)
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=((size + 1.8) * len(groups) + 0.6, size + 2), layout="constrained")
        grid = figure.subplots(1, len(groups), squeeze=False)
        top = [row for row in table if row["found_with"] == DENSE]
        cells = [100 * row[label] for row in table for label in labels if row[label] is not None]
        for axes, ((rewind, density), mine) in zip(grid.flat, groups.items(), strict=True):
            shown = [*top, *mine]
            values = [[float("nan") if row[label] is None else 100 * row[label] for label in labels] for row in shown]
            drawn = axes.imshow(values, cmap="cividis", vmin=min(cells), vmax=max(cells), aspect="auto")
            for y, row in enumerate(shown):
                for x, label in enumerate(labels):
                    if row[label] is None:
                        hatch = "////" if row[f"{label}_diverged"] is not None else None
                        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch=hatch, linewidth=0))
                        continue
                    dark = 100 * row[label] < (min(cells) + max(cells)) / 2
                    colour = "white" if dark else "black"
                    axes.text(x, y, f"{100 * row[label]:.1f}", ha="center", va="center", fontsize=6, color=colour)
            axes.set_xticks(range(len(labels)), labels, rotation=90)
            axes.set_yticks(range(len(shown)), [row["found_with"] for row in shown])
            axes.set_xlabel("retrained with")
            axes.set_ylabel("found with")
            axes.set_title(", ".join(filter(None, (f"{100 * density:.3g} % of the weights", rewind))))
        figure.colorbar(drawn, ax=list(grid.flat), label="test accuracy (%)", shrink=0.8)
    return figure
