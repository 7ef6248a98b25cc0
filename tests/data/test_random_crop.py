"""Windows of images in their files: those of torchvision, a function of (seed, epoch, example) and of nothing else."""

from __future__ import annotations

import os
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from lottery.data.load import load
from lottery.data.loader import Augment, Data
from lottery.data.random_crop import Crops, ResizedCrop
from lottery.data.splits import Splits, fingerprint
from lottery.errors import RecipeError, UsageError
from lottery.plan.keys import training_identity
from lottery.recipe.load import restore_recipe
from lottery.registry import datasets
from lottery.seed import generator
from lottery.values import Component
from tests.support.micro import micro, micro_text
from tests.support.restarts import contents, finish, start

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP = Augment(random_resized_crop=ResizedCrop())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many shapes, 11 for training and 3 for testing of each of two classes; colours change slowly in them,
    as in photographs."""
    root: Path = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for part, count in (("train", 11), ("test", 3)):
        for name in ("ape", "cat"):
            folder = root / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                small = Image.fromarray(draw.integers(0, 256, (5, 5, 3), dtype=np.uint8))
                width, height = (int(side) for side in draw.integers(20, 60, 2))
                small.resize((width, height)).save(folder / f"{i:03d}.{('png', 'jpg')[i % 2]}")
    return root


def files(root: Path, part: str) -> list[Path]:
    return sorted((root / "pets" / part).rglob("*.*"))


def pets(root: Path, **args: Any) -> Splits:
    given = {"folder": "pets", "size": 16, "resize": 20, "mean": MEAN, "std": STD, **args}
    return load(Component("image_folder", given), root)


def streamed(root: Path, augment: Augment | None = CROP, workers: int = 1) -> Data:
    return Data(pets(root, stream=True), seed=3, validation=4, augment=augment, device=CPU, workers=workers)


def passed(data: Data, epoch: int, first: int = 0) -> torch.Tensor:
    return torch.cat([x for x, _ in data.epoch(epoch, 4, first)])


@pytest.mark.parametrize(
    "crop", [ResizedCrop(), ResizedCrop((0.5, 1.0), (1.0, 1.0)), ResizedCrop((0.9, 1.0), (0.2, 0.3))]
)
def test_boxes_are_those_that_torchvision_draws_from_the_same_generator(crop: ResizedCrop) -> None:
    """Shapes where the first try fits, where a later one does, and where none does: too narrow, too wide, tiny."""
    transforms = pytest.importorskip("torchvision.transforms", exc_type=ImportError)
    fallbacks = 0
    with torch.random.fork_rng(devices=[]):
        for seed in range(60):
            for height, width in ((375, 500), (500, 375), (224, 224), (20, 400), (400, 20), (3, 2)):
                torch.manual_seed(seed)
                image = torch.empty(3, height, width)
                expected = transforms.RandomResizedCrop.get_params(image, list(crop.scale), list(crop.ratio))
                draws = torch.Generator().manual_seed(seed)
                assert crop.box(height, width, draws) == tuple(expected)
                fallbacks += expected[0] == (height - expected[2]) // 2 and expected[1] == (width - expected[3]) // 2
    assert fallbacks  # some of each kind


def test_a_window_of_the_smallest_image_has_at_least_one_pixel() -> None:
    narrow = ResizedCrop((1.0, 1.0), (3.0, 4.0))
    assert narrow.box(5, 1, torch.Generator()) == (2, 0, 1, 1)


def test_area_ratio_and_place_of_the_examples_windows_are_uniform_and_independent() -> None:
    """In a square image a window of at most half its area always fits, so that nothing is rejected."""
    crops, side = Crops(ResizedCrop((0.08, 0.5)), seed=1, epoch=2), 10_000
    boxes = np.array([crops.window(number)(side, side) for number in range(2000)], dtype=float)
    top, left, height, width = boxes.T
    area, ratio = height * width / side**2, np.log(width / height) / np.log(4 / 3)
    assert stats.kstest(area, stats.uniform(0.08, 0.42).cdf).pvalue > 1e-3
    assert stats.kstest(ratio, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    for start_of, extent in ((top, height), (left, width)):
        assert stats.kstest(start_of / (side - extent), stats.uniform(0, 1).cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(area, ratio).statistic) < 0.08
    assert abs(stats.spearmanr(area[1:], area[:-1]).statistic) < 0.08  # 3.5 standard errors


@pytest.mark.parametrize("flip", [False, True])
def test_training_images_are_torchvisions_resized_crops_of_the_examples_windows(root: Path, flip: bool) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional", exc_type=ImportError)
    data = streamed(root, Augment(flip=flip, random_resized_crop=ResizedCrop()))
    chosen = torch.randperm(22, generator=generator(3, "split"))[4:]
    order = chosen[torch.randperm(18, generator=generator(3, "order", 5))].tolist()
    draws = generator(3, "augment", 5)
    torch.randint(0, 1, (18, 2), generator=draws)  # where crop begins, which is not asked for
    flips = torch.randint(0, 2, (18,), generator=draws, dtype=torch.bool).tolist()
    expected = []
    for number, flipped in zip(order, flips, strict=True):
        image = Image.open(files(root, "train")[number]).convert("RGB")
        box = Crops(ResizedCrop(), 3, 5).window(number)(image.height, image.width)
        image = functional.resized_crop(image, *box, [16, 16])
        expected.append(functional.to_tensor(functional.hflip(image) if flipped and flip else image))
    normalized = functional.normalize(torch.stack(expected), list(MEAN), list(STD))
    assert torch.allclose(passed(data, 5), normalized, atol=1e-5)  # the step between two values of a pixel is 0.017


def test_evaluation_is_torchvisions_resize_and_centre_crop_streamed_or_not(root: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms", exc_type=ImportError)
    classic = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.PILToTensor()])
    expected = torch.stack([classic(Image.open(file).convert("RGB")) for file in files(root, "train")])
    memory = pets(root)
    assert isinstance(memory.train_x, torch.Tensor) and memory.train_x.equal(expected)
    data = streamed(root)
    for part in ("validation", "test", "train"):
        plain = Data(memory, seed=3, validation=4, device=CPU)
        assert torch.cat([x for x, _ in data.evaluation(part)]).equal(torch.cat([x for x, _ in plain.evaluation(part)]))
    assert fingerprint(pets(root, stream=True)) == fingerprint(memory)


def test_a_pass_is_the_same_with_any_number_of_workers_and_wherever_it_goes_on(root: Path) -> None:
    one, two = streamed(root), streamed(root, workers=2)
    whole = passed(one, 1)
    assert whole.equal(passed(two, 1)) and whole.equal(passed(one, 1))
    assert whole[8:].equal(passed(two, 1, first=2))
    begun = list(islice(one.epoch(2, 4), 1))  # another pass beside it
    assert passed(one, 1).equal(whole) and not begun[0][0].equal(whole[:4])
    assert not passed(one, 2).equal(whole)


def test_what_lies_outside_the_centre_is_part_of_the_fingerprint_where_windows_may_show_it(tmp_path: Path) -> None:
    def save(corner: int) -> None:
        for part in ("train", "test"):
            pixels = np.full((20, 60, 3), 7, dtype=np.uint8)
            pixels[0, 0] = corner
            (tmp_path / "pets" / part / "ape").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "pets" / part / "ape" / "a.png")

    found = []
    for corner in (0, 255):
        save(corner)
        either = [fingerprint(pets(tmp_path, stream=stream)) for stream in (False, True)]
        assert either[0] == either[1]
        found.append((either[0], fingerprint(pets(tmp_path, resize=None))))
    (first, first_centre), (second, second_centre) = found
    assert first != second and first_centre == second_centre


def test_data_of_which_no_more_is_there_refuse_windows(root: Path) -> None:
    wanted = r"^data.augment.random_resized_crop: of these images 16x16 pixels are all there is.*stream and resize"
    for splits in (pets(root), pets(root, stream=True, resize=None)):
        with pytest.raises(UsageError, match=wanted):
            Data(splits, seed=0, augment=CROP, device=CPU)


RESNET20 = (
    "data={name: image_folder, folder: pets, size: 16, resize: 20, stream: true, validation: 4}",
    "model={name: resnet20, width: 2}",
    "init=kaiming_normal",
    "train={optimizer: {name: momentum, lr: 0.05}, batch_size: 4, length: 20it, evaluate_every: 5it}",
    "prune={scope: global, fraction: 0.2, levels: 1}",
    "rewind=2it",
)


def identity(augment: str) -> Any:
    recipe = micro(*RESNET20, f"data.augment={augment}")
    assert restore_recipe(recipe.canonical()) == recipe
    return training_identity(recipe, "f" * 64, 0, recipe.train.optimizer[0])["augment"]


def test_settings_that_are_the_defaults_are_no_part_of_the_key() -> None:
    assert identity("{random_resized_crop: true, flip: true}") == {"random_resized_crop": {}, "flip": True}
    defaults = "{random_resized_crop: {scale: [0.08, 1], ratio: [0.75, 1.3333333333333333]}}"
    assert identity(defaults) == identity("{random_resized_crop: {}}") == {"random_resized_crop": {}}
    assert identity("{random_resized_crop: {scale: [0.25, 1]}}") == {"random_resized_crop": {"scale": [0.25, 1.0]}}
    assert identity("{random_resized_crop: false, crop: 2}") == identity("{crop: 2}")
    resized = {"folder": "pets", "size": 16, "resize": None}
    assert "resize" not in datasets.identity(Component("image_folder", resized))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("data.augment.crop=2", "augment.random_resized_crop: cuts each image, and crop would do so once more"),
        ("data.stream=false", "random_resized_crop: cuts from images in their files, which needs stream in data"),
        ("data={name: image_folder, folder: a, augment: {random_resized_crop: {}}}", "needs stream and resize in data"),
        ("data={name: digits, augment: {random_resized_crop: true}}", "digits has all its images at one size"),
        ("data.resize=15", "data.resize: images of 15 pixels have no centre of 16; write size or more"),
        ("data.augment.random_resized_crop.scale=[0.5, 0.1]", "scale: goes from 0.5 down to 0.1"),
        ("data.augment.random_resized_crop.scale=[0, 1]", "random_resized_crop.scale.0: "),
        ("data.augment.random_resized_crop.ratio=[-1, 1]", "random_resized_crop.ratio.0: "),
        ("data.augment.random_resized_crop=yes", "random_resized_crop: "),
        ("data.augment.random_resized_crop.size=3", "random_resized_crop.size: there is no key 'size' here"),
    ],
)
def test_windows_that_cannot_be_are_refused_by_name_before_data_are_read(change: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        micro(*RESNET20, "data.augment={random_resized_crop: {}}", change)
    assert problem in str(caught.value)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


@pytest.mark.slow
def test_ctrl_c_while_images_are_decoded_stops_all_processes_and_the_run_goes_on_to_the_same_bytes(
    root: Path, tmp_path: Path
) -> None:
    if not Path("/proc/self/task").is_dir():
        pytest.skip("children are found in /proc")
    recipe = tmp_path / "windows.yaml"
    augment = "data.augment={random_resized_crop: true, flip: true}"
    recipe.write_text(micro_text(*RESNET20, augment, "train.length=400it"))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(recipe, whole, "--data", str(root))
    run = start(recipe, cut, "--data", str(root))
    while not list(cut.rglob("state.safetensors")) or len(family(run.pid)) == 1:
        assert run.poll() is None
        time.sleep(0.02)
    processes = family(run.pid)
    for process in processes:  # as a terminal does
        os.kill(process, signal.SIGINT)
    _, problems = run.communicate(timeout=60)
    assert run.returncode == 130 and "lottery run" in problems.splitlines()[-1], problems
    assert not any(Path(f"/proc/{process}").exists() for process in processes)
    finished = len(contents(cut))
    finish(recipe, cut, "--data", str(root), "--jobs", "2")  # a worker process for each job has another number of them
    assert contents(cut) == contents(whole) and finished < len(contents(whole))
