"""What a picture of an analysis is asked for and what its drawing says of itself, shared by all kinds of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lottery import registry
from lottery.analysis.labels import whose
from lottery.errors import UsageError
from lottery.figures.style import label_up

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.analysis.measurements import Measured
    from lottery.analysis.profiles import Profiles
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.results.study import Study
    from lottery.values import Part

T = TypeVar("T")
K = TypeVar("K")
HOLE = math.nan  # what is drawn of a value that is not finite: nothing, and no line across it
MOST_NAMES = 14  # labels of layers along an axis


@dataclass(frozen=True)
class Request:
    """A picture that is asked for.

    Attributes:
        study: The study.
        analysis: The analysis.
        cells: Its profiles.
        measures: The columns of the profile that are drawn.
        seed: The seed that is drawn where a picture shows one network or one pair.
        solid: Draw planes as surfaces in three dimensions.
        width: The figure's width in inches, see `sizes.width_of`.
    """

    study: Study
    analysis: AnalysisSpec
    cells: Sequence[Profiles]
    measures: Sequence[str]
    seed: int
    solid: bool = False
    width: float | None = None

    @property
    def regression(self) -> bool:
        """True if the networks predict numbers, so that errors are shares of the variance and no percentages."""
        return any("test_r2" in (record.at("end") or {}) for record in self.study.found.values())

    def factor(self, measure: str) -> float:
        """Return what values of a measure are multiplied with: errors of classes are told in percent."""
        return 100.0 if measure.endswith("_error") and not self.regression else 1.0

    def axis(self, measure: str) -> str:
        """Return the label of the axis of a measure."""
        words = measure.replace("_", " ")
        if not measure.endswith("_error"):
            return words
        return f"{words} (1 - r2)" if self.regression else f"{words} (%)"

    def one(self, cell: Profiles) -> Measured | None:
        """Return the first finished measurement of a cell with the seed that is drawn; None where there is none."""
        return next((each for each in cell.found if each.job.seed == self.seed), None)


@dataclass(frozen=True)
class Drawn:
    """A picture, and what its caption says of it.

    Attributes:
        figure: The figure.
        shows: What it shows, in sentences.
        scale: Its axes: units, logarithms, what one unit along a direction is.
        parts: Parts of the data that its values are measured on, where the names of the measures do not say so.
    """

    figure: Figure
    shows: str
    scale: str
    parts: Sequence[Part] = ()


def arguments_of(analysis: AnalysisSpec) -> dict[str, Any]:
    """Return all arguments of an analysis, those by default included."""
    return registry.analyses[analysis.name].all_arguments(analysis.component.args)


def title(cell: Profiles, *, density: bool = True) -> str:
    """Return the title of a panel: optimizer, networks and density, which `density` may leave out."""
    known = f" ({percent(cell.density)})" if density and cell.density is not None else ""
    return f"{whose(cell.head)}: {cell.networks}{known}"


def percent(density: float | None) -> str:
    """Return a density as legends tell it."""
    return "unknown density" if density is None else f"{100 * density:.3g} % of the weights"


def finite(value: Any) -> float:
    """Return a number, or a hole where it is not finite."""
    number = float(value)
    return number if math.isfinite(number) else HOLE


def mean(values: Iterable[float]) -> float:
    """Return the mean of values, a hole where one of them is none: a mean of the others would be of other networks."""
    known = list(values)
    return finite(math.fsum(known) / len(known)) if known and all(map(math.isfinite, known)) else HOLE


def labels_of_axis(every: Sequence[Axes], y_label: str) -> None:
    """Label the y axis of the panels in the first column; the others share it."""
    for axes in every:
        spot = axes.get_subplotspec()
        if spot is not None and spot.is_first_col():
            label_up(axes, y_label)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return items by a key, in the order in which they come."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def columns(cells: Sequence[Profiles]) -> list[str]:
    """Return the names of the columns of profiles, in the order in which they come."""
    return list(dict.fromkeys(name for cell in cells for each in cell.found for row in each.profile for name in row))


def numbers(cells: Sequence[Profiles]) -> list[str]:
    """Return the names of the columns of profiles that have numbers, in the order in which they come."""
    rows = [row for cell in cells for each in cell.found for row in each.profile]
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, (int, float))))


def check_measures(measures: Sequence[str], known: Sequence[str], default: Sequence[str]) -> list[str]:
    """Return the measures that are asked for; where none are, those by default that are known.

    Raises:
        UsageError: A measure is not known.
    """
    for name in measures:
        if name not in known:
            raise UsageError(f"measure {name!r}: there are {', '.join(known)}")
    return list(measures) or [name for name in default if name in known]
