"""Curves of running trainings as small drawings: points of an svg, in a box of 100 by 30."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lottery.board.live import DRAWN, Point, Progress

WIDTH, HEIGHT = 100.0, 30.0
SHARES, PERCENT = ("validation_accuracy",), " %"
WORDS = {
    "validation_accuracy": "validation accuracy",
    "validation_r2": "validation r²",
    "validation_loss": "validation loss",
    "train_loss": "training loss",
}


@dataclass(frozen=True)
class Curve:
    """A curve.

    Attributes:
        words: What was measured.
        points: Of an svg polyline.
        count: Number of points.
        end: Where the last one is.
        last: The last value in words.
        between: The least and the largest value in words; empty where they are one.
    """

    words: str
    points: str
    count: int
    end: tuple[float, float]
    last: str
    between: str


def drawn(progress: Progress) -> list[Curve]:
    """Return at most two curves: of the validation split's first measure, and of the training loss."""
    measured = [name for name in DRAWN if any(name in values for _, values in progress.curve)]
    names = [name for name in measured if name != "train_loss"][:1] + [
        name for name in measured if name == "train_loss"
    ]
    return [_curve(name, progress.curve, progress.total) for name in names]


def _curve(name: str, points: Sequence[Point], total: int) -> Curve:
    at = [(step, values[name]) for step, values in points if name in values]
    low, high = min(value for _, value in at), max(value for _, value in at)
    last_step = max(total, at[-1][0], 1)
    span = high - low

    def place(step: int, value: float) -> tuple[float, float]:
        share = (value - low) / span if span > 0 else 0.5
        return round(WIDTH * step / last_step, 2), round(1 + (HEIGHT - 2) * (1 - share), 2)

    placed = [place(*each) for each in at]
    return Curve(
        WORDS[name],
        " ".join(f"{x:g},{y:g}" for x, y in placed),
        len(placed),
        placed[-1],
        _told(name, at[-1][1]),
        f"{_told(name, low).removesuffix(PERCENT)} to {_told(name, high)}" if span > 0 else "",
    )


def _told(name: str, value: float) -> str:
    return f"{100 * value:.2f}{PERCENT}" if name in SHARES else f"{value:.3g}"
