"""Pictures of analyses: their data are the measured profiles, holes stay holes, captions say how it was measured."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats as oracle

from lottery.analysis.views import rows_of
from lottery.cli.main import main
from lottery.errors import UsageError
from lottery.figures import figure_bytes
from lottery.figures.analyses import analysis_figure
from lottery.figures.profile_curves import shade
from lottery.figures.sizes import WIDTHS
from lottery.plan.jobs import Job
from lottery.plan.kinds import MEASUREMENT_FILE
from lottery.results.study import Study
from lottery.statistics.network_pairs import seed_values
from tests.support.analyses import ENTRIES
from tests.support.drawn import changed, jobs_of, seen, stored
from tests.support.paper import faults_of_print
from tests.support.plugs import Plugs

PICTURES = ("barrier", "slice", "surface", "plane", "trajectory", "hessian", "sharpness", "signals", "plateaus")
ALL = (*PICTURES, "smoothness", "descent", "errors")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    with pytest.MonkeyPatch.context() as patch:
        Plugs(tmp_path_factory.mktemp("plugs"), patch).load("drawing", ENTRIES)
        yield seen(tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="module")
def drawn(study: Study) -> Callable[[str], Any]:
    """The picture of an analysis as it is without options, drawn once for all tests that look at its texts."""
    return cache(lambda label: analysis_figure(study, label))


def panels(held: Study, label: str, **options: Any) -> dict[str, Any]:
    """The panels by title; those of a second measure have its label behind it."""
    figure: Any = analysis_figure(held, label, **options)
    found: dict[str, Any] = {}
    for axes in figure.axes:
        if title := axes.get_title().replace("\n", " "):  # long ones are broken into lines
            found[title + (f" {axes.get_ylabel()}" if title in found else "")] = axes
    return found


def lines(axes: Any, label: str) -> list[Any]:
    return [line for line in axes.lines if line.get_label() == label]


# Data


def test_a_path_is_the_mean_over_seeds_of_what_was_measured_with_its_t_interval(study: Study) -> None:
    axes = panels(study, "barrier", measures=["test_error"])["adam: dense - ticket"]
    solid, dashed = axes.lines
    for line, band, policy in ((solid, axes.collections[0], "interpolate"), (dashed, axes.collections[1], "reset")):
        profiles = [stored(study, job) for job in jobs_of(study, "barrier", "dense - ticket")]
        seeds = [[100 * row["test_error"] for row in rows if row["bn"] == policy] for rows in profiles]
        assert len(seeds) == 3
        assert list(line.get_xdata()) == [0, 0.25, 0.5, 0.75, 1]
        assert list(line.get_ydata()) == pytest.approx(np.mean(seeds, axis=0))
        interval = oracle.ttest_1samp(np.asarray(seeds), 0, axis=0).confidence_interval(0.95)
        (shape,) = band.get_paths()
        for x, low, high in zip(line.get_xdata(), interval.low, interval.high, strict=True):
            edge = [y for at, y in shape.vertices if at == x]
            assert (min(edge), max(edge)) == pytest.approx((low, high))
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")


def test_pairs_of_seeds_that_share_a_network_are_not_taken_as_independent(study: Study) -> None:
    axes = panels(study, "barrier", measures=["train_loss"])["adam: dense - dense of another seed"]
    values = {}
    for job in jobs_of(study, "barrier", "dense - dense of another seed"):
        seeds = sorted(study.plan.jobs[look.key].seed for look in job.looks)
        (row,) = [r for r in stored(study, job) if (r["bn"], r["alpha"]) == ("interpolate", 0.5)]
        values[seeds[0], seeds[1]] = row["train_loss"]
    assert sorted(values) == [(0, 1), (0, 2), (1, 2)]
    low, high = oracle.ttest_1samp(seed_values(values), 0).confidence_interval(0.95)
    (shape,) = axes.collections[0].get_paths()
    edge = [y for at, y in shape.vertices if at == 0.5]
    assert (min(edge), max(edge)) == pytest.approx((low, high))


def test_slices_of_minima_stand_side_by_side_on_one_scale_with_their_sharpness(study: Study) -> None:
    found = panels(study, "slice")
    worst = {row["networks"]: row for row in rows_of(study, "sharpness")}
    assert len(found) == 3
    for (title, axes), networks in zip(found.items(), ("dense", "ticket", "reinit"), strict=True):
        assert networks in title and f"worst case {worst[networks]['worst_case']:.3g} ± " in title
        for job in jobs_of(study, "slice", networks):
            (line,) = lines(axes, f"seed {job.seed}")
            grid = [row for row in stored(study, job) if row["kind"] == "grid"]
            assert list(line.get_xdata()) == [row["x"] for row in grid]
            assert list(line.get_ydata()) == [row["train_loss"] for row in grid]
            assert line.get_linestyle() == "-"
    assert len({axes.get_xlim() for axes in found.values()}) == len({axes.get_ylim() for axes in found.values()}) == 1


@pytest.mark.parametrize("label", ["surface", "plane", "trajectory"])
def test_a_plane_has_the_value_of_each_point_at_its_place_and_the_states(study: Study, label: str) -> None:
    job = jobs_of(study, label, seed=1)[0]
    rows = stored(study, job)
    policy = "interpolate" if label == "surface" else "reset"
    found = panels(study, label, seed=1)
    assert len(found) == (2 if label == "surface" else 1)
    axes = next(axes for title, axes in found.items() if policy in title or len(found) == 1)
    mesh = axes.collections[0]
    values, corners = mesh.get_array(), mesh.get_coordinates()
    grid = [row for row in rows if row["kind"] == "grid" and row["bn"] == policy]
    assert values.size == len(grid) == 16
    for row in grid:
        across = [i for i in range(4) if corners[0, i, 0] <= row["x"] <= corners[0, i + 1, 0]]
        up = [i for i in range(4) if corners[i, 0, 1] <= row["y"] <= corners[i + 1, 0, 1]]
        assert values[up[0], across[0]] == row["train_loss"]
    states = [(row["x"], row["y"]) for row in rows if row["kind"] == "state" and row["bn"] == policy]
    marks = [tuple(point) for line in axes.lines for point in zip(*line.get_data(), strict=True)]
    assert marks[: len(states)] == states
    if label == "plane":
        assert [line.get_label() for line in axes.lines] == ["dense", "ticket", "pruned"]
    if label == "trajectory":
        (first, _) = [row["explained"] for row in rows if row["kind"] == "component"][:2]
        assert axes.get_xlabel() == f"component 1 ({100 * first:.3g} %)"


def test_a_spectrum_is_the_measured_density_on_log_axes_with_the_eigenvalues_below(study: Study) -> None:
    (axes,) = panels(study, "hessian").values()
    rows = stored(study, jobs_of(study, "hessian", seed=0)[0])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    solid, dashed = [line for line in axes.lines if len(line.get_xdata()) > 10]
    for line, sign in ((solid, 1), (dashed, -1)):
        points = sorted(
            (abs(row["eigenvalue"]), row["spectral_density"])
            for row in rows
            if row["kind"] == "density" and sign * row["eigenvalue"] > 0
        )
        assert [tuple(point) for point in zip(*line.get_data(), strict=True)] == points
    eigenvalues = [row["eigenvalue"] for row in rows if row["kind"] == "eigenvalue"]
    ticks = {
        float(x): line.get_markerfacecolor() == "white"
        for line in axes.lines
        if line.get_marker() not in ("None", "") and len(line.get_xdata())
        for x in line.get_xdata()
    }
    assert ticks == {abs(value): value < 0 for value in eigenvalues}


def test_signals_are_means_over_seeds_by_layer_on_a_log_axis(study: Study) -> None:
    variance, gradient = panels(study, "signals").values()
    profiles = [stored(study, job) for job in jobs_of(study, "signals")]
    for axes, measure in ((variance, "variance"), (gradient, "gradient")):
        (line,) = lines(axes, "step 12")
        expected = [[row[measure] for row in rows if row["step"] == 12] for rows in profiles]
        assert list(line.get_ydata()) == pytest.approx(np.mean(expected, axis=0))
        assert axes.get_yscale() == "log"
    names = [row["layer"] for row in profiles[0] if row["step"] == 0]
    assert [text.get_text() for text in variance.get_xticklabels()] == names


def test_marks_along_a_training_are_filled_where_the_curvature_is_not_positive(study: Study) -> None:
    def positive(job: Job, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "smallest": 0.5} if row.get("step") == 6 else row

    norm, _ = panels(changed(study, "plateaus", positive), "plateaus", seed=0).values()
    rows = stored(study, jobs_of(study, "plateaus", seed=0)[0])
    (whole,) = lines(norm, "seed 0")
    assert list(whole.get_xdata()) == [0, 6, 12] and whole.get_markerfacecolor() == "white"
    assert list(whole.get_ydata()) == [row["gradient_norm"] for row in rows]
    filled = norm.lines[norm.lines.index(whole) + 1]
    assert list(filled.get_xdata()) == [row["step"] for row in rows if row["smallest"] <= 0 and row["step"] != 6]


def test_a_seed_whose_ascent_fell_short_is_hollow_and_the_row_has_a_note(study: Study) -> None:
    def short(job: Job, row: dict[str, Any]) -> dict[str, Any]:
        if job.seed == 1 and row.get("kind") == "worst_case":
            return {**row, "rise": 0.5 * row["quadratic"]}
        return {**row, "ascent_reached": 0.5 if job.seed == 1 else 1.5} if "ascent_reached" in row else row

    held = changed(study, "sharpness", short)
    worst, _ = panels(held, "sharpness").values()
    hollow = {seed: [line.get_markerfacecolor() == "white" for line in lines(worst, f"seed {seed}")] for seed in (0, 1)}
    assert hollow[1] == [True] * 3
    notes = [row["note"] for row in rows_of(held, "sharpness")]
    said = "ascent_reached is below 1 in 1 of 3: the ascent failed, or the loss grows slower than its quadratic model"
    assert all(said in note for note in notes)
    assert [line.get_ydata()[0] for line in lines(worst, "seed 0")] == [
        stored(held, job)[0]["rise"] for job in jobs_of(held, "sharpness", seed=0)
    ]


def test_loss_and_gradient_are_drawn_along_a_training_without_marks_of_curvature(study: Study) -> None:
    loss, gradient = panels(study, "descent", seed=0).values()
    rows = stored(study, jobs_of(study, "descent", seed=0)[0])
    for axes, measure in ((loss, "loss"), (gradient, "gradient_norm")):
        (whole,) = lines(axes, "seed 0")
        assert list(whole.get_xdata()) == [0, 6, 12] and list(whole.get_ydata()) == [row[measure] for row in rows]
        assert axes.get_yscale() == "log" and all(line.get_linestyle() != "None" for line in axes.lines)


def test_measures_are_chosen_by_name(study: Study) -> None:
    (axes,) = panels(study, "smoothness", measures=["gradient_change"]).values()
    assert axes.get_ylabel() == "change of the gradient"
    (line,) = lines(axes, "at step 0")
    rows = [[r["gradient_change"] for r in stored(study, j)[:3]] for j in jobs_of(study, "smoothness")]
    assert list(line.get_ydata()) == pytest.approx(np.mean(rows, axis=0))


def test_the_three_errors_stand_side_by_side_and_their_sum_is_the_measured_test_value(study: Study) -> None:
    loss, error = panels(study, "errors").values()
    table = {row["networks"]: row for row in rows_of(study, "errors")}
    assert [text.get_text() for text in loss.get_xticklabels()] == [
        "dense\n100 %", "ticket\nlevel 1, 50 %", "reinit\nlevel 1, 50 %"
    ]  # fmt: skip
    for axes, measure, factor in ((loss, "loss", 1), (error, "error", 100)):
        for name in ("representation", "optimization", "generalization"):
            means = [line.get_ydata()[0] for line in lines(axes, name)]
            assert means == pytest.approx([factor * row[f"{measure}_{name}"] for row in table.values()])
        sums = [line.get_ydata()[0] for line in lines(axes, "their sum: the test value")]
        tested = [[factor * _value(study, job, f"test_{measure}") for job in jobs_of(study, "errors", networks)]
                  for networks in table]  # fmt: skip
        assert sums == pytest.approx([np.mean(values) for values in tested])
        gap = [
            factor * (_value(study, job, f"test_{measure}") - _value(study, job, f"train_{measure}"))
            for job in jobs_of(study, "errors", "ticket")
        ]
        low, high = oracle.ttest_1samp(gap, 0).confidence_interval(0.95)
        bars = [tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2]
        assert any(bar == pytest.approx((low, high)) for bar in bars)
    assert error.get_ylabel() == "part of the test error (%)"
    only = panels(study, "errors", measures=["error"])
    assert [axes.get_ylabel() for axes in only.values()] == ["part of the test error (%)"]


def _value(study: Study, job: Job, name: str) -> float:
    return float(study.store.read_json(job.key, MEASUREMENT_FILE)["values"][name])


# Holes


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_point_that_is_not_finite_in_one_seed_is_a_hole_of_the_mean(study: Study, bad: float) -> None:
    def lost(job: Job, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "test_error": bad} if job.seed == 2 and row.get("alpha") == 0.5 else row

    held = changed(study, "barrier", lost)
    axes = panels(held, "barrier", measures=["test_error"])["adam: dense - ticket"]
    for line in axes.lines:
        assert [math.isnan(y) for y in line.get_ydata()] == [False, False, True, False, False]
        assert line.get_marker() not in ("None", "")  # a point between two holes is seen
    for band in axes.collections:
        assert not any(np.any(path.vertices[:, 0] == 0.5) for path in band.get_paths())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_hole_in_a_plane_is_left_out_and_its_neighbours_are_as_measured(study: Study, bad: float) -> None:
    rows = [row for row in stored(study, jobs_of(study, "plane", seed=0)[0]) if row["kind"] == "grid"]
    x, y = sorted({row["x"] for row in rows})[1], sorted({row["y"] for row in rows})[2]

    def lost(job: Job, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "train_loss": bad} if (row.get("kind"), row.get("x"), row.get("y")) == ("grid", x, y) else row

    held = changed(study, "plane", lost)
    (axes,) = panels(held, "plane").values()
    values = axes.collections[0].get_array()
    assert np.ma.getmaskarray(values).sum() == 1 and bool(np.ma.getmaskarray(values)[2, 1])
    known = sorted(row["train_loss"] for row in rows if (row["x"], row["y"]) != (x, y))
    assert sorted(values.compressed()) == known
    assert axes.patch.get_hatch()
    (solid,) = panels(held, "plane", solid=True).values()
    (squares,) = solid.collections
    assert len(squares.get_array()) == 9 - 4  # all but those that touch the point


def test_a_slice_breaks_at_a_hole(study: Study) -> None:
    def lost(job: Job, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "train_loss": math.nan} if row.get("kind") == "grid" and row["x"] == 0 else row

    for axes in panels(changed(study, "slice", lost), "slice").values():
        for seed in (0, 1, 2):
            assert [math.isnan(y) for y in lines(axes, f"seed {seed}")[0].get_ydata()] == [0, 0, 1, 0, 0]


# Captions and files


@pytest.mark.parametrize("label", ALL)
def test_captions_say_scale_policy_data_and_mode_in_the_picture(drawn: Callable[[str], Any], label: str) -> None:
    figure = drawn(label)
    text = figure.get_label()
    parts = re.fullmatch(r"(\w+): .+ Scale: .+\. Batch norm: .+\. Data: .+\. Mode: .+\.", text)
    assert parts is not None and parts[1] == label
    assert "digits, " in text and " part, " in text and "no dropout, no augmentation" in text
    assert " ".join(figure.get_suptitle().split()) == text


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS.values())
@pytest.mark.parametrize("label", ALL)
def test_a_picture_is_as_wide_as_a_paper_has_it_and_all_of_it_can_be_read(
    study: Study, label: str, width: float
) -> None:
    assert faults_of_print(analysis_figure(study, label, width=width), width) == []


def test_each_file_has_the_caption_inside_and_a_report_puts_it_below(study: Study) -> None:
    figure: Any = analysis_figure(study, "plane")
    text = figure.get_label()
    assert Image.open(BytesIO(figure_bytes(figure, "png"))).info["Description"] == text
    assert f"<dc:description>{text.replace('<', '&lt;')}</dc:description>" in figure_bytes(figure, "svg").decode()
    assert f"/Subject ({text})".encode() in re.sub(rb"\\(.)", rb"\1", figure_bytes(figure, "pdf"))
    bare: Any = analysis_figure(study, "plane", captioned=False)
    assert bare.get_label() == text and not bare.get_suptitle()


def test_captions_tell_what_was_asked_for(study: Study, drawn: Callable[[str], Any]) -> None:
    said = {label: str(drawn(label).get_label()) for label in ALL}
    assert "train and test part, all examples" in said["barrier"]
    assert "interpolate: running statistics combined" in said["barrier"] and "reset: statistics" in said["barrier"]
    assert "train part, the first 64 examples" in said["plane"] and "L2 distances" in said["plane"]
    assert "filter by filter" in said["surface"] and "the first 64 examples" in said["surface"]
    assert "batch: statistics of each batch" in said["smoothness"]
    assert "evaluation but for normalizations" in said["smoothness"]
    only: Any = analysis_figure(study, "slice", measures=["test_loss"])
    assert "test part" in only.get_label() and "train" not in only.get_label().partition("Data: ")[2]


def test_one_study_gives_the_same_bytes(study: Study) -> None:
    one, other = analysis_figure(study, "trajectory"), analysis_figure(study, "trajectory")
    for form in ("svg", "pdf", "png"):
        assert figure_bytes(one, form) == figure_bytes(other, form)


def test_bytes_do_not_depend_on_what_was_saved_before(study: Study) -> None:
    def figure() -> Any:
        return analysis_figure(study, "plane", solid=True)

    alone = {form: figure_bytes(figure(), form) for form in ("png", "svg")}
    one = figure()
    assert [figure_bytes(one, form) == alone[form] for form in ("png", "svg", "png")] == [True] * 3


@pytest.mark.parametrize("label", ALL)
def test_neither_caption_nor_legend_is_cut_off_or_covers_a_panel(drawn: Callable[[str], Any], label: str) -> None:
    figure = drawn(label)
    figure.draw_without_rendering()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    above = figure._suptitle.get_window_extent()
    assert above.x0 >= 0 and above.x1 <= figure.bbox.x1 and above.y1 <= figure.bbox.y1 + 1
    assert all(above.y0 >= box.y1 for box in boxes)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and all(box.y1 <= other.y0 for other in boxes)


def test_shades_are_told_apart_in_grey() -> None:
    def grey(style: dict[str, Any]) -> float:
        return float(np.dot(style["color"][:3], [0.299, 0.587, 0.114]))

    for count in (2, 3, 5):
        styles = [shade(number, count) for number in range(count)]
        steps = np.diff([grey(style) for style in styles])
        assert np.all(steps > 0.4 / count) and len({style["marker"] for style in styles}) == count


# What is refused


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        ("errors", {"measures": ["test_loss"]}, "measure 'test_loss': there are loss, error"),
        ("bariere", {}, "has no analysis 'bariere'; there are barrier, slice"),
        ("gap", {}, "the analysis gap has no profile; lottery table --view gap has its numbers"),
        ("walk", {}, "the analysis walk has no picture: its profile has step"),
        ("barrier", {"measures": ["loss"]}, "measure 'loss': there are alpha, "),
        ("plane", {"measures": ["bn"]}, "measure 'bn': there are x, y"),
        ("plane", {"measures": ["train_loss", "test_loss"]}, "a plane shows one measure"),
        ("plane", {"seed": 7}, "seed 7: the analysis plane is finished for 0, 1, 2"),
        ("slice", {"solid": True}, "the analysis slice has slices of one dimension; leave --3d out"),
        ("barrier", {"solid": True}, "only planes are drawn with --3d"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    study: Study, label: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as refused:
        analysis_figure(study, label, **options)
    assert "\n" not in str(refused.value)


def test_nothing_measured_yet_is_said_in_one_line(study: Study) -> None:
    empty = Study(study.plan, study.found, study.store)
    from lottery.analysis import measurements

    empty.made[measurements.measured.__wrapped__] = {}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="nothing of the analysis plane is finished yet; lottery run does so"):
        analysis_figure(empty, "plane")


def test_the_command_draws_into_files_and_refuses_with_code_2(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lottery.results.study.study", lambda *_, **__: study)
    monkeypatch.chdir(tmp_path)
    for argv, code in (
        (["--view", "plane", "--3d", "-o", "a.svg", "-o", "a.png"], 0),
        (["--view", "signals"], 0),
        (["--view", "none"], 2),
    ):
        monkeypatch.setattr(sys, "argv", ["lottery", "plot", "analysis", "quickstart", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
    out = capsys.readouterr()
    assert out.out == "a.svg\na.png\nquickstart-signals.png\n" and out.err.count("\n") == 1
    assert (tmp_path / "a.svg").read_bytes() == figure_bytes(analysis_figure(study, "plane", solid=True), "svg")
