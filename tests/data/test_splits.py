"""Data sets, their fingerprints, and the batches made of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import random
import socket
import struct
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lottery.data.load import load
from lottery.data.loader import EVALUATION_BATCH, Augment, Data
from lottery.data.splits import Splits, fingerprint, with_label_noise
from lottery.errors import DataError, UsageError
from lottery.files.progress import log_progress
from lottery.registry import datasets
from lottery.seed import generator
from lottery.values import Component, LabelNoise

CPU = torch.device("cpu")


def images(n: int = 50, channels: int = 3, height: int = 6, width: int = 5, seed: int = 0) -> Any:
    """Random images; training image i has i in its first pixel, and label i % 10."""
    source = torch.Generator().manual_seed(seed)
    shape = (channels, height, width)
    train = torch.randint(0, 256, (n, *shape), generator=source, dtype=torch.uint8)
    train[:, 0, 0, 0] = torch.arange(n)
    test = torch.randint(0, 256, (7, *shape), generator=source, dtype=torch.uint8)
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels]
    return Splits(train, torch.arange(n) % 10, test, torch.arange(7), 10, mean, std)


def features(n: int = 50) -> Any:
    return Splits(torch.arange(n * 4.0).view(n, 4), torch.arange(n) % 3, torch.zeros(2, 4), torch.tensor([0, 2]), 3)


def join(batches: Any) -> tuple[Tensor, Tensor]:
    xs, ys = zip(*batches, strict=True)
    return torch.cat(xs), torch.cat(ys)


def numbers(x: Tensor, splits: Splits) -> list[int]:
    """Which training images these are."""
    return [round((v * splits.std[0] + splits.mean[0]) * 255) for v in x[:, 0, 0, 0].tolist()]


def image_files(root: Path, per_class: int = 3, size: tuple[int, int] = (4, 4)) -> Path:
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "ape"):
            (root / "pets" / part / name).mkdir(parents=True)
            for i in range(per_class):
                pixels = draw.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "pets" / part / name / f"{i}.png")
    return root / "pets"


def pets(root: Path, **args: Any) -> Any:
    return load(Component("image_folder", {"folder": "pets", "size": 4, **args}), root)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "lottery"]


# Batches


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_is_the_image_scaled_to_1_less_the_mean_over_the_std(channels_last: bool) -> None:
    splits = images()
    x, y = join(Data(splits, seed=0, device=CPU, channels_last=channels_last).evaluation("test"))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (splits.mean, splits.std))
    torch.testing.assert_close(x, (splits.test_x / 255 - mean) / std)
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert y.equal(splits.test_y)


def test_features_are_used_as_they_are() -> None:
    splits = features()
    data = Data(splits, seed=0, device=CPU, channels_last=True)
    assert data.input_shape == (4,)
    assert data.classes == 3
    x, y = join(data.epoch(0, 8))
    assert sorted(x[:, 0].tolist()) == splits.train_x[:, 0].tolist()
    assert (x[:, 0] / 4 % 3).equal(y.float())


def test_training_and_validation_are_disjoint_and_cover_the_training_set() -> None:
    splits = images()
    data = Data(splits, seed=3, validation=13, device=CPU)
    train, held_out = (numbers(join(data.evaluation(part))[0], splits) for part in ("train", "validation"))
    assert (data.train_size, data.validation_size) == (37, 13)
    assert sorted(train + held_out) == list(range(50))
    assert sorted(numbers(join(data.epoch(0, 10))[0], splits)) == sorted(train)


def test_another_seed_holds_out_other_examples() -> None:
    splits = images()
    first, second = (join(Data(splits, seed=s, validation=13, device=CPU).evaluation("validation"))[0] for s in (0, 1))
    assert set(numbers(first, splits)) != set(numbers(second, splits))


@pytest.mark.parametrize("stratify", [False, True])
def test_the_data_of_another_seed_are_the_same_examples_in_memory_and_batches_as_made_for_it(stratify: bool) -> None:
    splits = images()
    given: dict[str, Any] = {"validation": 13, "limit": 21, "stratify": stratify, "augment": Augment(crop=1)}
    one, made = Data(splits, seed=0, device=CPU, **given), Data(splits, seed=1, device=CPU, **given)
    other = one.of_seed(1)
    assert (one.seed, other.seed) == (0, 1)
    for part in ("train", "validation", "test"):
        assert join(other.evaluation(part))[0].equal(join(made.evaluation(part))[0])
    assert join(other.epoch(2, 10))[0].equal(join(made.epoch(2, 10))[0])
    assert join(one.epoch(2, 10))[0].equal(join(Data(splits, seed=0, device=CPU, **given).epoch(2, 10))[0])
    (held, _, _), (shared, _, _) = one._parts["train"], other._parts["train"]
    assert shared is held


def test_the_limit_keeps_the_first_of_the_training_examples_and_leaves_validation_alone() -> None:
    splits = images()
    whole = Data(splits, seed=0, validation=10, device=CPU)
    few = Data(splits, seed=0, validation=10, limit=12, device=CPU)
    assert few.train_size == 12
    assert join(few.evaluation("train"))[0].equal(join(whole.evaluation("train"))[0][:12])
    assert join(few.evaluation("validation"))[0].equal(join(whole.evaluation("validation"))[0])


def test_every_epoch_has_another_order_and_equal_seeds_share_it() -> None:
    data, same = (Data(images(), seed=5, device=CPU) for _ in range(2))
    assert join(data.epoch(1, 10))[0].equal(join(same.epoch(1, 10))[0])
    assert not join(data.epoch(1, 10))[0].equal(join(data.epoch(2, 10))[0])


def test_the_last_batch_is_smaller() -> None:
    data = Data(images(), seed=0, device=CPU)
    assert data.steps_per_epoch(12) == 5
    assert [len(y) for _, y in data.epoch(0, 12)] == [12, 12, 12, 12, 2]


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 2**20])  # one batch, a few, or all of them at a time
def test_batches_from_a_later_one_on_are_the_tail_of_the_pass(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lottery.data.loader.CHUNK_BYTES", {"cpu": chunk_bytes})
    data = Data(images(), seed=0, augment=Augment(crop=2, flip=True), device=CPU, channels_last=True)
    whole = list(data.epoch(4, 5))
    for first in range(12):
        tail = list(data.epoch(4, 5, first))
        assert len(tail) == max(0, 10 - first)
        for (x, y), (same_x, same_y) in zip(tail, whole[first:], strict=True):
            assert x.equal(same_x) and y.equal(same_y)
            assert x.data_ptr() % 64 == same_x.data_ptr() % 64


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [Augment(crop=2), Augment(flip=True), Augment(crop=4, flip=True)])
def test_augmentation_crops_and_flips_each_image_on_its_own(augment: Augment, channels_last: bool) -> None:
    splits = images()
    data = Data(splits, seed=9, augment=augment, device=CPU, channels_last=channels_last)
    plain = Data(splits, seed=9, device=CPU)
    draws = generator(9, "augment", 2)
    corners = torch.randint(0, 2 * augment.crop + 1, (50, 2), generator=draws).tolist()
    flips = torch.randint(0, 2, (50,), generator=draws).tolist()
    order = numbers(join(plain.epoch(2, 50))[0], splits)
    expected = np.empty((50, 3, 6, 5))
    for i, ((row, column), flip) in enumerate(zip(corners, flips, strict=True)):
        pad = ((0, 0), (augment.crop, augment.crop), (augment.crop, augment.crop))
        image = np.pad(splits.train_x[order[i]].numpy(), pad)[:, row : row + 6, column : column + 5]
        expected[i] = image[:, :, ::-1] if flip and augment.flip else image
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (splits.mean, splits.std))
    np.testing.assert_allclose(join(data.epoch(2, 8))[0], (expected / 255 - mean) / std, rtol=1e-5, atol=1e-6)
    assert len({tuple(c) for c in corners}) > 1 or not augment.crop


def test_evaluation_is_never_augmented() -> None:
    splits = images()
    augmented, plain = (Data(splits, seed=0, validation=9, augment=a, device=CPU) for a in (Augment(2, True), None))
    for part in ("train", "validation", "test"):
        assert join(augmented.evaluation(part, 4))[0].equal(join(plain.evaluation(part))[0])


def by_class(per_class: int = 40, classes: int = 10) -> Splits:
    """Data whose test set goes class by class; image i of it has i in its first two pixels."""
    made = images()
    labels = torch.arange(classes).repeat_interleave(per_class)
    test = torch.zeros(len(labels), *made.test_x.shape[1:], dtype=torch.uint8)
    test[:, 0, 0, 0], test[:, 0, 0, 1] = torch.arange(len(labels)) // 256, torch.arange(len(labels)) % 256
    return replace(made, test_x=test, test_y=labels)


def test_a_part_of_a_test_set_that_goes_class_by_class_has_about_its_share_of_each_class() -> None:
    labels = join(Data(by_class(per_class=300), seed=0, device=CPU).first("test", 1500))[1]
    # drawn without replacement, a class has 150 of its 300 with a standard deviation of 8.2
    assert labels.bincount(minlength=10).sum() == 1500
    assert (labels.bincount(minlength=10) - 150).abs().max() < 4 * 8.2


def test_the_part_of_the_test_set_is_the_same_for_all_seeds_and_sizes_and_has_no_example_twice() -> None:
    splits = by_class()
    data = Data(splits, seed=0, validation=10, device=CPU)
    x, y = join(data.first("test", 120))
    assert len(x.unique(dim=0)) == 120
    for other in (Data(splits, seed=5, device=CPU), data.of_seed(5), data):
        again_x, again_y = join(other.first("test", 120))
        assert again_x.equal(x) and again_y.equal(y)
    fewer_x, fewer_y = join(data.first("test", 50))
    assert fewer_x.equal(x[:50]) and fewer_y.equal(y[:50])


@pytest.mark.parametrize("count", [None, 400, 10_000])
def test_a_test_set_that_is_read_whole_keeps_its_order(count: int | None) -> None:
    data = Data(by_class(), seed=0, device=CPU)
    x, y = join(data.first("test", count))
    whole_x, whole_y = join(data.evaluation("test"))
    assert x.equal(whole_x) and y.equal(whole_y)
    assert y.equal(torch.arange(10).repeat_interleave(40))


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("count", [None, 1, 7, 20, 60])
def test_the_first_examples_of_the_other_parts_are_the_first_of_their_evaluation(
    part: Literal["train", "validation"], count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVALUATION_BATCH, "cpu", 6)
    data = Data(images(), seed=0, validation=20, device=CPU)
    x, y = join(data.first(part, count))
    whole_x, whole_y = join(data.evaluation(part))
    assert x.equal(whole_x[:count]) and y.equal(whole_y[:count])
    assert [len(batch) for batch, _ in data.first(part, count)][:-1] == [6] * ((len(x) - 1) // 6)


def test_without_a_validation_split_there_is_nothing_to_validate_on() -> None:
    assert list(Data(images(), seed=0, device=CPU).evaluation("validation")) == []


@pytest.mark.parametrize(
    ("splits", "args", "message"),
    [
        (images(), {"validation": 50}, "data.validation: 50 of 50 training examples leaves none"),
        (images(), {"validation": -1}, "data.validation: -1 of 50"),
        (images(), {"limit": 0}, "data.limit: 0 examples"),
        (images(), {"augment": Augment(crop=5)}, "data.augment.crop: 5 pixels around images of 6x5"),
        (features(), {"augment": Augment(flip=True)}, "data.augment: crop and flip are for images"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(splits: Splits, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Data(splits, seed=0, device=CPU, **args)


def numpy_state() -> Any:
    return np.random.get_state()[1]  # type: ignore[index]


def test_the_global_generators_are_left_alone(tmp_path: Path) -> None:
    states: list[Any] = [torch.get_rng_state(), numpy_state(), random.getstate()]
    load(Component("mnist1d", {"samples": 50, "seed": 6}), tmp_path)  # which no other test has made and kept
    list(Data(images(), seed=0, validation=5, augment=Augment(1, True), device=CPU).epoch(0, 8))
    assert torch.get_rng_state().equal(states[0])
    assert (numpy_state() == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.gpu
def test_a_gpu_makes_the_same_batches_as_a_cpu() -> None:
    on_cpu, on_gpu = (
        Data(images(), seed=0, validation=7, augment=Augment(2, True), device=torch.device(name), channels_last=True)
        for name in ("cpu", "cuda")
    )
    for first in (0, 3):
        x, y = join(on_gpu.epoch(1, 8, first))
        expected_x, expected_y = join(on_cpu.epoch(1, 8, first))
        assert x.is_cuda and x.is_contiguous(memory_format=torch.channels_last)
        assert x.cpu().equal(expected_x) and y.cpu().equal(expected_y)


# Fingerprints


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    """The one that a process of long ago wrote down."""
    x = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    here = fingerprint(Splits(x, torch.tensor([0, 1]), x, torch.tensor([1, 0]), 2, (0.5,) * 3, (0.25,) * 3))
    assert here == "c6c0f57ec605771704403da4a63af0e987318684f163cd01f84c0e94e781b6a2"


def test_a_fingerprint_does_not_depend_on_the_layout_in_memory() -> None:
    splits = images()
    other = replace(splits, train_x=splits.train_x.contiguous(memory_format=torch.channels_last))
    assert fingerprint(other) == fingerprint(splits)


@pytest.mark.parametrize("name", ["train_x", "train_y", "test_x", "test_y", "classes", "mean", "std"])
def test_any_change_changes_the_fingerprint(name: str) -> None:
    splits = images()
    value = getattr(splits, name)
    if isinstance(value, Tensor):
        value = value.clone()
        value.view(-1)[-1] += 1
    else:
        value = value + 1 if name == "classes" else (*value[:-1], value[-1] + 1e-9)
    assert fingerprint(replace(splits, **{name: value})) != fingerprint(splits)


@pytest.mark.parametrize("name", ["digits", "mnist1d"])
def test_a_data_set_that_is_kept_in_memory_is_given_out_as_a_copy(name: str, tmp_path: Path) -> None:
    first = load(Component(name), tmp_path)
    expected = fingerprint(first)
    for tensor in (first.train_x, first.train_y, first.test_x, first.test_y):
        assert isinstance(tensor, Tensor)
        tensor.zero_()
    assert fingerprint(load(Component(name), tmp_path)) == expected


# What an entry returns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_y": torch.full((50,), 10)}, "training labels go from 10 to 10, the classes from 0 to 9"),
        ({"test_y": torch.zeros(6, dtype=torch.int64)}, r"7 test examples with labels torch.int64 \(6,\)"),
        ({"test_x": torch.zeros(7, 3, 5, 5, dtype=torch.uint8)}, "test examples are uint8 .3, 5, 5., training"),
        ({"mean": (0.5,)}, "3 channels need as many means and stds"),
        ({"std": (0.5, 0.0, 0.5)}, "must be above 0 to divide by"),
        (
            {"train_x": torch.zeros(50, 3, 6, 5, dtype=torch.int32)},
            "test examples are uint8 .3, 6, 5., training examples int32",
        ),
    ],
)
def test_splits_that_cannot_be_trained_on_are_refused(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))  # where nothing is kept of the right ones
    broken = replace(images(), **change)
    monkeypatch.setitem(datasets._entries, "digits", replace(datasets["digits"], make=lambda root: broken))
    with pytest.raises(DataError, match=f"data set digits: .*{message}"):
        load(Component("digits"), tmp_path)


def test_digits_are_1437_and_360_images_that_never_change(tmp_path: Path) -> None:
    splits: Any = load(Component("digits"), tmp_path)
    assert (splits.train_x.shape, splits.test_x.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert (splits.train_x.min(), splits.train_x.max()) == (0, 255)
    assert fingerprint(splits).startswith("8fdc417b7e3b")


def test_mnist1d_repeats_itself_and_follows_its_seed(tmp_path: Path) -> None:
    made = [load(Component("mnist1d", {"samples": 100, **args}), tmp_path) for args in ({}, {}, {"seed": 1})]
    assert (made[0].train_x.shape, made[0].test_x.shape) == ((80, 40), (20, 40))
    assert fingerprint(made[0]) == fingerprint(made[1]) != fingerprint(made[2])
    assert list(tmp_path.iterdir()) == []


# Files of torchvision


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(folder: Path, n: int = 6) -> dict[str, Path]:
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.arange(n * 784, dtype=np.uint8).reshape(n, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8)))
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The time a server would have been waited for, at each attempt."""
    timeouts: list[float | None] = []

    def refuse(*args: Any, **more: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        print("looking")
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return timeouts


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_files_are_read_whole(name: str, tmp_path: Path) -> None:
    mnist_files(tmp_path / {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name] / "raw")
    splits: Any = load(Component(name), tmp_path)
    assert splits.train_x.shape == (6, 1, 28, 28)
    assert splits.test_x[1, 0, 0, :3].tolist() == [16, 17, 18]
    assert splits.train_y.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_missing_data_says_what_was_looked_for_and_how_to_get_it(
    name: str, file: str, tmp_path: Path, no_network: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError) as caught:
        load(Component(name), tmp_path / "none")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'none' / file} not found and the download failed (")
    assert "no network" in message and "--data or LOTTERY_DATA" in message and "\n" not in message
    assert caught.value.exit_code == 2
    assert set(no_network) == {15.0} and socket.getdefaulttimeout() is None
    assert not (tmp_path / "none").exists()
    assert capsys.readouterr().out == ""


def test_a_download_puts_only_whole_files_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    files = mnist_files(tmp_path / "server")
    served = {f"{name}.gz": gzip.compress(path.read_bytes()) for name, path in files.items()}
    monkeypatch.setattr(MNIST, "resources", [(n, hashlib.md5(data).hexdigest()) for n, data in served.items()])

    class Answer(io.BytesIO):
        length, url = None, None

    def serve(request: Any) -> Answer:
        return Answer(served[request.full_url.rpartition("/")[2]])

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    assert load(Component("mnist"), tmp_path / "data").train_x.shape == (6, 1, 28, 28)
    assert {p.name for p in (tmp_path / "data").rglob("*") if p.is_file()} == set(files)
    monkeypatch.undo()
    assert load(Component("mnist"), tmp_path / "data").train_x.shape == (6, 1, 28, 28)


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"", lambda b: b"\xff" * 8 + b[8:]])
def test_a_damaged_file_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = mnist_files(tmp_path / "MNIST" / "raw")["t10k-images-idx3-ubyte"]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match="MNIST/raw: the files of MNIST are damaged or incomplete"):
        load(Component("mnist"), tmp_path)


