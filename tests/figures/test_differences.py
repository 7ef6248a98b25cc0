"""The figure of paired differences: its numbers against scipy, its marks against the verdicts, what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.analysis.views import rows_of
from lottery.cli.main import main
from lottery.errors import UsageError
from lottery.figures import draw, figure_bytes
from lottery.figures.differences import MARKS
from lottery.figures.selection import Selection
from lottery.results.study import Study
from tests.support.studies import Recorded, hand, record

MARGIN = "compare={margin: 1, densities: holm}"
LEVELS = ("prune.levels=4", "seeds=5", "branches=[{name: reinit, samples: 2}]")
MEANS = {1: 0.02, 2: 0.0, 3: -0.012, 4: -0.1}  # of ticket less dense, by level
SPREAD = (-0.004, -0.002, 0.0, 0.003, 0.005)  # by seed


def value(level: int, seed: int) -> float:
    """Of ticket less dense network."""
    return MEANS[level] + SPREAD[(seed + level) % 5]


def study(*overrides: str) -> Study:
    """Tickets that match, are undecided and lose, and win where they stop earlier; controls 3 points below dense."""
    planned = hand(*LEVELS, *overrides)
    found = {}
    for job in planned:
        if job.kind == "rewind":
            continue
        gain = 0.0 if job.kind == "dense" else -0.03 if job.branch else value(job.level, job.seed)
        early = 20 + 10 * (job.seed % 2) if job.kind == "ticket" and job.level == 1 else 50 + 10 * (job.seed % 3)
        dense = 0.8 + 0.01 * job.seed
        found[job.key] = record(job, dense + gain, step=early)
    return Study(planned, found, Recorded(planned))


def axes_of(held: Study, figure: str, **options: Any) -> list[Any]:
    return list(draw(held, figure, **options).axes)


def of(axes: Any, label: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_label() == label]
    return [(float(x), float(y)) for line in lines for x, y in zip(*line.get_data(), strict=True)]


def test_means_intervals_and_seeds_are_the_paired_differences_in_points() -> None:
    (axes,) = axes_of(study(MARGIN), "differences")
    (bars,) = axes.containers
    line, _, (segments,) = bars.lines
    assert list(line.get_xdata()) == [0.5, 0.25, 0.125, 0.0625]
    seen = [[100 * value(level, seed) for seed in range(5)] for level in MEANS]
    assert list(line.get_ydata()) == pytest.approx([np.mean(each) for each in seen])
    for each, segment in zip(seen, segments.get_segments(), strict=True):
        assert segment[:, 1] == pytest.approx(np.array(oracle.ttest_1samp(each, 0).confidence_interval(0.95)))
    points = of(axes, "seeds")
    assert [y for _, y in points] == pytest.approx([y for each in seen for y in each])
    for (x, _), density in zip(points, np.repeat([0.5, 0.25, 0.125, 0.0625], 5), strict=True):
        assert 0.9 * density < x < density  # beside the mean, towards sparser ones
    assert axes.get_ylabel() == "ticket less dense (points)" and axes.get_xscale() == "log"


def test_the_bound_and_the_margin_are_those_that_decide() -> None:
    (axes,) = axes_of(study(MARGIN), "differences")
    seen = [[100 * value(level, seed) for seed in range(5)] for level in MEANS]
    bounds = [oracle.ttest_1samp(each, 0, alternative="greater").confidence_interval(0.95).low for each in seen]
    assert of(axes, "one-sided 95 % bound") == [
        (x, pytest.approx(y)) for x, y in zip([0.5, 0.25, 0.125, 0.0625], bounds, strict=True)
    ]
    assert [y for _, y in of(axes, "margin (1 point)")] == [-1, -1]
    assert [y for _, y in of(axes, "dense")] == [0, 0]


def test_the_mark_of_a_mean_is_its_verdict() -> None:
    made = study(MARGIN)
    verdicts = [row["verdict"] for row in rows_of(made, "verdicts")]
    assert verdicts == ["winning", "matching", "inconclusive", "losing"]
    (axes,) = axes_of(made, "differences")
    for verdict, level in zip(verdicts, MEANS, strict=True):
        (line,) = [line for line in axes.lines if line.get_label() == verdict]
        assert list(line.get_xdata()) == [0.5**level] and line.get_marker() == MARKS[verdict]["marker"]
    made = study(MARGIN)
    gone = next(job.key for job in made.plan if job.kind == "ticket" and job.level == 2)
    made = Study(made.plan, {key: each for key, each in made.found.items() if key != gone}, made.store)
    (axes,) = axes_of(made, "differences")
    assert [x for x, _ in of(axes, "withheld")] == [0.25] and not of(axes, "matching")


def test_without_a_margin_there_is_no_bound_and_no_verdict() -> None:
    (axes,) = axes_of(study(), "differences")
    said = {text.get_text() for text in axes.figure.legends[0].get_texts()}
    assert said == {"dense", "mean, 95 % interval", "seeds"}


def test_columns_that_are_selected_are_drawn_beside_the_ticket_each_with_its_seeds() -> None:
    (axes,) = axes_of(study(MARGIN), "differences", shown=Selection(columns=["ticket", "reinit"]))
    bars = {container.get_label(): container.lines[0] for container in axes.containers}
    assert list(bars) == ["ticket", "reinit"]
    assert list(bars["reinit"].get_ydata()) == pytest.approx([-3] * 4)
    assert len(of(axes, "seeds")) == 2 * 4 * 5
    for one, other in zip(bars["ticket"].get_xdata(), bars["reinit"].get_xdata(), strict=True):
        assert 0.9 * one < other < one  # beside one another
    assert axes.get_ylabel() == "network less dense (points)"
    with pytest.raises(UsageError, match="--columns shuffle: there are ticket, reinit"):
        draw(study(MARGIN), "differences", shown=Selection(columns=["shuffle"]))


def test_the_numbers_are_those_of_the_tables_of_verdicts_and_claims() -> None:
    made = study(MARGIN, "compare.families=all")
    figure = draw(made, "differences", against=["dense", "reinit"])
    for axes, view in zip(list[Any](figure.axes), ("verdicts", "claims"), strict=True):
        rows = rows_of(made, view)
        (bars,) = axes.containers
        line, _, (segments,) = bars.lines
        assert list(line.get_xdata()) == [row["density"] for row in rows]
        assert list(line.get_ydata()) == pytest.approx([100 * row["difference"] for row in rows])
        for segment, row in zip(segments.get_segments(), rows, strict=True):
            assert segment[:, 1] == pytest.approx([100 * row["low"], 100 * row["high"]])
        for row in rows:
            assert [x for x, _ in of(axes, row["verdict"])].count(row["density"]) == 1
    assert [axes.get_ylabel() for axes in figure.axes] == ["ticket less dense (points)", "ticket less reinit (points)"]


def test_seeds_against_a_control_are_paired_with_the_mean_of_its_samples() -> None:
    axes = axes_of(study(MARGIN), "differences", against=["reinit"])[0]
    expected = [100 * (value(level, seed) + 0.03) for level in MEANS for seed in range(5)]
    assert [y for _, y in of(axes, "seeds")] == pytest.approx(expected)
    assert not of(axes, "margin (1 point)")
    with pytest.raises(UsageError, match="--against shuffle: there are dense, ticket, reinit"):
        draw(study(MARGIN), "differences", against=["shuffle"])


def test_intervals_of_two_seeds_do_not_hide_what_was_seen() -> None:
    (axes,) = axes_of(study(MARGIN, "seeds=2"), "differences")
    low, high = axes.get_ylim()
    assert -18 < low < -10 and 2 < high < 10  # seen: -10.4 to 2.5 points; 12.7 standard errors are up to 6


def test_panels_share_their_scale_and_the_legend_lies_inside_the_figure() -> None:
    two = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"
    for overrides, panels in (((MARGIN,), 1), ((MARGIN, two, "rewind=[init, 10it]"), 4)):
        figure = draw(study(*overrides), "differences", shown=Selection(columns=["ticket", "reinit"]))
        figure_bytes(figure, "png")
        assert len(figure.axes) == panels and len({axes.get_ylim() for axes in figure.axes}) == 1
        box, width = figure.legends[0].get_window_extent(), figure.get_size_inches()[0] * figure.dpi
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0
        assert all(box.y1 < axes.get_window_extent().y0 for axes in figure.axes)


def test_nothing_finished_is_said(tmp_path: Path) -> None:
    planned = hand(*LEVELS)
    with pytest.raises(UsageError, match="nothing is finished yet that this figure shows"):
        draw(Study(planned, {}, Recorded(planned)), "differences")


def test_the_command_takes_what_is_subtracted_and_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = study(MARGIN)
    monkeypatch.setattr("lottery.results.sweep.study", lambda *_, **__: made)
    arguments = ["plot", "differences", "quickstart", "-o", str(tmp_path / "a.png"), "--levels", "1-3", "--against"]
    for against, code in (("dense,reinit", 0), ("nothing", 2)):
        monkeypatch.setattr(sys, "argv", ["lottery", *arguments, against])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert "--against nothing: there are dense, ticket, reinit" in capsys.readouterr().err
