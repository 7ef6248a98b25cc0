"""What stands for what: the colour, mark and dashes of optimizers, controls and studies.

They come from the whole recipe and not from what a figure shows of it, so that one thing looks the same in all panels
of a figure, in all figures of a study, and where only some are selected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import optimizer_labels
from lottery.figures.style import MARKERS, line_style

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

Style = Mapping[str, Any]  # keywords of `Axes.plot`
STRIPES = ((4, 4), (2, 2), (7, 7), (4, 4, 1, 4))  # on and off, in widths of the line


def column_names(recipe: Recipe) -> list[str]:
    """Return the columns that a recipe has beside the dense network: the ticket and the controls."""
    return ["ticket", *dict.fromkeys(branch.label for branch in recipe.branches)]


def optimizer_styles(recipe: Recipe) -> dict[str, Style]:
    """Return the style of each optimizer by its label."""
    return styles(optimizer_labels(recipe.train.optimizer))


def column_styles(recipe: Recipe) -> dict[str, Style]:
    """Return the style of the ticket and of each control by its label; the dense network is black."""
    return styles(column_names(recipe))


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return a style for each name, by its place."""
    return {name: line_style(place) for place, name in enumerate(names)}


def pair_style(one: Style, other: Style, number: int) -> Style:
    """Return the style of a pair: a line striped in the colours of both, and marks that are half and half.

    Args:
        one: The style of the first.
        other: The style of the second.
        number: The number of the pair, which says its mark and the length of its stripes.
    """
    return {
        **one,
        "linestyle": (0, STRIPES[number // len(MARKERS) % len(STRIPES)]),
        "gapcolor": other["color"],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 4.5,
        "fillstyle": "left",
        "markerfacecoloralt": other["color"],
        "markeredgewidth": 0.0,
    }