def test_a_torchvision_of_another_torch_is_reported_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, *rest: Any) -> None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match=r"nms does not exist.*pip install --upgrade torch torchvision"):
        load(Component("mnist"), tmp_path)


# Folders of images


def test_images_in_folders_are_labelled_by_sorted_class_name(tmp_path: Path) -> None:
    folder = image_files(tmp_path)
    splits = pets(tmp_path)
    assert splits.train_y.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(folder / "train" / "cat" / "1.png"))
    assert (splits.train_x[4].permute(1, 2, 0).numpy() == expected).all()
    pixels = splits.train_x.double() / 255
    torch.testing.assert_close(torch.tensor(splits.mean).double(), pixels.mean((0, 2, 3)), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        torch.tensor(splits.std).double(), pixels.std((0, 2, 3), correction=0), rtol=0, atol=1e-7
    )


def test_given_mean_and_std_are_used(tmp_path: Path) -> None:
    image_files(tmp_path)
    splits = pets(tmp_path, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert (splits.mean, splits.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_an_image_of_another_shape_is_scaled_and_cut_at_its_centre(tmp_path: Path) -> None:
    folder = image_files(tmp_path)
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200  # the middle square
    Image.fromarray(wide).save(folder / "train" / "ape" / "0.png")
    assert pets(tmp_path).train_x[0, :, :, 1:3].eq(200).all()


def test_decoded_images_come_from_the_cache_until_a_byte_changes(tmp_path: Path) -> None:
    folder = image_files(tmp_path)
    first = pets(tmp_path)
    (cache,) = (tmp_path / ".cache").iterdir()
    stamp = cache.stat().st_mtime_ns
    assert fingerprint(pets(tmp_path)) == fingerprint(first)
    assert cache.stat().st_mtime_ns == stamp
    Image.new("RGB", (4, 4), "red").save(folder / "test" / "cat" / "0.png")
    assert pets(tmp_path).test_x[3, 0].eq(255).all()
    assert len(list((tmp_path / ".cache").iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b[:100], lambda b: b""])
def test_a_damaged_cache_is_decoded_afresh(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image_files(tmp_path)
    first = fingerprint(pets(tmp_path))
    (cache,) = (tmp_path / ".cache").iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))
    assert fingerprint(pets(tmp_path)) == first
    assert cache.read_bytes() == whole
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"{cache}: damaged")


