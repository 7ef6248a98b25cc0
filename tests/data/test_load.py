"""Decoded data are kept: the next start maps them, and notices where files or what is kept have changed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lottery.catalogue.datasets._torchvision as reader
from lottery.catalogue.datasets import local
from lottery.catalogue.datasets.vision import MNIST
from lottery.data import kept
from lottery.data.load import load
from lottery.data.splits import Splits, fingerprint
from lottery.errors import DataError
from lottery.values import Component
from tests.support.micro import micro

DATA = Component("mnist")


def write_digits(root: Path, seed: int = 0, training: int = 60, test: int = 20) -> None:
    """Write images and labels in the format of MNIST's files."""
    random = np.random.default_rng(seed)
    for images, labels, count in ((MNIST[0], MNIST[1], training), (MNIST[2], MNIST[3], test)):
        for name, values in (
            (images, random.integers(0, 256, (count, 28, 28))),
            (labels, random.integers(0, 10, count)),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            head = struct.pack(f">{1 + values.ndim}i", 0x800 + values.ndim, *values.shape)
            (root / name).write_bytes(head + values.astype(np.uint8).tobytes())


def images(splits: Splits) -> torch.Tensor:
    """The training images, which lie in memory."""
    assert isinstance(splits.train_x, torch.Tensor)
    return splits.train_x


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data sets with small digits, and a cache of its own."""
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
    write_digits(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the data sets that were decoded, in order."""
    names: list[str] = []
    tensors = reader._tensors

    def counted(dataset: object) -> tuple[torch.Tensor, torch.Tensor]:
        names.append(type(dataset).__name__)
        return tensors(dataset)

    monkeypatch.setattr(reader, "_tensors", counted)
    return names


def test_a_second_start_decodes_nothing_and_has_the_same_tensors_in_the_same_layout(
    root: Path, decoded: list[str]
) -> None:
    first, second = load(DATA, root), load(DATA, root)
    assert len(decoded) == 2  # training and test images, once each
    for name in ("train_x", "train_y", "test_x", "test_y"):
        one, other = getattr(first, name), getattr(second, name)
        assert torch.equal(one, other)
        assert (one.dtype, one.stride()) == (other.dtype, other.stride())
    assert (first.classes, first.mean, first.std) == (second.classes, second.mean, second.std)
    assert fingerprint(first) == fingerprint(second) == kept.fingerprint_of(DATA, root)


def test_what_a_process_writes_to_its_tensors_stays_its_own(root: Path) -> None:
    load(DATA, root)
    images(load(DATA, root)).fill_(7)
    assert not bool((images(load(DATA, root)) == 7).all())


def test_other_bytes_in_a_file_are_other_data(root: Path) -> None:
    before = load(DATA, root)
    write_digits(root, seed=1)
    assert kept.fingerprint_of(DATA, root) is None
    after = load(DATA, root)
    assert not torch.equal(images(before), images(after))
    assert fingerprint(before) != fingerprint(after)


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "describe"])
def test_what_is_kept_and_damaged_is_decoded_anew(root: Path, decoded: list[str], harm: str) -> None:
    whole = load(DATA, root)
    folder = kept.folder_of(DATA, root)
    assert folder is not None
    kept_images = folder / "train_x"
    if harm == "flip":
        kept_images.write_bytes(bytes([kept_images.read_bytes()[0] ^ 1]) + kept_images.read_bytes()[1:])
    elif harm == "cut":
        kept_images.write_bytes(kept_images.read_bytes()[:-1])
    elif harm == "remove":
        kept_images.unlink()
    else:
        (folder / kept.ABOUT).write_text("{")
    again = load(DATA, root)
    assert len(decoded) == 4
    assert torch.equal(images(again), images(whole))
    assert fingerprint(load(DATA, root)) == fingerprint(whole)
    assert len(decoded) == 4  # and kept again


def test_damaged_files_are_refused_whatever_was_kept_of_them(root: Path) -> None:
    load(DATA, root)
    (root / MNIST[0]).write_bytes((root / MNIST[0]).read_bytes()[:100])
    with pytest.raises(DataError, match="damaged or incomplete"):
        load(DATA, root)


def test_a_cache_that_cannot_be_written_is_done_without(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "file").write_text("")
    monkeypatch.setenv("LOTTERY_CACHE", str(root / "file"))
    assert torch.equal(images(load(DATA, root)), images(load(DATA, root)))


def test_computed_data_are_kept_under_the_versions_of_what_computes_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(Component("mnist1d", {"samples": 50}), root)
    here = kept.folder_of(Component("mnist1d", {"samples": 50}), root)
    assert here is not None and kept.fingerprint_of(Component("mnist1d", {"samples": 50}), root) == first.known
    monkeypatch.setattr(local, "_kept_signals", None)  # whoever computes them again fails
    assert torch.equal(images(load(Component("mnist1d", {"samples": 50}), root)), images(first))
    assert kept.folder_of(Component("mnist1d", {"samples": 60}), root) != here
    monkeypatch.setattr("importlib.metadata.version", lambda name: "another")
    assert kept.folder_of(Component("mnist1d", {"samples": 50}), root) not in (None, here)


def test_a_data_set_that_neither_files_nor_packages_determine_is_not_kept(root: Path) -> None:
    assert kept.folder_of(Component("least_squares"), root) is None


def test_a_run_of_which_nothing_is_missing_reads_no_data(
    root: Path, decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lottery
    from lottery.runner import prepare

    recipe = micro("data=mnist", "seeds=[0]", "model={name: lenet, widths: [4]}", "train.batch_size=20")
    first = lottery.run(recipe, data=root, store=tmp_path / "store")
    assert first.exit_code == 0
    monkeypatch.setattr(prepare, "load_once", None)  # whoever calls it fails
    for jobs in (1, 2):
        again = lottery.run(recipe, data=root, store=tmp_path / "store", jobs=jobs)
        assert (again.exit_code, again.count("found")) == (0, first.total)
    monkeypatch.undo()
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
    write_digits(root, seed=1)
    other = lottery.run(recipe, data=root, store=tmp_path / "store")
    assert (other.count("found"), other.count("done")) == (0, first.total)


@pytest.mark.parametrize("command", [["run"], ["plan"], ["plan", "--list"], ["table", "--view", "layers"]])
def test_a_finished_recipe_is_shown_without_torch(root: Path, tmp_path: Path, command: list[str]) -> None:
    import lottery

    recipe = tmp_path / "recipe.json"
    settings = ("data=mnist", "seeds=[0]", "model={name: lenet, widths: [4]}", "train.batch_size=20", "rewind=init")
    recipe.write_text(json.dumps(micro(*settings).canonical()))
    places = ["--data", str(root), "--store", str(tmp_path / "store")]
    lottery.run(recipe, data=root, store=tmp_path / "store", device="cpu")
    code = (
        "import sys\nfrom lottery.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, str(recipe), *places], capture_output=True, text=True)
    shown = {"run": "density", "plan": "0 missing", "table": "effective"}[command[0]]
    assert (done.stdout.splitlines()[-1:], shown in done.stdout) == (["False"], True), done.stderr
