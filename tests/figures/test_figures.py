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
import torch
from scipy import stats as oracle

from lottery.analysis import mask_overlap
from lottery.analysis.layers import ALL
from lottery.analysis.views import rows_of
from lottery.cli.main import main
from lottery.errors import UsageError
from lottery.figures import FIGURES, draw, figure_bytes
from lottery.figures.colors import optimizer_styles
from lottery.figures.overlaps import overlap_styles
from lottery.figures.selection import Selection
from lottery.figures.sizes import WIDTHS
from lottery.figures.style import density_axis, line_style, panels
from lottery.plan.jobs import Job, Plan
from lottery.recipe.load import parse_recipe
from lottery.results.artifacts import read_state
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.events import Request
from lottery.runner.finished_study import level_of
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from tests.support.micro import micro_text
from tests.support.paper import faults_of_print
from tests.support.studies import Recorded, dense, everything, hand, made, ticket

ACCURACIES = {0: (0.80, 0.84, 0.79), 1: (0.82, 0.85, 0.83), 2: (0.75, 0.70, 0.78)}  # level -> a value a seed
CONTROL = {1: (0.7, 0.72, 0.71), 2: (0.6, 0.5, 0.55)}
BOTH = "train.optimizer=[adam, {name: sgd, lr: 0.1}]"
REINIT = ("prune.levels=2", "seeds=3", "branches=[reinit]")
TRAINED = micro_text(
    "name=drawn",
    "data={name: digits, validation: 100, limit: 300}",
    "model.widths=[8, 6]",
    "train.optimizer=[{name: adam, lr: 1e-2}, {name: sgd, lr: 0.1}]",
    "prune.scope=global",
    "rewind=4it",
    "seeds=2",
    "transfer={levels: 1}",
)


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


def axes_of(held: Study, figure: str) -> list[Any]:
    return list(draw(held, figure).axes)


def lines(axes: Any) -> dict[str, Any]:
    """The curves with error bars by their label."""
    return {container.get_label(): container for container in axes.containers}


def test_accuracies_are_means_over_seeds_in_percent_at_the_densities_trained() -> None:
    (axes,) = axes_of(hand_made(), "accuracy")
    curves = lines(axes)
    assert list(curves) == ["ticket", "reinit"]
    for label, values in (("ticket", ACCURACIES), ("reinit", CONTROL)):
        line = curves[label].lines[0]
        assert list(line.get_xdata()) == [0.5, 0.25]
        assert list(line.get_ydata()) == pytest.approx([100 * np.mean(values[level]) for level in (1, 2)])
    (level,) = [line for line in axes.lines if line.get_label() == "dense"]
    assert list(level.get_ydata()) == pytest.approx([100 * np.mean(ACCURACIES[0])] * 2)


def test_bars_and_band_are_t_intervals_of_the_means() -> None:
    (axes,) = axes_of(hand_made(), "accuracy")
    bars = lines(axes)["ticket"].lines[2][0].get_segments()
    for level, bar in zip((1, 2), bars, strict=True):
        expected = 100 * np.asarray(oracle.ttest_1samp(ACCURACIES[level], 0).confidence_interval(0.95))
        assert bar[:, 1] == pytest.approx(expected)
    (band,) = axes.patches
    expected = 100 * np.asarray(oracle.ttest_1samp(ACCURACIES[0], 0).confidence_interval(0.95))
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx(tuple(expected))


def test_density_falls_to_the_right_on_a_logarithmic_axis_with_percent_labels() -> None:
    (axes,) = axes_of(hand_made(), "accuracy")
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
    (axes,) = axes_of(hand_made(), "early_stop")
    assert list(lines(axes)["ticket"].lines[0].get_ydata()) == [20, 40]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in hollow] == [([0.25], [40.0])]
    assert axes.get_ylim()[0] == 0


@pytest.mark.filterwarnings("error")
def test_equal_values_of_few_seeds_have_no_bar_and_no_band() -> None:
    planned = hand(*REINIT)
    (axes,) = axes_of(study(planned, everything(planned)), "early_stop")
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
    (axes,) = axes_of(hand_made(), "curves")
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
        if job.kind == "dense" and job.optimizer_index == 1:
            found[job.key] = replace(found[job.key], metrics={"diverged": 3, "density": 1.0})
    first, second = axes_of(study(planned, found), "curves")
    assert list(first.lines[0].get_xdata()) == list(range(0, 101, 10))
    assert [line.get_label() for line in second.lines] == ["50 % of the weights"]


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
    axes = axes_of(study(planned, found), "transfer")[0]
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]
    assert len(axes.texts) == 2 * 3 - 1  # dense and two tickets, retrained with two optimizers


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("drawn")
    context = prepare(Request(parse_recipe(TRAINED, "drawn.yaml"), folder, folder / "store", device="cpu"))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return Study(context.plan, records(context.plan, context.store), context.store, folder)