def test_without_a_place_for_the_cache_it_goes_on_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image_files(tmp_path)
    (tmp_path / ".cache").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert len(pets(tmp_path).train_x) == 6
    (warning,) = warnings_of(caplog)
    assert warning.startswith("the decoded images are not kept: ") and ".cache" in warning


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    file = image_files(tmp_path) / "train" / "cat" / "2.png"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train/cat/2.png: no image that can be read"):
        pets(tmp_path)


def test_a_folder_that_is_not_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pets/train: No such file.*train/<class>/ and test/<class>/.*LOTTERY_DATA"):
        pets(tmp_path)


@pytest.mark.parametrize("folder", ["../pets", "/etc", ".", ""])
def test_a_folder_outside_the_data_is_refused(folder: str) -> None:
    _, problems = datasets.check(Component("image_folder", {"folder": folder}))
    assert [place for place, _ in problems] == [("folder",)]


# Real data


@pytest.mark.data
def test_mnist_is_what_was_published(real_data: Path) -> None:
    splits = load(Component("mnist"), real_data)
    assert (splits.train_x.shape, splits.test_x.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert splits.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert splits.train_y.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    x, _ = join(Data(splits, seed=0, device=CPU).evaluation("train"))
    assert x.mean().abs() < 1e-3 and (x.std() - 1).abs() < 1e-3


@pytest.mark.data("cifar10-images")
def test_cifar10_as_a_folder_of_images_is_balanced_and_has_the_published_means(real_data: Path) -> None:
    splits = load(Component("image_folder", {"folder": "cifar10-images"}), real_data)
    assert (splits.train_x.shape, splits.test_x.shape) == ((50000, 3, 32, 32), (10000, 3, 32, 32))
    assert splits.train_y.bincount().tolist() == [5000] * 10
    assert np.abs(np.array(splits.mean) - (0.4914, 0.4822, 0.4465)).max() < 1e-3


def test_a_long_pass_over_files_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 20))  # seconds; a look at the start and one after each part
    monkeypatch.setattr("lottery.files.progress.monotonic", lambda: next(clock))
    parts = [(size, str(size)) for size in (10, 20, 30, 40)]
    assert list(log_progress(parts, tmp_path, 100, "hashed")) == ["10", "20", "30", "40"]
    assert warnings_of(caplog) == [f"{tmp_path}: hashed 30 of 100 images, 2 min left"]  # 70 more at 30 in 40 s


