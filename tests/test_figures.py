"""`lottery plot` of a study: the numbers behind the marks, the axes, and what a figure refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle
from studies import Recorded, dense, everything, hand, made, ticket

from lottery.cli import main
from lottery.errors import UsageError
from lottery.figures import FIGURES, draw, drawn
from lottery.figures.style import density_axis, line_style, panels
from lottery.levels import read_state
from lottery.plan import Plan
from lottery.recipe import parse_recipe
from lottery.record import records
from lottery.study import Study
from lottery.views import rows_of
from lottery.work import Request, prepare, work

ACCURACIES = {0: (0.80, 0.84, 0.79), 1: (0.82, 0.85, 0.83), 2: (0.75, 0.70, 0.78)}  # level -> a value a seed
CONTROL = {1: (0.7, 0.72, 0.71), 2: (0.6, 0.5, 0.55)}
BOTH = "train.optimizer=[adam, {name: sgd, lr: 0.1}]"
REINIT = ("prune.levels=2", "seeds=3", "branches=[reinit]")
TRAINED = """
name: drawn
data: {name: digits, validation: 100, limit: 300}
model: {name: lenet, widths: [8, 6]}
init: glorot_normal
train:
  optimizer: [{name: adam, lr: 1e-2}, {name: sgd, lr: 0.1}]
  batch_size: 50
  length: 12it
  evaluate_every: 4it
