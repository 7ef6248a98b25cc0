"""Pictures of what analyses measured: which kind of picture a profile has, and the caption that says how it was made.

The columns of a profile say what it is, so that an analysis of a plugin is drawn as one of this package is.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from lottery import registry
from lottery.analysis.measurements import analysis_named
from lottery.analysis.profiles import finished_cells, profiles
from lottery.analysis.three_errors import MEASURES
from lottery.errors import UsageError
from lottery.figures.drawing import Drawn, Request, arguments_of, check_measures, columns, numbers
from lottery.figures.selection import ALL, Selection
from lottery.figures.style import put_caption
from lottery.values import PARTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lottery.analysis.profiles import Profiles
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.results.study import Study


class PictureKind(NamedTuple):
    """A kind of picture.

    Attributes:
        columns: The columns of the profiles that it is for.
        function: What draws it, `module:name`.
        measures: The columns that it shows where none are asked for, those that the profile has.
        most: Number of measures that are shown where none are asked for.
    """

    columns: tuple[str, ...]
    function: str
    measures: tuple[str, ...] = ()
    most: int = 2


_ON_PATHS = ("test_error", "train_loss", "validation_error", "train_error", "validation_loss", "test_loss")
_ON_PLANES = ("train_loss", "validation_loss", "test_loss")
PLANES = "lottery.figures.planes:plane_figure"
KINDS = (
    PictureKind(("bn", "alpha"), "lottery.figures.paths:path_figure", _ON_PATHS),
    PictureKind(("bn", "t"), "lottery.figures.paths:path_figure", _ON_PATHS),
    PictureKind(("kind", "bn", "x", "y"), PLANES, _ON_PLANES, most=1),
    PictureKind(("block", "rank", "eigenvalue"), "lottery.figures.spectra:spectrum_figure"),
    PictureKind(("layer", "depth"), "lottery.figures.along_trainings:layers_figure", ("variance", "gradient")),
    PictureKind(("step", "smallest"), "lottery.figures.along_trainings:training_figure", ("gradient_norm", "smallest")),
    PictureKind(("training_step", "step"), "lottery.figures.along_trainings:step_sizes_figure", ("loss", "beta")),
    PictureKind(
        ("step", "loss", "gradient_norm"), "lottery.figures.along_trainings:training_figure", ("loss", "gradient_norm")
    ),
    PictureKind(("kind", "rise", "quadratic"), "lottery.figures.minima:rises_figure"),
    PictureKind(("index", "loss", "count"), "lottery.figures.minima:critical_points_figure"),
)
# by the trait `adds_up`: its values are in the table, and no profile
THREE_ERRORS = PictureKind((), "lottery.figures.three_errors:three_errors_figure", MEASURES)


def analysis_figure(
    study: Study,
    label: str,
    *,
    measures: Sequence[str] = (),
    seed: int | None = None,
    solid: bool = False,
    captioned: bool = True,
    shown: Selection = ALL,
    width: float | None = None,
) -> Figure:
    """Draw what an analysis of a study measured; values that are not finite are holes.

    The caption is the figure's label, from which files take what they say of themselves.

    Args:
        study: The study.
        label: The name of the analysis' table.
        measures: Columns of the profile, or `loss` or `error` of the three errors, in place of those by default.
        seed: The seed that is drawn where a picture shows one network; the first that is finished where none is given.
        solid: Draw planes as surfaces in three dimensions.
        captioned: Write the caption above the panels as well.
        shown: The optimizers and levels that are drawn.
        width: The figure's width in inches, see `sizes.width_of`.

    Raises:
        UsageError: The recipe has no such analysis, none of it is finished, it has no picture, no such measure, or
            nothing that is selected.
    """
    analysis = analysis_named(study, label)
    if registry.analyses[analysis.name].traits.adds_up:
        cells, kind = _selected(study, finished_cells(study, label), shown), THREE_ERRORS
        chosen = check_measures(measures, MEASURES, kind.measures)
    else:
        cells = _selected(study, profiles(study, label), shown)
        kind = _kind(analysis, cells)
        chosen = check_measures(measures, numbers(cells), kind.measures)
    seeds = dict.fromkeys(each.job.seed for cell in cells for each in cell.found)
    if seed is not None and seed not in seeds:
        raise UsageError(f"seed {seed}: the analysis {label} is finished for {', '.join(map(str, seeds))}")
    wanted = chosen if measures else chosen[: kind.most]
    request = Request(study, analysis, cells, wanted, next(iter(seeds)) if seed is None else seed, solid, width)
    if solid and kind.function != PLANES:
        raise UsageError(f"the analysis {label} has no planes, and only planes are drawn with --3d")
    module, _, function = kind.function.partition(":")
    drawn: Drawn = getattr(importlib.import_module(module), function)(request)
    drawn.figure.set_label(caption(request, drawn))
    if captioned:
        put_caption(drawn.figure)
    return drawn.figure


def _selected(study: Study, cells: Sequence[Profiles], shown: Selection) -> list[Profiles]:
    """Return the cells of the optimizers and levels that are selected.

    Raises:
        UsageError: There are none.
    """
    optimizers, (levels,) = shown.optimizers_of([study]), shown.levels_of([study])
    every = not (shown.levels or shown.densities)
    found = [cell for cell in cells if cell.head["optimizer"] in optimizers and (every or cell.level in levels)]
    if not found:
        there = dict.fromkeys(f"{cell.head['optimizer']} level {cell.level}" for cell in cells)
        raise UsageError(f"nothing that is selected is finished; there are {', '.join(there)}")
    return found


def _kind(analysis: AnalysisSpec, cells: Sequence[Profiles]) -> PictureKind:
    there = columns(cells)
    for kind in KINDS:
        if all(name in there for name in kind.columns):
            return kind
    raise UsageError(
        f"the analysis {analysis.label} has no picture: its profile has {', '.join(there)};"
        f" lottery table --view {analysis.label} --profile has its numbers"
    )


def caption(request: Request, drawn: Drawn) -> str:
    """Return what a picture shows, its scale, its policy for running statistics, its data and its mode."""
    parts = drawn.parts or [
        part for part in PARTS if any(measure.startswith(f"{part}_") for measure in request.measures)
    ]
    return (
        f"{request.analysis.label}: {drawn.shows} Scale: {drawn.scale}. Batch norm: {statistics_said(request)}."
        f" Data: {data_said(request.study, request.analysis, parts)}. Mode: {mode_said(request.analysis)}."
    )


POLICIES = {
    "interpolate": "running statistics combined as the weights are",
    "reset": "statistics measured anew at each point over the training examples",
    "none": "the network has no running statistics",
    "running": "running statistics of the state, where the network has some",
    "batch": "statistics of each batch, as in training, where the network has some",
}


def statistics_said(request: Request) -> str:
    """Return the policies for running statistics that the values were measured under."""
    rows = [row for cell in request.cells for each in cell.found for row in each.profile]
    policies = dict.fromkeys(str(row["bn"]) for row in rows if "bn" in row)
    arguments = arguments_of(request.analysis)
    if not policies:
        policies = {arguments.get("statistics", "running"): None}
    return "; ".join(f"{name}: {POLICIES.get(name, name)}" for name in policies)


def data_said(study: Study, analysis: AnalysisSpec, parts: Sequence[str]) -> str:
    """Return the data set, the parts of it, the training data where none are named, and the number of examples."""
    examples = arguments_of(analysis).get("examples")
    many = "all examples" if examples is None else f"the first {examples:,} examples (all where there are fewer)"
    return f"{study.recipe.data.name}, {' and '.join(parts or PARTS[:1])} part, {many}"


def mode_said(analysis: AnalysisSpec) -> str:
    """Return the mode that networks are in while they are measured."""
    if arguments_of(analysis).get("statistics") == "batch":
        return "evaluation but for normalizations (no dropout, no augmentation)"
    return "evaluation (no dropout, no augmentation)"