def test_evaluation_takes_batches_as_large_as_suit_the_device_and_the_images() -> None:
    def sizes(device: str, *shape: int) -> list[int]:
        x, y = torch.zeros(4500, *shape, dtype=torch.uint8), torch.zeros(4500, dtype=torch.int64)
        data = Data(Splits(x, y, x, y, 2, (0.5,), (0.5,)), seed=0, device=torch.device(device))
        return [len(labels) for _, labels in data.evaluation("test")]

    assert sizes("cpu", 1, 2, 2) == [500] * 9
    assert sizes("meta", 1, 2, 2) == [2000, 2000, 500]  # a device that is no CPU
    assert max(sizes("meta", 1, 128, 128)) == 2**26 // (4 * 128 * 128)


# Label noise


@pytest.mark.parametrize("share", [0.1, 0.25, 1.0])
def test_label_noise_replaces_exactly_its_share_by_other_classes_of_equal_chance(share: float) -> None:
    clean = replace(features(30_000), classes=3)
    noisy = with_label_noise(clean, LabelNoise(share=share))
    moved = (noisy.train_y - clean.train_y) % 3
    counts = moved.bincount(minlength=3).tolist()
    assert counts[0] == 30_000 - round(share * 30_000)
    assert abs(counts[1] - counts[2]) < 5 * (counts[1] + counts[2]) ** 0.5
    assert noisy.test_y is clean.test_y and noisy.train_x is clean.train_x
    assert clean.train_y.equal(torch.arange(30_000) % 3)  # the data set itself stays


