"""Decoded data are kept: the next start maps them, and notices where files or what is kept have changed."""

from __future__ import annotations

import gc
import json
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lottery.catalogue.datasets._torchvision as reader
from lottery import registry
from lottery.catalogue.datasets.vision import MNIST
from lottery.data import kept
from lottery.data.load import load
from lottery.data.splits import Splits, fingerprint
from lottery.errors import DataError
from lottery.values import Component, LabelNoise
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


def test_files_that_are_changed_while_they_are_read_are_not_kept_as_what_they_were(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = fingerprint(load(DATA, root))
    shutil.rmtree(root.parent / "cache")
    with monkeypatch.context() as patch:
        make = reader._tensors

        def changing(dataset: object) -> tuple[torch.Tensor, torch.Tensor]:
            found = make(dataset)
            write_digits(root, seed=1)
            return found

        patch.setattr(reader, "_tensors", changing)
        load(DATA, root)
    write_digits(root)
    assert fingerprint(load(DATA, root)) == right


def test_what_code_of_a_notebook_computes_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.folder_of(Component("mnist1d"), root) is not None
    monkeypatch.delattr(sys.modules[registry.datasets["mnist1d"].module], "__file__")
    assert kept.folder_of(Component("mnist1d"), root) is None


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


COMPUTED = [entry.name for entry in registry.datasets if entry.traits.computed_by is not None]


@pytest.mark.parametrize("name", COMPUTED)
def test_what_is_computed_is_kept_and_has_the_same_bytes_from_there(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = registry.datasets[name]
    made = entry.make(root)
    load(Component(name), root)

    @wraps(entry.make)
    def refuse(root: Path, **_: object) -> Splits:
        raise AssertionError("computed again")

    monkeypatch.setitem(registry.datasets._entries, name, replace(entry, make=refuse))
    again = load(Component(name), root)
    for tensor in ("train_x", "train_y", "test_x", "test_y"):
        one, other = getattr(made, tensor), getattr(again, tensor)
        assert torch.equal(one, other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert fingerprint(again) == fingerprint(made) == kept.fingerprint_of(Component(name), root)


def test_every_data_set_of_this_package_says_what_it_is_made_of(root: Path) -> None:
    """Else a run of a finished recipe would have to read or compute the data."""
    traits = {entry.name: entry.traits for entry in registry.datasets if not entry.code}
    assert {n for n, each in traits.items() if not each.files and not each.state and each.computed_by is None} == set()


@pytest.mark.parametrize("other", ["version", "processor", "variables", "__version__"])
def test_what_other_packages_or_processors_compute_is_kept_apart(
    other: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.folder_of(Component("mnist1d"), root)
    monkeypatch.setattr(kept, other, "another" if other == "__version__" else lambda *_: "another")
    assert kept.folder_of(Component("mnist1d"), root) != before


PETS = Component("image_folder", {"folder": "pets", "size": 4})


@pytest.fixture
def pets(root: Path) -> Path:
    """A folder of two classes with an image each in train/ and test/."""
    for number, place in enumerate(("train/ape", "train/bee", "test/ape", "test/bee")):
        (root / "pets" / place).mkdir(parents=True)
        Image.new("RGB", (4, 4), (number, 2 * number, 9 * number)).save(root / "pets" / place / "a.bmp")
    return root / "pets"


@pytest.mark.parametrize("change", ["bytes", "name", "more", "fewer", "size"])
def test_the_fingerprint_of_a_folder_of_images_is_known_until_a_file_changes(
    change: str, pets: Path, root: Path
) -> None:
    known = fingerprint(load(PETS, root))
    assert kept.fingerprint_of(PETS, root) == known
    assert kept.fingerprint_of(Component("image_folder", {**PETS.args, "stream": True}), root) == known
    file, other = pets / "train" / "ape" / "a.bmp", PETS
    if change == "bytes":  # of the same length, and the time is set back
        before = file.stat()
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "name":
        file.rename(file.with_name("b.bmp"))
    elif change == "more":
        (file.parent / "inside").mkdir()
        shutil.copy(file, file.parent / "inside" / "b.bmp")
    elif change == "fewer":
        (pets / "test" / "bee" / "a.bmp").unlink()
    else:
        other = Component("image_folder", {**PETS.args, "size": 3})
    assert kept.fingerprint_of(other, root) is None
    load(other, root)
    assert kept.fingerprint_of(other, root) is not None


def test_a_folder_that_is_gone_has_no_fingerprint(pets: Path, root: Path) -> None:
    load(PETS, root)
    shutil.rmtree(pets)
    assert kept.fingerprint_of(PETS, root) is None


def test_labels_with_noise_are_known_by_the_share_and_the_seed(root: Path) -> None:
    noise = LabelNoise(share=0.5)
    assert kept.fingerprint_of(Component("digits"), root, noise) is None
    noisy = load(Component("digits"), root, noise)
    assert kept.fingerprint_of(Component("digits"), root, noise) == fingerprint(noisy)
    assert kept.fingerprint_of(Component("digits"), root) != fingerprint(noisy)
    for other in (LabelNoise(share=0.5, seed=1), LabelNoise(share=0.25)):
        assert kept.fingerprint_of(Component("digits"), root, other) is None


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


@pytest.mark.parametrize("data", ["mnist", "mnist1d", "pets", "noise"])
def test_a_finished_recipe_is_shown_without_torch(data: str, pets: Path, root: Path, tmp_path: Path) -> None:
    import lottery

    recipe, given = tmp_path / "recipe.json", {"pets": "{name: image_folder, folder: pets, size: 4}"}
    given["noise"] = "{name: digits, label_noise: 0.5}"
    settings = ("seeds=[0, 1]", "model={name: mlp, widths: [4]}", "train.batch_size=2", "train.length=2it")
    made = micro(f"data={given.get(data, data)}", *settings, "compare={margin: 1}")
    recipe.write_text(json.dumps(made.canonical()))
    places = ["--data", str(root), "--store", str(tmp_path / "store")]
    lottery.run(made, data=root, store=tmp_path / "store", device="cpu")
    code = (
        "import sys\nfrom lottery.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print({'torch', 'pandas', 'scipy.stats'} & set(sys.modules))"
    )
    others = (["plan"], ["plan", "--list"], ["table", "--view", "layers"]) if data == "mnist" else ()
    for command in (["run", "--device", "cpu"], *others):
        asked = [sys.executable, "-c", code, *command, str(recipe), *places]
        done = subprocess.run(asked, capture_output=True, text=True)
        shown = {"run": "density", "plan": "0 missing", "table": "effective"}[command[0]]
        assert shown in done.stdout and "'torch'" not in done.stdout.splitlines()[-1], done.stderr
        if command[0] == "run":
            assert done.stderr.splitlines()[-1].endswith("done before")
            assert done.stdout.splitlines()[-1] == "set()"


def test_a_second_start_trains_without_what_has_decoded_the_data(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    changes = ("seeds=[0]", "model={name: lenet, widths: [4]}", "train.batch_size=20", "train.engine=dense")
    recipe.write_text(json.dumps(micro("data=mnist", *changes).canonical()))
    load(DATA, root)
    code = (
        "import sys, lottery\n"
        "done = lottery.run(sys.argv[1], data=sys.argv[3], store=sys.argv[2], device='cpu')\n"
        "assert done.count('done') == done.total\n"
        "print({'torchvision', 'PIL', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(recipe), str(tmp_path / "store"), str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("set()", 0), done.stderr


def test_a_training_holds_one_copy_of_the_images(root: Path, tmp_path: Path) -> None:
    import lottery

    write_digits(root, training=5000)
    size = 5000 * 28 * 28  # bytes of the training images, a hundred times those of the network
    copies: list[int] = []

    def count(*_: object) -> None:
        tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
        copies.append(sum(nbytes // size for nbytes in storages.values()))

    settings = ("seeds=[0, 1]", "model={name: lenet, widths: [4]}", "train.batch_size=20", "branches=[{name: random}]")
    lottery.run(micro("data=mnist", *settings), data=root, store=tmp_path / "store", device="cpu", on_event=count)
    assert len(copies) > 20
    assert set(copies) == {1}
