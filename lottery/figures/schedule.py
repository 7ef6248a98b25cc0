"""The figure of a recipe's learning rates over the steps, with warm-up and rewind points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.analysis.labels import optimizer_labels
from lottery.figures.colors import optimizer_styles
from lottery.figures.selection import chosen_optimizers
from lottery.figures.sizes import LEAST
from lottery.figures.style import label_along, label_up, legend_below, panels, text_inches
from lottery.plan.timeline import make_timeline
from lottery.recipe.learning_rate import multiplier
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.recipe.schema import Recipe

POINTS = 20_000  # of a curve: more than a figure has pixels across
REWINDS = {"weights": "rewind", "lr": "lr rewind", "finetune": "fine-tune from"}
MOST_NAMES = 4  # optimizers that one line of the legend names
MOST_ROOM, PANEL = 0.5, 0.65  # shares: of the axis, for names; of the figure's height, that the axis has
LOG_RANGE = 1e-6  # below this part of the highest rate a policy is as good as at zero


@dataclass(frozen=True)
class RateCurve:
    """The learning rate over a training.

    Attributes:
        optimizer: The name of the optimizer.
        rate: Its learning rate; 1 where that is tuned.
        relative: True if the recipe tunes: rates are then parts of the one that will be chosen.
        steps: The steps that are drawn.
        rates: The learning rate of each step in `steps`.
        warmup: The length of the warm-up, in steps.
        rewinds: The step and the name of each rewind point.
        per_epoch: The number of steps in an epoch; None where no length is in epochs.
    """

    optimizer: str
    rate: float
    relative: bool
    steps: list[int]
    rates: list[float]
    warmup: int
    rewinds: list[tuple[int, str]]  # step and what to call it
    per_epoch: int | None


def rate_curves(recipe: Recipe, data: Path) -> list[RateCurve]:
    """Return the learning rate over the training of each optimizer. Reads the data only where a length is in epochs.

    Raises:
        UsageError: The recipe does not fit the data.
        DataError: The data are not there.
    """
    examples = _examples(recipe, data) if any(d.unit == "ep" for d in _lengths(recipe)) else None
    return [_curve(recipe, optimizer, examples) for optimizer in recipe.train.optimizer]


def schedule_figure(
    recipe: Recipe, data: Path, *, log: bool = False, optimizers: Sequence[str] = (), width: float | None = None
) -> Figure:
    """Draw the learning rate of each optimizer over the steps, with warm-up and rewind points.

    Args:
        recipe: The recipe.
        data: Folder of data sets, which is read only where a length is in epochs.
        log: Logarithmic scale for the learning rate.
        optimizers: Names or labels of the optimizers that are drawn; all where there are none.
        width: The figure's width in inches, that of a column where it is None, see `sizes.width_of`.

    Raises:
        UsageError: The recipe has no such optimizer.
    """
    from matplotlib.ticker import MaxNLocator

    chosen, labels = chosen_optimizers([recipe], optimizers), optimizer_labels(recipe.train.optimizer)
    by_label = dict(zip(labels, rate_curves(recipe, data), strict=True))
    looks, drawn = optimizer_styles(recipe), [by_label[label] for label in chosen]
    schedule = recipe.train.schedule
    title = ", ".join([schedule.name, *(f"{key} {_in_words(value)}" for key, value in schedule.component.args.items())])
    warm = f", after a warm-up of {schedule.warmup}" if schedule.warmup else ""
    figure, (axes,) = panels([f"{recipe.name}: {title}{warm}"], width=width)
    groups: dict[tuple[float, ...], list[str]] = {}
    for label in chosen:
        curve = by_label[label]
        groups.setdefault((len(curve.steps), *curve.steps[-1:], *curve.rates), []).append(label)
    for mine in groups.values():
        group = [by_label[label] for label in mine]
        names = list(dict.fromkeys(curve.optimizer for curve in group))
        label = ", ".join(names) if len(names) <= MOST_NAMES else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        label += "" if group[0].relative else f" (lr {group[0].rate:g})"
        style = {name: looks[mine[0]][name] for name in ("color", "linestyle")}
        axes.plot(group[0].steps, group[0].rates, label=label, linewidth=1.6, **style)
    _mark(axes, drawn)
    label_along(axes, "training step")
    label_up(axes, "learning rate / tuned learning rate" if drawn[0].relative else "learning rate")
    _scale(axes, [rate for curve in drawn for rate in curve.rates], log, _room(axes))
    axes.set_xlim(0, max(curve.steps[-1] for curve in drawn) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if len({curve.per_epoch for curve in drawn}) == 1 and drawn[0].per_epoch:
        scale: Any = drawn[0].per_epoch
        above = axes.secondary_xaxis("top", functions=(lambda step: step / scale, lambda epoch: epoch * scale))
        above.set_xlabel("epoch", fontsize=LEAST)
        above.tick_params(labelsize=LEAST)
    legend_below(figure, [axes])
    return figure


def _room(axes: Axes) -> float:
    """Return the share of the axis of the learning rate that the names of rewind points take."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    longest = max((text_inches(text.get_text()) for text in axes.texts), default=0.0)
    return min(MOST_ROOM, (0.85 * longest + 0.1) / (PANEL * figure.get_figheight()))