def test_more_label_noise_of_a_seed_replaces_what_less_does_by_the_same_classes() -> None:
    clean = features(500)
    less, more, other = (
        with_label_noise(clean, noise).train_y
        for noise in (LabelNoise(share=0.2), LabelNoise(share=0.4), LabelNoise(share=0.2, seed=1))
    )
    changed = less != clean.train_y
    assert more[changed].equal(less[changed]) and int((more != clean.train_y).sum()) == 200
    assert not other.equal(less)


def test_noisy_images_in_memory_and_in_their_files_have_one_fingerprint(tmp_path: Path) -> None:
    image_files(tmp_path, per_class=20)
    args, noise = {"folder": "pets", "size": 4}, LabelNoise(share=0.2)
    resident, streamed = (
        load(Component("image_folder", {**args, "stream": stream}), tmp_path, noise) for stream in (False, True)
    )
    assert resident.train_y.equal(streamed.train_y)
    assert fingerprint(resident) == fingerprint(streamed)
    clean = load(Component("image_folder", args), tmp_path)
    again = with_label_noise(replace(clean, known=fingerprint(clean)), noise)  # as a run of several recipes keeps it
    assert fingerprint(again) == fingerprint(resident) != fingerprint(clean)


def test_a_fingerprint_covers_share_and_seed_of_label_noise_also_where_images_stay_in_files(tmp_path: Path) -> None:
    image_files(tmp_path, per_class=20)
    noises = [None, LabelNoise(share=0.2), LabelNoise(share=0.3), LabelNoise(share=0.2, seed=1)]
    component = Component("image_folder", {"folder": "pets", "size": 4, "stream": True})
    for known in (features(), load(component, tmp_path)):
        found = [fingerprint(known if noise is None else with_label_noise(known, noise)) for noise in noises]
        assert len(set(found)) == len(noises)
        assert fingerprint(with_label_noise(known, LabelNoise(share=0.2))) == found[1]


def test_examples_held_out_have_the_labels_of_the_training_set_and_test_examples_clean_ones() -> None:
    clean = images()
    noisy = with_label_noise(clean, LabelNoise(share=0.4))
    x, y = join(Data(noisy, seed=0, validation=20, device=CPU).evaluation("validation"))
    assert y.equal(noisy.train_y[numbers(x, clean)]) and not y.equal(clean.train_y[numbers(x, clean)])
    assert join(Data(noisy, seed=0, device=CPU).evaluation("test"))[1].equal(clean.test_y)


def test_label_noise_needs_classes_and_two_of_them() -> None:
    numbers_to_fit = Component("matrix_factorization", {"size": 5, "rank": 2})
    with pytest.raises(UsageError, match=r"data\.label_noise: is for classes"):
        load(numbers_to_fit, Path("nowhere"), LabelNoise(share=0.2))
    one = replace(features(), train_y=torch.zeros(50, dtype=torch.int64), classes=1)
    with pytest.raises(UsageError, match="there is one only"):
        with_label_noise(one, LabelNoise(share=0.2))
