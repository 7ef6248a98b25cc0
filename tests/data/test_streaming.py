"""Images decoded by worker processes as training goes: the same batches as from memory, to the byte."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lottery.catalogue.datasets import _streamed
from lottery.catalogue.datasets._pixels import pixels
from lottery.data.load import load
from lottery.data.loader import Augment, Data
from lottery.data.splits import Splits, fingerprint
from lottery.data.streaming import Files, Stream
from lottery.errors import DataError, MachineError
from lottery.registry import datasets
from lottery.store.store import Store
from lottery.values import Component
from tests.support.micro import micro_text
from tests.support.restarts import start

CPU = torch.device("cpu")
CLASSES = ("ape", "cat")


def image_files(root: Path, train: int, test: int, side: int = 9) -> Path:
    """Random images of several shapes and formats, `train` and `test` of each class."""
    draw = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for name in CLASSES:
            folder = root / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = draw.integers(side - 3, side + 4, 2)
                image = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
                image.save(folder / f"{i:03d}.{('png', 'jpg', 'bmp')[i % 3]}")
    return root / "pets"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("data")
    image_files(root, train=13, test=4)
    return root


def pets(root: Path, **args: Any) -> Splits:
    return load(Component("image_folder", {"folder": "pets", "size": 8, **args}), root)


def both(root: Path, **args: Any) -> list[Data]:
    """The same data in memory and streamed."""
    args = {"seed": 3, "device": CPU, **args}
    return [Data(pets(root), **args), Data(pets(root, stream=True), workers=2, **args)]


def assert_same(memory: Iterator[tuple[Tensor, Tensor]], streamed: Iterator[tuple[Tensor, Tensor]]) -> None:
    batches = 0
    for (x, y), (other_x, other_y) in zip(memory, streamed, strict=True):
        assert x.stride() == other_x.stride()
        assert x.view(torch.int32).equal(other_x.view(torch.int32)) and y.equal(other_y)
        batches += 1
    assert batches


def test_streamed_images_have_the_fingerprint_mean_and_std_of_those_in_memory(root: Path) -> None:
    memory, streamed = pets(root), pets(root, stream=True)
    assert isinstance(streamed.train_x, Files)
    assert fingerprint(streamed) == fingerprint(memory)
    assert (streamed.mean, streamed.std, streamed.classes) == (memory.mean, memory.std, 2)
    assert streamed.train_y.equal(memory.train_y) and streamed.test_y.equal(memory.test_y)
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    assert fingerprint(pets(root, stream=True, **given)) == fingerprint(pets(root, **given)) != fingerprint(memory)


def test_streaming_is_no_part_of_what_identifies_a_job() -> None:
    plain, streamed = ({"folder": "pets", **more} for more in ({}, {"stream": True}))
    assert datasets.identity(Component("image_folder", streamed)) == datasets.identity(Component("image_folder", plain))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [None, Augment(crop=2, flip=True)])
def test_streamed_passes_equal_those_from_memory_to_the_byte(
    root: Path, channels_last: bool, augment: Augment | None
) -> None:
    memory, streamed = both(root, validation=5, channels_last=channels_last, augment=augment)
    for epoch in range(2):
        assert_same(memory.epoch(epoch, 4), streamed.epoch(epoch, 4))
        for part in ("validation", "test", "train"):
            assert_same(memory.evaluation(part), streamed.evaluation(part))
            assert_same(memory.first(part, 3), streamed.first(part, 3))


def test_a_pass_beside_another_and_one_left_early_change_neither(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one batch, so that most of the pass is still to be decoded when the others begin."""
    monkeypatch.setattr("lottery.data.loader.CHUNK_BYTES", {"cpu": 1})
    memory, streamed = both(root)
    for _ in range(2):
        begun, expected = streamed.epoch(0, 2), memory.epoch(0, 2)
        assert_same(islice(expected, 3), islice(begun, 3))
        next(streamed.evaluation("train", 2))
        assert_same(memory.evaluation("test", 3), streamed.evaluation("test", 3))
        assert_same(islice(expected, 4), islice(begun, 4))  # and the rest is left
        del begun
    assert_same(memory.epoch(1, 2), streamed.epoch(1, 2))
    source = streamed._parts["train"][0]
    assert isinstance(source, Stream) and len(source._idle) == 2  # what was left early is used again


def test_a_pass_that_goes_on_at_a_step_decodes_nothing_before_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.data.loader.CHUNK_BYTES", {"cpu": 1})
    seen, decode = tmp_path / "seen", pixels

    def noted(file: Path, *how: Any, **rule: Any) -> np.ndarray:
        with open(seen, "a") as lines:
            lines.write(f"{file}\n")
        return decode(file, *how, **rule)

    memory, _ = both(root)
    pets(root, stream=True)  # fingerprint and the like are known from here on
    monkeypatch.setattr(_streamed, "pixels", noted)
    streamed = Data(pets(root, stream=True), seed=3, device=CPU, workers=1)
    assert_same(memory.epoch(2, 4, first=5), streamed.epoch(2, 4, first=5))
    assert len(set(seen.read_text().split())) == 26 - 5 * 4