def test_the_matrix_shows_the_numbers_of_the_transfer_table(trained: Study) -> None:
    axes = axes_of(trained, "transfer")[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    rows = rows_of(trained, "transfer")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(dense)", "adam", "sgd"]
    for y, row in enumerate(rows):
        for x, optimizer in enumerate(("adam", "sgd")):
            assert texts[x, y] == f"{100 * row[optimizer]:.1f}"


def test_layers_are_drawn_at_their_densities_against_that_of_the_network(trained: Study) -> None:
    axes = axes_of(trained, "layers")[0]
    curves = {line.get_label(): line for line in axes.lines}
    masks = [level_of(trained, job).mask for job in trained.plan if job.kind == "ticket" and job.optimizer_index == 0]
    last = [mask for mask in masks if mask.density < 0.3]
    expected = np.mean([float(mask["fc1.weight"].float().mean()) for mask in last])
    (fc1,) = [curve for label, curve in curves.items() if label.startswith("fc1")]
    assert fc1.get_ydata()[-1] == pytest.approx(100 * expected)
    assert fc1.get_xdata()[-1] == pytest.approx(last[0].density)


def test_overlap_between_seeds_is_the_share_of_weights_both_masks_kept_beside_that_of_chance(trained: Study) -> None:
    axes = axes_of(trained, "overlap")[0]
    assert axes.get_title() == "between seeds"
    curves = {line.get_label(): line for line in axes.lines}
    one, other = [
        level_of(trained, j).mask for j in trained.plan if (j.kind, j.optimizer_index, j.level) == ("ticket", 0, 2)
    ]
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    kept = sum(int(one[name].sum()) for name in one)
    assert curves["adam"].get_ydata()[-1] == pytest.approx(100 * both / kept)
    chance = sum(int(one[name].sum()) * int(other[name].sum()) / one[name].numel() for name in one)
    (dotted,) = [line for line in chances(axes) if line.get_color() == curves["adam"].get_color()]
    assert dotted.get_ydata()[-1] == pytest.approx(100 * chance / kept)


def chances(axes: Any) -> list[Any]:
    return [line for line in axes.lines if line.get_linestyle() == ":"]


THREE = ["adam", "momentum", "nesterov"]
OPTIMIZERS = "train.optimizer=[adam, {name: momentum, lr: 0.1}, {name: nesterov, lr: 0.1}]"


def overlaps_of_three(seeds: int) -> Study:
    """Tickets of three optimizers, whose rows of overlaps are made up: a share and a chance for each pair."""
    planned = hand(OPTIMIZERS, "prune.levels=2", f"seeds={seeds}")
    held, rows = study(planned, {}), []
    pairs: list[tuple[str, str | None]] = [(name, None) for name in THREE] if seeds > 1 else []
    pairs += [("adam", "momentum"), ("adam", "nesterov"), ("momentum", "nesterov")]
    for place, (one, other) in enumerate(pairs):
        for level in (1, 2):
            about = {"optimizer": one, "between": "optimizers" if other else "seeds", "other": other, "level": level}
            shares = {"overlap": 0.9 - 0.05 * place, "overlap_chance": 0.5**level - 0.01 * place}
            rows.append({**about, "density": 0.5**level, "layer": ALL, "pairs": 1, **shares})
    held.made[mask_overlap.overlaps.__wrapped__] = rows  # type: ignore[attr-defined]
    return held


def test_a_colour_means_one_optimizer_in_all_panels_and_no_panel_is_without_a_pair() -> None:
    figure = draw(overlaps_of_three(2), "overlap")
    shown = {axes.get_title(): [line for line in axes.lines if line.get_linestyle() != ":"] for axes in figure.axes}
    names = {title: [str(line.get_label()) for line in curves] for title, curves in shown.items()}
    between = ["adam and momentum", "adam and nesterov", "momentum and nesterov"]
    assert names == {"between seeds": THREE, "between optimizers": between}
    single = {str(line.get_label()): line.get_color() for line in shown["between seeds"]}
    assert len(set(single.values())) == 3
    for line in shown["between optimizers"]:
        one, other = str(line.get_label()).split(" and ")
        assert (line.get_color(), line.get_gapcolor()) == (single[one], single[other])
        assert (line.get_markerfacecolor(), line.get_markerfacecoloralt()) == (single[one], single[other])
    assert [axes.get_title() for axes in draw(overlaps_of_three(1), "overlap").axes] == ["between optimizers"]


def test_a_colour_stays_that_of_its_optimizer_where_others_are_left_out() -> None:
    for name in THREE:
        (axes,) = draw(overlaps_of_three(2), "overlap", shown=Selection(optimizers=[name])).axes
        (curve,) = [line for line in axes.lines if line.get_linestyle() != ":"]
        assert curve.get_color() == optimizer_styles(hand(OPTIMIZERS).recipe)[name]["color"]


def test_no_two_pairs_of_eight_optimizers_look_alike() -> None:
    names = [f"{{name: sgd, lr: {place}}}" for place in range(1, 9)]
    looks = overlap_styles(hand(f"train.optimizer=[{', '.join(names)}]").recipe)
    assert len(looks) == 8 + 28
    seen = {
        tuple(str(look.get(key)) for key in ("color", "gapcolor", "marker", "linestyle")) for look in looks.values()
    }
    assert len(seen) == len(looks)
    first, *_, again = list(looks.values())[:8]
    assert first["color"] == again["color"]
    assert first["marker"] != again["marker"] and first["linestyle"] != again["linestyle"]


def test_each_pair_has_the_chance_of_its_own_densities() -> None:
    figure = draw(overlaps_of_three(2), "overlap")
    place = 0
    for axes in list[Any](figure.axes):
        solid = [line for line in axes.lines if line.get_linestyle() != ":"]
        for curve, dotted in zip(solid, chances(axes), strict=True):
            assert dotted.get_color() == curve.get_color()
            assert list(dotted.get_ydata()) == pytest.approx([100 * (0.5 - 0.01 * place), 100 * (0.25 - 0.01 * place)])
            place += 1
        low, high = axes.get_ylim()
        assert low == 0 and all(max(line.get_ydata()) < high for line in axes.lines)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "by chance"


@pytest.mark.parametrize(("optimizers", "levels"), [("train.optimizer=adam", 20), (OPTIMIZERS, 8)])
def test_no_legend_is_cut_off_or_covers_a_panel(optimizers: str, levels: int) -> None:
    planned = hand(optimizers, f"prune.levels={levels}", "prune.fraction=0.2")
    figure = draw(study(planned, everything(planned)), "curves")
    figure_bytes(figure, "png")
    (legend,) = figure.legends
    assert len(legend.get_texts()) == levels + 1
    box, canvas = legend.get_window_extent(), figure.bbox
    assert canvas.x0 <= box.x0 and box.x1 <= canvas.x1 and canvas.y0 <= box.y0 and box.y1 <= canvas.y1
    for axes in list[Any](figure.axes):
        assert axes.get_tightbbox().y0 >= box.y1 - 1
        assert axes.bbox.height >= 0.9 * figure.dpi  # an inch and more of a panel is left


def test_weights_are_those_that_survive_where_training_starts_and_ends(trained: Study) -> None:
    job = next(j for j in trained.plan if (j.kind, j.optimizer_index, j.level, j.seed) == ("ticket", 0, 2, 0))
    point, _ = read_state(trained.store, str(job.point))
    starts = point["model/fc1.weight"]
    shown(trained, job, starts, starts[~level_of(trained, job).mask["fc1.weight"]])


def shown(held: Study, job: Job, starts: Any, pruned: Any) -> None:
    """The first layer's histograms of this ticket, which is the one drawn, are of these weights."""
    axes = next(axes for axes in axes_of(held, "weights") if axes.get_title() == "fc1")
    stored = level_of(held, job)
    mask, ends = stored.mask["fc1.weight"], stored.trained["fc1.weight"]
    parts = {"kept, at the start": starts[mask], "kept, at the end": ends[mask], "pruned, at the start": pruned}
    shapes = {patch.get_label(): patch.get_path().vertices for patch in axes.patches}
    reach = max(float(values.abs().max()) for values in parts.values())
    for label, values in parts.items():
        expected, _ = np.histogram(values.double().numpy(), bins=60, range=(-reach, reach), density=True)
        assert shapes[label][:, 1].max() == pytest.approx(expected.max()), label


@pytest.mark.parametrize("mode", ["lr", "finetune"])
def test_weights_of_a_ticket_that_goes_on_from_trained_ones_start_there(tmp_path: Path, mode: str) -> None:
    settings = [f"rewind={{to: 4it, mode: {mode}}}", "train.optimizer=[{name: adam, lr: 1e-2}]", "seeds=1"]
    settings += ["train.schedule={name: cosine}", "finetune={rate: 0.2}"] if mode == "finetune" else []
    recipe = parse_recipe(TRAINED, "drawn.yaml", ["transfer=null", *settings])
    context = prepare(Request(recipe, tmp_path, tmp_path / "store", device="cpu"))
    list(work(context))
    held = Study(context.plan, records(context.plan, context.store), context.store, tmp_path)
    dense_job, above, job = (j for j in held.plan if j.kind in ("dense", "ticket"))
    for ticket_job, parent in ((job, above), (above, dense_job)):
        starts = level_of(held, parent).trained["fc1.weight"]
        start = starting_point(context, ticket_job)
        kept = start.mask["fc1.weight"]
        assert torch.equal(start.weights["fc1.weight"][kept], starts[kept])
    gone = level_of(held, above).mask["fc1.weight"] & ~level_of(held, job).mask["fc1.weight"]
    starts = level_of(held, above).trained["fc1.weight"]
    shown(held, job, starts, starts[gone])


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width", ["column", pytest.param("page", marks=pytest.mark.slow)])
def test_a_figure_is_as_wide_as_a_paper_has_it_and_all_of_it_can_be_read(trained: Study, name: str, width: str) -> None:
    assert faults_of_print(draw(trained, name, width=WIDTHS[width]), WIDTHS[width]) == []


def test_names_of_optimizers_longer_than_a_column_are_not_cut_off() -> None:
    one, other = "lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8", "lr: 2e-3, betas: [0.95, 0.999], eps: 1e-7"
    several = f"train.optimizer=[{{name: adam, {one}}}, {{name: adam, {other}}}, {{name: sgd, lr: 0.1}}]"
    planned = hand(several, "prune.levels=3")
    held = study(planned, everything(planned))
    for name in ("accuracy", "curves", "differences"):
        assert faults_of_print(draw(held, name, width=3.25), 3.25) == []


def test_an_accuracy_axis_follows_the_data_and_never_leaves_0_to_100() -> None:
    planned = hand("prune.levels=2", "seeds=2")
    for values, least, most in (((0.9996, 1.0), 99, 100), ((0.0, 0.001), 0, 1), ((0.5, 0.52), 48, 54)):
        found = made(planned, *(({"seed": seed}, {"accuracy": value}) for seed, value in enumerate(values)))
        (axes,) = axes_of(study(planned, found), "accuracy")
        low, high = axes.get_ylim()
        assert (least <= low < 100 * values[0] + 1e-9 and 100 * values[1] - 1e-9 < high <= most) or (low, high) == (
            0,
            most,
        )


def pictures() -> list[Any]:
    """Each figure as a vector image; the formats, which know nothing of what is drawn, of one of them each time."""
    forms = [(name, form) for name in FIGURES for form in ("svg", "pdf", "png")]
    return [pytest.param(*e, marks=() if "svg" in e or "transfer" in e else pytest.mark.slow) for e in forms]


@pytest.mark.parametrize(("name", "form"), pictures())
def test_the_same_study_gives_the_same_bytes_in_each_format(trained: Study, name: str, form: str) -> None:
    one, other = draw(trained, name), draw(trained, name)
    assert figure_bytes(one, form) == figure_bytes(other, form)


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
    assert (tmp_path / "a.svg").read_bytes() == figure_bytes(draw(trained, "early_stop"), "svg")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


def test_a_wrong_name_is_refused_before_anything_is_written(
    trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drawn.yaml").write_text(json.dumps(trained.recipe.canonical()))
    argv = ["accuracy", "drawn.yaml", "--store", str(trained.store.root), "-o", "a.svg", "-o", "b.gif"]
    assert run(monkeypatch, tmp_path, *argv) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.yaml"]
