"""Run it with `pytest examples/plugin`, once the package is installed: what the machinery counts on in each entry."""

from pathlib import Path

import torch
from PIL import Image

from lottery.testing import check_entry


def test_the_model_prunes_trains_and_repeats_itself() -> None:
    check_entry("models", "wide_and_deep", input_shape=(30,), classes=2, width=16)


def test_the_data_are_what_splits_have_to_be() -> None:
    check_entry("datasets", "breast_cancer", test=100)


def test_images_in_files_are_read_into_bytes_with_their_mean_and_deviation(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(0)
    for number in range(12):
        pixels = torch.randint(256, (6, 6), generator=draws, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{number % 3}_{number:04}.png")
    check_entry("datasets", "labelled_files", data=tmp_path, folder=".", test=2)


def test_the_criterion_scores_every_weight_and_draws_nothing() -> None:
    check_entry("criteria", "lamp")


def test_the_optimizer_goes_on_from_its_state_and_holds_a_mask() -> None:
    check_entry("optimizers", "signum")
