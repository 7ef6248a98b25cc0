"""`lottery bench`: ratios of times taken in turns, kept and compared with the last ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lottery.benchmark import baseline
from lottery.benchmark import cases as benchmark
from lottery.benchmark.case import Case
from lottery.benchmark.cases import cases, measure
from lottery.benchmark.results import figure, keep, last, table
from lottery.benchmark.steps import SKIPPED, STEPS, step_cases
from lottery.cli.main import app
from lottery.data.splits import Splits
from lottery.device import Machine
from lottery.errors import DataError, MachineError, UsageError
from lottery.recipe.load import parse_recipe
from lottery.training.engine import DenseEngine
from tests.support.micro import micro


def made_up(name: str, turns: list[tuple[float, float, int | None]], least: float = 2.0) -> Case:
    taken = iter(turns)
    return Case(name, name.upper(), least, lambda data: next(taken))


def test_a_result_is_the_median_of_the_ratios_of_its_turns(tmp_path: Path) -> None:
    order: list[str] = []
    one = made_up("one", [(4.0, 2.0, None), (9.0, 3.0, None), (5.0, 5.0, None)])
    two = made_up("two", [(1.0, 1.0, 5), (1.0, 2.0, 7), (1.0, 4.0, 6)])
    first, second = measure([one, two], tmp_path, 3, order.append)
    assert (first.ratio, first.low, first.high, first.peak_bytes) == (2.0, 1.0, 3.0, None)
    assert (second.ratio, second.seconds, second.peak_bytes) == (0.5, 2.0, 7)
    assert [line.partition(":")[0] for line in order] == [
        "1/3 ONE",
        "1/3 TWO",
        "2/3 ONE",
        "2/3 TWO",
        "3/3 ONE",
        "3/3 TWO",
    ]


def test_the_log_keeps_every_run_and_gives_back_the_last_of_each_case_on_this_processor(tmp_path: Path) -> None:
    log = tmp_path / "log" / "bench.jsonl"
    assert last(log) == {}
    one, two = (made_up(name, [(2.0, 1.0, None), (3.0, 1.0, None)]) for name in ("one", "two"))
    keep(log, measure([one, two], tmp_path, 1, lambda line: None))
    keep(log, measure([one], tmp_path, 1, lambda line: None))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [len(line["results"]) for line in lines] == [2, 1]
    assert last(log) == {"one": 3.0, "two": 2.0}
    elsewhere = {**lines[1], "environment": {**lines[1]["environment"], "device": "another"}}
    log.write_text(log.read_text() + json.dumps({**elsewhere, "results": [{"case": "one", "ratio": 9.0}]}) + "\n")
    assert last(log) == {"one": 3.0, "two": 2.0}


def test_the_table_says_what_is_below_and_what_was_before(tmp_path: Path) -> None:
    found = measure([made_up("one", [(1.0, 1.0, None)]), made_up("two", [(4.0, 1.0, 10**9)])], tmp_path, 1, print)
    head, first, second = table(found, {"two": 3.5})
    assert "held to" in head
    assert first.split()[:2] == ["ONE", "1.00x"] and first.endswith("below")
    assert (
        second.split()[:2] == ["TWO", "4.00x"] and "3.50x" in second and "1.00 GB" in second and "below" not in second
    )
    drawing = figure(found, {"two": 3.5})
    assert [label.get_text() for label in drawing.axes[0].get_yticklabels()] == ["ONE", "TWO"]


def test_a_case_that_is_not_there_is_told() -> None:
    assert [case.name for case in cases(["lenet-0.05"])] == ["lenet-0.05"]
    with pytest.raises(UsageError, match="bench has no case vgg; there are lenet, "):
        cases(["vgg"])


def test_on_a_gpu_dense_trainings_are_measured_and_what_is_of_a_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "machine", lambda device: Machine(torch.device(device), 1, deterministic=False))
    monkeypatch.setattr(benchmark, "computes_bf16", lambda device: device.type == "cuda")
    names = [case.name for case in cases(device="cuda")]
    assert names == ["lenet", "lenet-adam", "lenet-levels", "resnet20", "resnet20-bf16"]
    with pytest.raises(UsageError, match=r"bench --device cuda has no case lenet-0.05, which is of a CPU; there are"):
        cases(["lenet", "lenet-0.05"], device="cuda")


def test_the_bare_loop_orders_its_examples_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order on the host would make each step wait for the device, and our ratio look better."""
    asked: list[object] = []
    order = torch.randperm

    def asked_for(n: int, device: torch.device) -> torch.Tensor:
        asked.append(device)
        return order(n)

    monkeypatch.setattr(torch, "randperm", asked_for)
    x, y = torch.randn(8, 784), torch.randint(10, (8,))
    model = baseline.lenet()
    baseline.train(model, torch.optim.SGD(model.parameters(), lr=0.1), (x, y), steps=3, batch_size=4)
    assert asked == [x.device, x.device]


