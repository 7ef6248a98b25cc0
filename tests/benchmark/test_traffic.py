"""The bytes that two ranks send under a mask, counted in a real step."""

from __future__ import annotations

import pytest

from lottery.benchmark.traffic import bytes_of_a_step

WEIGHTS, REST = 784 * 300 + 300 * 100 + 100 * 10, 300 + 100 + 10  # of LeNet-300-100


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_two_ranks_send_the_surviving_weights_and_what_has_no_mask(density: float) -> None:
    dense, sent = bytes_of_a_step("lenet", density)
    assert dense == 4 * (WEIGHTS + REST)
    assert sent == 4 * (round(density * WEIGHTS) + REST)
    assert density < 1 or sent == dense
    assert 0.95 <= density * dense / sent <= 1.05
