"""What makes a figure unfit for a paper."""

from __future__ import annotations

from typing import Any

from matplotlib.text import Text

from lottery.figures.sizes import LEAST


def faults_of_print(figure: Any, inches: float) -> list[str]:
    """What makes a figure unfit for print at this width: letters too small, words cut off, a legend over a panel."""
    figure.draw_without_rendering()
    canvas, found = figure.bbox, []
    if abs(figure.get_figwidth() - inches) > 1e-9:
        found.append(f"is {figure.get_figwidth()} wide")
    written = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    small = [text for text in written if text.get_fontsize() < LEAST]
    found += [f"{text.get_text()!r} has {text.get_fontsize()} points" for text in small]
    beside = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for part in [*figure.axes, *beside]:
        box = part.get_window_extent() if part in beside else part.get_tightbbox()
        if box.x0 < -1 or box.x1 > canvas.x1 + 1 or box.y0 < -1 or box.y1 > canvas.y1 + 1:
            found.append(f"{part} is cut off")
    for legend in figure.legends:
        top = legend.get_window_extent().y1
        found += ["the legend covers a panel" for axes in figure.axes if axes.get_tightbbox().y0 < top - 1]
    return found