def test_on_a_gpu_the_bare_loop_computes_in_fp32_as_its_case_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch computes convolutions in tf32 by default, several times as fast as what they would be compared with."""
    cudnn: Any = torch.backends.cudnn
    seen: list[object] = []
    monkeypatch.setattr(benchmark, "machine", lambda device: Machine(torch.device("cpu"), 1, deterministic=False))
    monkeypatch.setattr(
        baseline, "train", lambda *args, **about: seen.append((cudnn.conv.fp32_precision, cudnn.benchmark))
    )
    monkeypatch.setattr(baseline, "evaluate", lambda *args: None)
    x, y = torch.zeros(8, 1, 28, 28, dtype=torch.uint8), torch.zeros(8, dtype=torch.long)
    splits = Splits(x, y, x, y, classes=10, mean=(0.5,), std=(0.5,))
    monkeypatch.setattr(benchmark, "load", lambda component, root: splits)
    benchmark._bare(parse_recipe(benchmark.LENET, "bench", ["data.validation=2"]), tmp_path, "cuda")
    assert seen == [("ieee", True)]


def test_data_that_are_not_there_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    measured: list[str] = []
    first = made_up("one", [(4.0, 2.0, None)])
    (second,) = cases(["resnet20"], "{name: image_folder, folder: nothing}")
    with pytest.raises(DataError, match="nothing"):
        measure([first, second], tmp_path, 1, measured.append)
    assert measured == []


def test_a_training_that_diverges_or_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"a training of the benchmark diverged: .* not finite"):
        benchmark.seconds_by_job(micro("train.optimizer={name: sgd, lr: 1e30}"), tmp_path)
    jobs = benchmark.seconds_by_job(micro("prune.levels=1"), tmp_path)
    assert jobs.keys() == {("rewind", 0), ("dense", 0), ("ticket", 1)}


@pytest.mark.data
def test_the_command_measures_real_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LENET", benchmark.LENET.replace("3000it", "20it").replace("750it", "10it"))
    log, picture = tmp_path / "bench.jsonl", tmp_path / "bench.svg"
    chosen = ["lenet", "lenet-0.2", "--turns", "1", "--log", str(log), "-o", str(picture), "--json"]
    done = CliRunner().invoke(app, ["bench", *chosen], catch_exceptions=False)
    rows = json.loads(done.stdout)
    assert [row["case"] for row in rows] == ["lenet", "lenet-0.2"]
    assert all(row["base_seconds"] > 0 and row["seconds"] > 0 for row in rows)
    assert picture.read_bytes().startswith(b"<?xml") and set(last(log)) == {row["case"] for row in rows}


def test_a_case_of_steps_times_as_many_of_the_bare_loop_and_evaluates_before_the_first_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    step, outputs = baseline.step, DenseEngine.outputs

    def bare(*about: Any) -> torch.Tensor:
        done.append("bare")
        return step(*about)

    def evaluated(engine: DenseEngine, x: torch.Tensor) -> torch.Tensor:
        done.append("evaluated")
        return outputs(engine, x)

    monkeypatch.setattr(baseline, "step", bare)
    monkeypatch.setattr(DenseEngine, "outputs", evaluated)
    for shade, part in enumerate(("train", "test")):
        for name in ("ants", "bees"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (8, 8), (20 * i, 9 * i + 100 * shade, 99 - 9 * i)).save(folder / f"{i}.png")
    text = benchmark.RESNET.replace("resnet20", "{name: resnet20, width: 2}").replace("128", "3")
    images = "{name: image_folder, folder: images}"
    overrides = (f"data={images}", "data.validation=2")
    cases_of_steps = list(step_cases(text, overrides, lambda data: None))
    assert [case.name for case in cases_of_steps] == ["resnet20-step", "resnet20-step-bf16"]
    base, ours, peak = cases_of_steps[0].turn(tmp_path)
    assert base > 0 and ours > 0 and peak is None
    assert done == ["evaluated", *["bare"] * (SKIPPED + STEPS)]
