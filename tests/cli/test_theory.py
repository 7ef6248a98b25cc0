"""`lottery theory` prints what the functions behind it find, and refuses what they cannot take in one line."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lottery.landscape import teacher_student
from lottery.landscape.critical_points import Objective
from lottery.landscape.teacher_student import spurious_table
from tests.support.calls import Call, call

__all__ = ["call"]


def test_signals_hold_in_the_init_of_he_for_relu_vanish_in_small_weights_and_explode_in_large_ones(call: Call) -> None:
    words = ("--init", "kaiming_normal", "--init", "{name: naive, std: 0.02}", "--init", "{name: naive, std: 0.3}")
    done = call("theory", "propagation", *words, "--activation", "relu", "--norm", "none", "--depth", 25, "--width", 60,
                "--format", "json")  # fmt: skip
    assert (done.code, done.err) == (0, "")
    rows = {row["init"]: row for row in json.loads(done.out)}
    assert [row["verdict"] for row in rows.values()] == ["holds", "vanishes", "explodes"]
    for std in (0.02, 0.3):  # the variance is halved by ReLU and multiplied by 60 std^2
        assert rows[f"naive(std={std})"]["forward_rate"] == pytest.approx(np.log(60 * std**2 / 2), abs=0.2)


def test_there_is_a_row_for_each_init_activation_normalization_and_depth(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    words = ("--init", "torch", "--depth", 2, "--depth", 3, "--width", 8, "--format", "csv")
    done = call("theory", "propagation", *words, "-o", path)
    assert (done.code, done.out, done.err) == (0, "", "")
    with open(path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    places = [(row["activation"], row["norm"], row["depth"]) for row in rows]
    assert places == [(a, n, d) for a in ("relu", "tanh") for n in ("none", "batch") for d in ("2", "3")]


def test_an_init_that_does_not_suit_one_activation_is_a_row_that_says_so(call: Call) -> None:
    init = "{name: mean_field, bias_var: 0.1}"
    done = call("theory", "propagation", "--init", init, "--norm", "none", "--depth", 3, "--format", "json")
    relu, tanh = json.loads(done.out)
    assert (relu["verdict"], relu["forward_rate"]) == ("refused", None)
    assert "nowhere critical" in relu["note"]
    assert tanh["verdict"] == "holds"


def test_the_minima_counted_are_those_of_the_function(call: Call) -> None:
    words = ("--teacher", 2, "--teacher", 3, "--wider", 0, "--wider", 1, "--starts", 2, "--seed", 3)
    done = call("theory", "minima", *words, "--activation", "relu", "--format", "json")
    assert (done.code, done.err) == (0, "")
    found = [dict(row, lowest=None, highest=None) for row in spurious_table([2, 3], wider=(0, 1), starts=2, seed=3)]
    assert json.loads(done.out) == found
    assert [row["global"] for row in found] == [2, 2, 2, 2]  # there are spurious minima from 6 units on


def test_a_spurious_minimum_is_counted_where_the_published_table_has_many(call: Call) -> None:
    words = ("--teacher", 9, "--wider", 0, "--starts", 6, "--activation", "relu", "--format", "json")
    (row,) = json.loads(call("theory", "minima", *words).out)
    assert row["spurious"] >= 1
    assert row["spurious"] + row["global"] == 6
    assert row["share"] == row["spurious"] / 6
    assert 0.01 < row["lowest"] <= row["highest"] < 0.1


def test_a_table_that_is_told_to_stop_says_so_in_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ends: list[int] = []

    def descend(function: Objective, start: Any) -> Any:
        ends.append(1)
        if len(ends) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return np.zeros_like(start) + 1

    monkeypatch.setattr(teacher_student, "descend", descend)
    path = tmp_path / "a.csv"
    done = call("theory", "minima", "--teacher", 3, "--starts", 5, "-o", path)
    assert done.code == 130
    assert done.err == "lottery: stopped by signal 2 after 2 of 30 descents; no table is written\n"
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("propagation --init nave", "--init nave: no init 'nave'; did you mean 'naive'? (lottery list inits)"),
        ("propagation --init {name:\xa0naive", "--init {name:\xa0naive: "),
        ("propagation --activation rleu", "--activation rleu: no activation 'rleu'; did you mean 'relu'?"),
        ("propagation --norm bath", "--norm bath: no normalization 'bath'; did you mean 'batch'?"),
        ("propagation --model conv2", "--model conv2: has no keys for activation, norm and depth or widths; there are"),
        ("propagation --model plain --depth 9 --input 3,8,8", "--depth, --width or --input: model.depth: depth is 6n"),
        ("propagation --model plain --depth 8", "takes images of at least 4x4, the data has shape (100,); change"),
        ("propagation --depth 0", "--depth 0: write a number from 1 to 1,000"),
        ("propagation --width 0", "--width 0: write a number from 1 to 10,000"),
        ("propagation --input 3,8", "--input 3,8: write a number such as 100, or channels, height and width"),
        ("propagation --input 999,999,999", "--input 999,999,999: write at most 10,000 numbers in all"),
        ("propagation --seed=-1", "--seed -1: write a number from 0 to"),
        ("propagation --format pdf", "--format pdf: there are text, csv"),
        ("propagation --plot a.gif", "a.gif: no picture is called so; end the name in .png, .svg or .pdf"),
        ("propagation --plot no/such/a.png", "--plot no/such/a.png: there is no folder no/such; make it"),
        ("minima --format parquet", "--format parquet: is no text; name a file with -o"),
        ("minima -o no/such/a.csv", "-o no/such/a.csv: there is no folder no/such; make it, or name another file"),
        ("minima --activation tanh", "--activation tanh: there are relu, erf, quadratic"),
        ("minima --teacher 1", "--teacher 1: write a number from 2 to 30"),
        ("minima --wider=-1", "--wider -1: write a number from 0 to 30"),
        ("minima --starts 0", "--starts 0: write a number from 1 to 100,000"),
    ],
)
def test_bad_input_is_refused_with_the_option_and_the_way_out(words: str, told: str, call: Call) -> None:
    done = call("theory", *words.split(" "))
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_the_table_of_propagation_is_drawn_beside_being_printed(call: Call, tmp_path: Path) -> None:
    words = ("--init", "kaiming_normal", "--activation", "relu", "--norm", "none", "--depth", 2, "--width", 8)
    plain = call("theory", "propagation", *words, "--format", "csv")
    paths = [tmp_path / "a.png", tmp_path / "a.svg"]
    done = call("theory", "propagation", *words, "--format", "csv", "--plot", paths[0], "--plot", paths[1])
    assert (done.code, done.err, done.out) == (0, "", plain.out)
    with Image.open(paths[0]) as image:
        assert image.info["Description"].startswith("What signals do at initialization in mlp networks of width 8")
    assert b"What signals do at initialization in mlp networks of width 8 and seed 0" in paths[1].read_bytes()


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv"])
def test_the_table_comes_in_the_formats_of_other_tables(form: str, call: Call) -> None:
    words = ("--init", "torch", "--activation", "relu", "--norm", "none", "--depth", 2, "--width", 8)
    done = call("theory", "propagation", *words, "--format", form)
    assert done.code == 0
    assert "torch" in done.out and "holds" in done.out