prune: {scope: global, fraction: 0.5, levels: 2}
rewind: 4it
seeds: 2
transfer: {levels: 1}
"""


def study(planned: Plan, found: Any) -> Study:
    return Study(planned, found, Recorded(planned))


def hand_made(*overrides: str) -> Study:
    planned = hand(*REINIT, *overrides)
    trainings = [dense(seed, value, step=60) for seed, value in enumerate(ACCURACIES[0])]
    for level in (1, 2):
        for seed, value in enumerate(ACCURACIES[level]):
            place, what = ticket(seed, value, step=20 * level, censored=level == 2 and seed == 0)
            trainings.append(({**place, "level": level}, what))
        for seed, value in enumerate(CONTROL[level]):
            trainings.append(({"kind": "reinit", "seed": seed, "level": level}, {"accuracy": value, "step": 90}))
    return study(planned, made(planned, *trainings))


def lines(axes: Any) -> dict[str, Any]:
    """The curves with error bars by their label."""
    return {container.get_label(): container for container in axes.containers}


def test_accuracies_are_means_over_seeds_in_percent_at_the_densities_trained() -> None:
    (axes,) = draw(hand_made(), "accuracy").axes
    curves = lines(axes)
    assert list(curves) == ["ticket", "reinit"]
    for label, values in (("ticket", ACCURACIES), ("reinit", CONTROL)):
        line = curves[label].lines[0]
        assert list(line.get_xdata()) == [0.5, 0.25]
        assert list(line.get_ydata()) == pytest.approx([100 * np.mean(values[level]) for level in (1, 2)])
    (level,) = [line for line in axes.lines if line.get_label() == "dense"]
    assert list(level.get_ydata()) == pytest.approx([100 * np.mean(ACCURACIES[0])] * 2)


def test_bars_and_band_are_t_intervals_of_the_means() -> None:
    (axes,) = draw(hand_made(), "accuracy").axes
    bars = lines(axes)["ticket"].lines[2][0].get_segments()
    for level, bar in zip((1, 2), bars, strict=True):
        expected = 100 * np.asarray(oracle.ttest_1samp(ACCURACIES[level], 0).confidence_interval(0.95))
        assert bar[:, 1] == pytest.approx(expected)
    (band,) = axes.patches
    expected = 100 * np.asarray(oracle.ttest_1samp(ACCURACIES[0], 0).confidence_interval(0.95))
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(tuple(expected))


def test_density_falls_to_the_right_on_a_logarithmic_axis_with_percent_labels() -> None:
    (axes,) = draw(hand_made(), "accuracy").axes
    left, right = axes.get_xlim()
    assert axes.get_xscale() == "log" and left > 1 and right < 0.25
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "50", "25"]
    assert axes.get_xlabel() == "weights left (%)"


def test_labels_of_twenty_levels_do_not_touch() -> None:
    figure, (axes,) = panels(["adam"])
    density_axis(axes, [0.8**level for level in range(21)])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert len(boxes) >= 5
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_a_mean_early_stop_step_with_a_censored_training_is_hollow() -> None:
    (axes,) = draw(hand_made(), "early_stop").axes
    assert list(lines(axes)["ticket"].lines[0].get_ydata()) == [20, 40]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in hollow] == [([0.25], [40.0])]
    assert axes.get_ylim()[0] == 0


@pytest.mark.filterwarnings("error")
def test_equal_values_of_few_seeds_have_no_bar_and_no_band() -> None:
    planned = hand(*REINIT)
    (axes,) = draw(study(planned, everything(planned)), "early_stop").axes
    bars = lines(axes)["ticket"].lines[2][0].get_segments()
    assert [bar[1, 1] - bar[0, 1] for bar in bars] == [0, 0] and not axes.patches


def test_without_a_validation_split_there_is_no_early_stop_step_to_draw() -> None:
    planned = hand("data.validation=0", "report=end")
    with pytest.raises(UsageError, match=r"has no validation split to stop early by; set data\.validation"):
        draw(study(planned, everything(planned)), "early_stop")


def test_each_optimizer_and_rewind_point_has_a_panel() -> None:
    planned = hand(BOTH, "rewind=[init, 10it]")
    figure = draw(study(planned, everything(planned)), "accuracy")
    assert [axes.get_title() for axes in figure.axes] == ["adam, init", "adam, 10it", "sgd, init", "sgd, 10it"]


def test_curves_are_means_over_the_seeds_with_the_dense_network_in_black() -> None:
    (axes,) = draw(hand_made(), "curves").axes
    curves = {line.get_label(): line for line in axes.lines}
    assert list(curves) == ["dense", "50 % of the weights", "25 % of the weights"]
    assert curves["dense"].get_color() == "black"
    assert list(curves["dense"].get_xdata()) == list(range(0, 101, 10))
    assert list(curves["25 % of the weights"].get_ydata()) == pytest.approx([80 if at == 4 else 75 for at in range(11)])


def test_an_optimizer_that_no_learning_rate_was_left_for_has_no_curve() -> None:
    """What stands for its dense network is the choice of the rate, which was not trained itself."""
    planned = hand(BOTH)
    found = everything(planned)
    for job in planned:
        if job.kind == "dense" and job.place == 1:
            found[job.key] = replace(found[job.key], metrics={"diverged": 3, "density": 1.0})
    first, second = draw(study(planned, found), "curves").axes
    assert list(first.lines[0].get_xdata()) == list(range(0, 101, 10))
    assert list(second.lines[0].get_xdata()) == []


def test_no_two_of_the_first_curves_look_alike_even_without_colour() -> None:
    styles = [line_style(place) for place in range(28)]
    assert len({(s["color"], s["marker"], s["linestyle"]) for s in styles}) == 28
    assert len({(s["marker"], s["linestyle"]) for s in styles}) == 28


@pytest.mark.parametrize(
    "name", ["accuracy", "differences", "curves", "transfer", "weights", "overlap", "layers", "early_stop"]
)
def test_a_study_without_results_is_told_what_to_do(name: str) -> None:
    planned = hand(BOTH, "transfer=all")
    with pytest.raises(UsageError) as caught:
        draw(study(planned, {}), name)
    assert "\n" not in str(caught.value) and any(word in str(caught.value) for word in ("yet", "lottery run"))


def test_diverged_cells_of_the_matrix_are_hatched_and_have_no_number() -> None:
    planned = hand(BOTH, "transfer=all")
    found = everything(planned)
    for job in planned:
        if job.transfer == 1:
            found |= {key: r for key, r in everything(planned, diverged=7).items() if key == job.key}
    axes = draw(study(planned, found), "transfer").axes[0]
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]
    assert len(axes.texts) == 2 * 3 - 1  # dense and two tickets, retrained with two optimizers


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("drawn")
    bench = prepare(Request(parse_recipe(TRAINED, "drawn.yaml"), folder, folder / "store", device="cpu"))
    assert {event.kind for event in work(bench)} <= {"start", "progress", "done", "found"}
    return Study(bench.plan, records(bench.plan, bench.store), bench.store, folder)


def test_the_matrix_shows_the_numbers_of_the_transfer_table(trained: Study) -> None:
    axes = draw(trained, "transfer").axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    rows = rows_of(trained, "transfer")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(dense)", "adam", "sgd"]
    for y, row in enumerate(rows):
        for x, optimizer in enumerate(("adam", "sgd")):
            assert texts[x, y] == f"{100 * row[optimizer]:.1f}"


def test_layers_are_drawn_at_their_densities_against_that_of_the_network(trained: Study) -> None:
    axes = draw(trained, "layers").axes[0]
    curves = {line.get_label(): line for line in axes.lines}
    masks = [trained.level(job).mask for job in trained.plan if job.kind == "ticket" and job.place == 0]
    last = [mask for mask in masks if mask.density < 0.3]
    expected = np.mean([float(mask["fc1.weight"].float().mean()) for mask in last])
    (fc1,) = [curve for label, curve in curves.items() if label.startswith("fc1")]
    assert fc1.get_ydata()[-1] == pytest.approx(100 * expected)
    assert fc1.get_xdata()[-1] == pytest.approx(last[0].density)


def test_overlap_between_seeds_is_the_share_of_weights_both_masks_kept(trained: Study) -> None:
    axes = draw(trained, "overlap").axes[0]
    curves = {line.get_label(): line for line in axes.lines}
    one, other = [trained.level(j).mask for j in trained.plan if (j.kind, j.place, j.level) == ("ticket", 0, 2)]
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    kept = sum(int(one[name].sum()) for name in one)
    assert curves["between seeds"].get_ydata()[-1] == pytest.approx(100 * both / kept)
    assert {"by chance", "with sgd"} <= curves.keys()


def test_weights_are_those_that_survive_where_training_starts_and_ends(trained: Study) -> None:
    figure = draw(trained, "weights")
    job = next(j for j in trained.plan if (j.kind, j.place, j.level, j.seed) == ("ticket", 0, 2, 0))
    stored = trained.level(job)
    mask, ends = stored.mask["fc1.weight"], stored.trained["fc1.weight"]
    point, _ = read_state(trained.store, str(job.point))
    starts = point["model/fc1.weight"]
    axes = next(axes for axes in figure.axes if axes.get_title() == "fc1")
    shapes = {patch.get_label(): patch.get_path().vertices for patch in axes.patches}
    reach = max(float(starts.abs().max()), float(ends.abs().max()))
    for label, values in (
        ("kept, at the start", starts[mask]),
        ("kept, at the end", ends[mask]),
        ("pruned, at the start", starts[~mask]),
    ):
        expected, _ = np.histogram(values.double().numpy(), bins=60, range=(-reach, reach), density=True)
        assert shapes[label][:, 1].max() == pytest.approx(expected.max()), label


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
def test_the_same_study_gives_the_same_bytes(trained: Study, name: str, form: str) -> None:
    assert drawn(draw(trained, name), form) == drawn(draw(trained, name), form)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *argv: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["lottery", "plot", *argv])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_command_draws_one_figure_into_several_files(
    trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drawn.yaml").write_text(TRAINED)
    argv = ["early-stop", "drawn.yaml", "--store", str(trained.store.root), "-o", "a.svg", "-o", "a.pdf"]
    assert run(monkeypatch, tmp_path, *argv) == 0
    assert capsys.readouterr().out == "a.svg\na.pdf\n"
    assert (tmp_path / "a.svg").read_bytes() == drawn(draw(trained, "early_stop"), "svg")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


def test_a_wrong_name_is_refused_before_anything_is_written(
    trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drawn.yaml").write_text(json.dumps(trained.recipe.canonical()))
    argv = ["accuracy", "drawn.yaml", "--store", str(trained.store.root), "-o", "a.svg", "-o", "b.gif"]
    assert run(monkeypatch, tmp_path, *argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.yaml"]
