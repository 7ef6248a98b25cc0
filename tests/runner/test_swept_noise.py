"""Label noise as the key of a sweep: points share no data, and each sees its own labels."""

from __future__ import annotations

from pathlib import Path

from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.distributed.group import ALONE
from lottery.runner.prepare import Loaded
from lottery.values import Component, LabelNoise


def test_points_that_differ_in_noise_alone_have_data_of_their_own() -> None:
    loaded, digits = Loaded(), Component("digits")
    noises = [None, LabelNoise(share=0.2), LabelNoise(share=0.4), LabelNoise(share=0.2, seed=1)]
    for _ in range(2):  # the second time they are kept
        found = [loaded.splits(digits, Path("nowhere"), ALONE, noise) for noise in noises]
        assert [fingerprint(each) for each in found] == [
            fingerprint(load(digits, Path("nowhere"), noise)) for noise in noises
        ]
