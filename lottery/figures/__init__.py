"""The figures of a study by name; matplotlib is imported when one is drawn, without a display."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lottery.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lottery.results.study import Study


class FigureEntry(NamedTuple):
    """One of the figures.

    Attributes:
        function: The function that draws it, as `module:name`.
        shows: What it shows, in a few words.
        caption: Its caption in a paper.
        several: True if it shows several studies at once.
    """

    function: str
    shows: str
    caption: str
    several: bool = False


UNDATED = {"svg": "Date", "pdf": "CreationDate"}  # metadata that would make two files of one figure different
CAPTIONED = {"svg": "Description", "pdf": "Subject", "png": "Description"}  # metadata that has a figure's caption
DOTS = 300  # of a png, in an inch of the printed figure
_DENSITIES, _TRAININGS = "lottery.figures.densities", "lottery.figures.trainings"
FIGURES = {
    "accuracy": FigureEntry(
        f"{_DENSITIES}:accuracy",
        "test accuracy against density",
        "Test accuracy against density: means over seeds with 95 % t intervals; the dense network is the band.",
        several=True,
    ),
    "differences": FigureEntry(
        "lottery.figures.differences:differences_figure",
        "ticket less dense accuracy (or less a control's), paired by seed, with the bound and the verdicts",
        "Ticket less dense test accuracy, paired by seed: mean with its two-sided t interval, seeds faint; below it the"
        " one-sided lower bound that is held against the margin. The mark of a mean is its verdict.",
        several=True,
    ),
    "early_stop": FigureEntry(
        f"{_DENSITIES}:early_stop",
        "early-stop step against density",
        "Step of the lowest validation loss against density: means over seeds with 95 % t intervals; hollow where a"
        " training was still improving at its end.",
        several=True,
    ),
    "layers": FigureEntry(
        f"{_DENSITIES}:layers",
        "density of each layer over the levels",
        "Density of each layer of the tickets, mean over seeds, against that of the whole network.",
    ),
    "overlap": FigureEntry(
        "lottery.figures.overlaps:overlap",
        "overlap of masks against chance",
        "Share of surviving weights that the masks of two tickets have in common; dotted what chance gives for masks of"
        " these layer densities. The curve of two optimizers is striped in the colours of both.",
    ),
    "curves": FigureEntry(
        f"{_TRAININGS}:curves",
        "learning curves of each level",
        "Learning curves: means over the seeds that got to each step; levels from dark to light.",
    ),
    "weights": FigureEntry(
        f"{_TRAININGS}:weights",
        "weights at the start and at the end of training",
        "Weights of the first seed's sparsest ticket where its training starts and where it ends, by layer.",
    ),
    "transfer": FigureEntry(
        "lottery.figures.transfers:transfer",
        "tickets found with one optimizer, retrained with another",
        "Mean test accuracy of tickets found with one optimizer and retrained with another; hatched where all trainings"
        " diverged.",
    ),
}


def draw(study: Study | Sequence[tuple[str, Study]], name: str, **options: Any) -> Figure:
    """Draw one of FIGURES.

    Args:
        study: The study; or several with their labels, see `lottery.results.several`.
        name: The figure's name.
        **options: Options of its function beside the studies.

    Raises:
        UsageError: There is no such figure, it shows no several studies, or they have nothing to draw in it.
    """
    if name not in FIGURES:
        raise UsageError(f"figure {name!r}: there are {', '.join(FIGURES)}")
    entry = FIGURES[name]
    studies = list(study) if isinstance(study, Sequence) else [("", study)]
    if len(studies) > 1 and not entry.several:
        those = ", ".join(other for other, each in FIGURES.items() if each.several)
        raise UsageError(
            f"figure {name!r}: shows one study, of a sweep one --point; of several at once there are {those}"
        )
    module, _, function = entry.function.partition(":")
    drawing = getattr(importlib.import_module(module), function)
    figure: Figure = drawing(studies if entry.several else studies[0][1], **options)
    return figure


def figure_bytes(figure: Figure, form: str, letters: bool = False) -> bytes:
    """Return the figure as svg, pdf or png, with its caption inside the file; the same bytes for the same figure.

    With `letters` an svg has its text as text, in a font of the reader's, and not as curves: a third of the size.

    The caption is the figure's label; a figure without one has none in the file. The figure's layout is settled by the
    first call, and stays as it is.
    """
    import matplotlib

    about: dict[str, str | None] = {}
    if form in UNDATED:
        about[UNDATED[form]] = None
    if caption := str(figure.get_label()):
        about[CAPTIONED[form]] = caption
    if (layout := figure.get_layout_engine()) is not None:
        # each drawing starts from the layout of the one before, so that bytes would depend on what was saved earlier
        layout.execute(figure)
        with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)  # not "none", for which it would be drawn once more before it is saved
    content = io.BytesIO()
    style: Any = {"svg.hashsalt": "lottery", "pdf.fonttype": 42}  # publishers refuse fonts of type 3
    if letters:
        style |= {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}
    with matplotlib.rc_context(style):
        figure.savefig(content, format=form, dpi=DOTS, metadata=about or None)
    return content.getvalue()
