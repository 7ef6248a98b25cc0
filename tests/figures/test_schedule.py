"""`lottery plot`: what is drawn, into which file, and what it needs for that."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from lottery.cli.main import main
from lottery.data.load import load
from lottery.data.loader import Data
from lottery.figures.schedule import POINTS, rate_curves, schedule_figure
from lottery.recipe.load import load_recipe, parse_recipe
from tests.support.micro import micro_text

TEXT = micro_text(
    "name=small",
    "model.widths=[16, 8]",
    "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 0.1}, {name: momentum, lr: 0.1}]",
    "train.schedule={name: multi_step, at: [40it, 60it], warmup: 10it}",
    "train.batch_size=32",
    "train.length=80it",
    "train.evaluate_every=20it",
    "prune.fraction=0.4",
    "rewind=[{to: init}, {to: 20it, mode: lr}]",
    "seeds=2",
)
NOWHERE = Path("no such folder")


def figure(*overrides: str, data: Path = NOWHERE, **options: Any) -> Any:
    return schedule_figure(parse_recipe(TEXT, "small.yaml", overrides), data, **options)


def test_the_rates_drawn_are_those_of_the_training_with_its_warm_up() -> None:
    axes = figure().axes[0]
    adam, sgd = axes.lines[:2]
    expected = [0.1 * min(1, (step + 1) / 10) * 0.1 ** ((step >= 40) + (step >= 60)) for step in range(80)]
    assert list(sgd.get_xdata()) == list(range(80))
    assert list(sgd.get_ydata()) == pytest.approx(expected)
    assert list(adam.get_ydata()) == pytest.approx([0.03 * rate for rate in expected])


def test_optimizers_of_one_rate_share_a_line_and_rewind_points_and_warm_up_are_named() -> None:
    drawn = figure()
    axes = drawn.axes[0]
    names = [text.get_text() for legend in drawn.legends for text in legend.get_texts()]
    assert names == ["adam (lr 0.003)", "sgd, momentum (lr 0.1)", "warm-up"]
    assert {text.get_text(): text.xy[0] for text in axes.texts} == {"rewind init": 0, "lr rewind 20it": 20}
    assert {float(line.get_xdata()[0]) for line in axes.lines[2:]} == {0, 20}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training step", "learning rate")
    assert axes.get_title().replace("\n", " ") == "small: multi_step, at 40it, 60it, after a warm-up of 10it"


def test_lengths_in_epochs_are_those_of_the_data_for_each_batch_size() -> None:
    recipe = parse_recipe(TEXT, "small.yaml", ["train.length=4ep", "rewind=1ep", "train.optimizer.1.batch_size=100"])
    import torch

    data = Data(load(recipe.data.component, NOWHERE), seed=0, validation=200, device=torch.device("cpu"))
    drawn = rate_curves(recipe, NOWHERE)
    for curve, size in zip(drawn, (32, 100, 32), strict=True):
        per_epoch = -(-data.train_size // size)
        assert (curve.per_epoch, curve.steps[-1], curve.rewinds) == (
            per_epoch,
            4 * per_epoch - 1,
            [(per_epoch, "rewind 1ep")],
        )


def test_epochs_are_an_axis_of_their_own_where_they_are_one_length() -> None:
    assert len(figure().axes[0].child_axes) == 0
    assert [axis.get_xlabel() for axis in figure("train.length=4ep").axes[0].child_axes] == ["epoch"]
    assert not figure("train.length=4ep", "train.optimizer.1.batch_size=all").axes[0].child_axes


def test_a_tuned_recipe_is_drawn_relative_to_the_rate_that_will_be_chosen() -> None:
    drawn = figure("train.optimizer=adam", "tune={}")
    assert drawn.axes[0].get_ylabel().replace("\n", " ") == "learning rate / tuned learning rate"
    assert max(drawn.axes[0].lines[0].get_ydata()) == 1


def test_a_long_training_is_drawn_by_a_bounded_number_of_points_with_both_ends() -> None:
    (curve,) = rate_curves(
        parse_recipe(TEXT, "small.yaml", ["train.length=1000001it", "train.optimizer=[{name: sgd, lr: 1}]"]), NOWHERE
    )
    assert len(curve.steps) <= POINTS + 1
    assert (curve.steps[0], curve.steps[-1]) == (0, 1_000_000)


def test_on_a_logarithmic_scale_a_rate_of_zero_at_the_end_is_no_trouble() -> None:
    axes = figure("train.schedule=polynomial", "train.length=4000000it", log=True).axes[0]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 0 < low < 0.003 < 0.1 < high


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *argv: str) -> int:
    monkeypatch.chdir(folder)
    (folder / "small.yaml").write_text(TEXT)
    monkeypatch.setattr(sys, "argv", ["lottery", "plot", "schedule", "small.yaml", *argv])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.mark.parametrize("form", MAGIC)
def test_the_command_writes_the_format_of_the_name_and_the_same_bytes_again(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = []
    for _ in range(2):
        assert run(monkeypatch, tmp_path, "-o", f"picture.{form}") == 0
        contents.append((tmp_path / f"picture.{form}").read_bytes())
    assert contents[0] == contents[1] and contents[0].startswith(MAGIC[form])
    assert capsys.readouterr().out == f"picture.{form}\n" * 2


def test_without_a_name_the_file_is_called_after_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, "--set", "name=mine") == 0
    assert capsys.readouterr().out == "mine-schedule.png\n"
    assert (tmp_path / "mine-schedule.png").stat().st_size > 10_000


def test_an_svg_holds_a_path_for_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, tmp_path, "-o", "picture.svg", "--log") == 0
    tree = ElementTree.parse(tmp_path / "picture.svg")
    lines = [e for e in tree.iter() if re.fullmatch(r"line2d_\d+", e.get("id", ""))]
    assert len(lines) > 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-o", "picture.jpg"], "picture.jpg: no picture is called so; end the name in .png, .svg or .pdf"),
        (["-o", "there/picture.png"], "there/picture.png: there is no folder there"),
        (["--set", "train.length=4ep", "--set", "data={name: mnist}"], "mnist"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line_and_leaves_no_file(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOTTERY_DATA", raising=False)
    assert run(monkeypatch, tmp_path, *argv) in (2, 3)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_curve_that_many_optimizers_share_names_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    recipe = load_recipe("survey-mnist1d")
    (legend,) = schedule_figure(recipe, tmp_path).legends
    assert [text.get_text() for text in legend.get_texts()] == ["gd, sgd and 24 more", "warm-up"]