def _scale(axes: Axes, rates: list[float], log: bool, room: float) -> None:
    """Set the axis of the learning rate, with a share of it as room above the curves."""
    highest = max(rates)
    if not log:
        axes.set_ylim(0, highest / (1 - room))
        return
    lowest = max(min(rate for rate in rates if rate > 0), LOG_RANGE * highest)
    axes.set_yscale("log")
    axes.set_ylim(lowest / 1.5, highest * 1.5 * (1.5 * highest / lowest) ** (room / (1 - room)))


def _mark(axes: Axes, drawn: list[RateCurve]) -> None:
    """Draw the warm-up as a band, rewind points as lines with their names."""
    warm = sorted({curve.warmup for curve in drawn if curve.warmup})
    for index, end in enumerate(warm):
        axes.axvspan(0, end, color="tab:gray", alpha=0.12, linewidth=0, label=None if index else "warm-up")
    points: dict[int, list[str]] = {}
    for curve in drawn:
        for step, name in curve.rewinds:
            if name not in points.setdefault(step, []):
                points[step].append(name)
    for step, names in sorted(points.items()):
        axes.axvline(step, color="black", linewidth=1, linestyle=(0, (2, 2)))
        axes.annotate(
            ", ".join(names),
            (step, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            rotation=90,
            fontsize=LEAST,
            va="top",
        )


def _curve(recipe: Recipe, optimizer: Component, examples: int | None) -> RateCurve:
    whole = make_timeline(recipe, optimizer, examples or 1)
    schedule, total, steps = recipe.train.schedule, whole.total, whole.steps
    warmup = steps(schedule.warmup) if schedule.warmup else 0
    given = registry.optimizers[optimizer.name].all_arguments(optimizer.args).get("lr")
    rate = 1.0 if recipe.tune is not None or given is None else float(given)
    at = multiplier(schedule.component, warmup, total, steps)
    stride = -(-total // POINTS)
    shown = [*range(0, total - 1, stride), total - 1]
    return RateCurve(
        optimizer.name,
        rate,
        recipe.tune is not None,
        shown,
        [rate * at(step) for step in shown],
        warmup,
        [(steps(r.to), f"{REWINDS[r.mode]} {'init' if r.to.value == 0 else r.to}") for r in recipe.rewind],
        whole.steps_per_epoch if examples is not None else None,
    )


def _lengths(recipe: Recipe) -> Iterator[Duration]:
    """Yield each length that the figure shows."""

    def inside(value: Any) -> Iterator[Duration]:
        if isinstance(value, Duration):
            yield value
        for item in value if isinstance(value, (list, tuple)) else ():
            yield from inside(item)

    schedule = recipe.train.schedule
    yield from inside([recipe.train.length, schedule.warmup, *schedule.component.args.values()])
    yield from (rewind.to for rewind in recipe.rewind if rewind.to.value)


def _examples(recipe: Recipe, root: Path) -> int:
    """Return the number of examples that the recipe trains on. Reads the data."""
    from lottery.data.holdout import sizes
    from lottery.data.load import load

    spec = recipe.data
    return sizes(len(load(spec.component, root).train_x), spec.validation, spec.limit).train


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