def test_streaming_leaves_the_process_wide_generator_alone(root: Path) -> None:
    before = torch.get_rng_state()
    list(both(root)[1].epoch(0, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_worker_processes_stay_for_the_next_pass_and_leave_with_the_data(root: Path) -> None:
    data = both(root)[1]
    known = set(multiprocessing.active_children())
    list(data.epoch(0, 4))
    workers = set(multiprocessing.active_children()) - known
    list(data.epoch(1, 4))
    assert set(multiprocessing.active_children()) - known == workers and len(workers) == 2
    del data
    gc.collect()
    assert not set(multiprocessing.active_children()) & workers


def test_signals_to_the_whole_group_of_processes_leave_the_workers_at_work(root: Path) -> None:
    memory, streamed = both(root)
    known = set(multiprocessing.active_children())
    next(streamed.epoch(0, 4))  # one worker of the two may not even have begun
    for worker in set(multiprocessing.active_children()) - known:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(worker.pid or 0, number)
    assert_same(memory.epoch(1, 4), streamed.epoch(1, 4))


@pytest.mark.slow  # torch looks every five seconds
@pytest.mark.parametrize("within", [False, True])
def test_a_killed_worker_is_told_with_the_way_out_and_where_its_images_are_fetched(
    root: Path, within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.data.loader.CHUNK_BYTES", {"cpu": 1})
    data = both(root)[1]
    known = set(multiprocessing.active_children())
    batches = data.epoch(0, 2)
    for _ in islice(batches, 2 if within else None):
        pass
    for worker in set(multiprocessing.active_children()) - known:
        os.kill(worker.pid or 0, signal.SIGKILL)
    time.sleep(0.5)  # nothing is raised in the midst of other work
    with pytest.raises(MachineError, match=r"pets: a process that decodes images has died.*run again: it goes on"):
        list(batches if within else data.epoch(1, 2))


HELD_TO_THE_END = """
import sys
from pathlib import Path

import torch

from lottery.data.loader import Data
from lottery.data.load import load
from lottery.values import Component

splits = load(Component("image_folder", {"folder": "pets", "size": 8, "stream": True}), Path(sys.argv[1]))
held = Data(splits, seed=0, device=torch.device("cpu"), workers=1)
next(held.epoch(0, 2))
"""


def test_a_process_ends_with_those_that_decode_for_it_also_where_something_holds_them(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HELD_TO_THE_END, root], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_an_image_damaged_after_the_start_is_named(tmp_path: Path) -> None:
    folder = image_files(tmp_path, train=3, test=1)
    data = Data(pets(tmp_path, stream=True), seed=0, device=CPU)
    (folder / "train" / "cat" / "001.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^\S*train/cat/001.jpg: no image that can be read[^\n]*$"):
        list(data.epoch(0, 2))


def test_what_was_found_of_the_images_is_kept_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = image_files(tmp_path, train=3, test=1)
    first = pets(tmp_path, stream=True)
    with monkeypatch.context() as patch:
        patch.setattr(_streamed, "pixels", lambda *how, **rule: pytest.fail("decoded again"))
        assert (pets(tmp_path, stream=True).known, first.mean) == (first.known, pets(tmp_path, stream=True).mean)
    (cache,) = (tmp_path / ".cache").iterdir()
    cache.write_bytes(cache.read_bytes().replace(b'"mean"', b'"meen"'))
    assert pets(tmp_path, stream=True).known == first.known
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [message.partition(": ")[0] for message in warnings] == [str(folder), str(cache), str(folder)]
    file = folder / "test" / "ape" / "000.png"
    Image.new("RGB", (9, 9), "red").save(file)
    assert pets(tmp_path, stream=True).known == fingerprint(pets(tmp_path)) != first.known


RESNET50 = (
    "data={name: image_folder, folder: pets, size: 64, validation: 8, augment: {crop: 4, flip: true}}",
    "model={name: torchvision, arch: resnet50}",
    "init=kaiming_normal",
    "train={optimizer: {name: momentum, lr: 0.01}, batch_size: 8, length: 4it, evaluate_every: 2it}",
    "prune={scope: global, fraction: 0.2, levels: 1}",
    "rewind=1it",
)


@pytest.mark.slow
def test_resnet50_on_streamed_images_gives_the_bytes_of_the_run_from_memory(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", exc_type=ImportError)
    image_files(tmp_path, train=20, test=4, side=70)
    results = []
    for stream in ("false", "true"):
        recipe, store = tmp_path / f"{stream}.yaml", tmp_path / f"runs-{stream}"
        recipe.write_text(micro_text(*RESNET50, f"data.stream={stream}"))
        run = start(recipe, store, "--data", str(tmp_path))
        out, problems = run.communicate(timeout=500)
        assert run.returncode == 0, out + problems
        found = {manifest.key: manifest for manifest in Store(store).manifests()}
        results.append({key: {name: file.sha256 for name, file in m.files.items()} for key, m in found.items()})
        tickets = [key for key, manifest in found.items() if manifest.kind == "ticket"]
        assert json.loads(Store(store).read(tickets[0], "metrics.json"))["density"] == pytest.approx(0.8, abs=1e-6)
    assert len(results[0]) == 3  # rewind point, dense network, ticket
    assert results[0] == results[1]
