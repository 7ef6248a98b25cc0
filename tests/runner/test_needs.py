"""What a plan says that a worker needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.runner.events import Request
from lottery.runner.needs import needs_of
from lottery.runner.prepare import look
from tests.support.micro import micro

DIGITS = 1797 * (64 + 8)  # bytes of the images and of their classes
WEIGHTS = 4 * ((64 + 1) * 12 + (12 + 1) * 8 + (8 + 1) * 10)  # of a perceptron with 12 and 8 units, biases included


@pytest.mark.parametrize(
    ("engine", "device", "words"),
    [
        ("auto", "any", "a processor or a GPU"),
        ("sparse", "cpu", "a processor"),
        ("dense", "any", "a processor or a GPU"),
    ],
)
def test_a_worker_needs_the_device_of_its_engine_and_room_for_examples_and_weights(
    tmp_path: Path, engine: str, device: str, words: str
) -> None:
    needs = needs_of(look(Request(micro(f"train.engine={engine}"), Path(), tmp_path, "cpu")))
    assert (needs.device, needs.least_bytes) == (device, DIGITS + 3 * WEIGHTS)
    assert needs.sentence() == (
        f"a worker needs: {words}, 0 MB of memory for examples and weights and what a step computes"
    )
