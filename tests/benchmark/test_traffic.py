"""The bytes that two ranks send under a mask, counted in a real step."""

from __future__ import annotations

import pytest

from lottery.benchmark.traffic import bytes_of_a_step

WEIGHTS, REST = 784 * 300 + 300 * 100 + 100 * 10, 300 + 100 + 10  # of LeNet-300-100


@pytest.mark.slow
@pytest.mark.parametrize("density", [0.05, 1.0])
def test_two_ranks_send_the_surviving_weights_and_what_has_no_mask(density: float) -> None:
    dense, alive, sent = bytes_of_a_step("lenet", density)
    assert dense == 4 * (WEIGHTS + REST)
    assert sent == alive == 4 * (round(density * WEIGHTS) + REST)
    assert density < 1 or sent == dense
    assert 0.95 <= density * dense / sent <= 1.05


@pytest.mark.slow
def test_at_five_percent_of_all_its_parameters_a_network_sends_five_percent_of_the_dense_traffic() -> None:
    everything, unmasked = 272_474, 1_578  # of ResNet-20: with biases and normalizations, and these alone
    weights = everything - unmasked
    of_weights = bytes_of_a_step("resnet20", 0.05)
    assert of_weights.sent == of_weights.alive == 4 * (round(0.05 * weights) + unmasked)
    assert of_weights.sent / (0.05 * of_weights.dense) == pytest.approx(1.11, abs=0.001)
    of_all = bytes_of_a_step("resnet20", (0.05 * everything - unmasked) / weights)
    assert of_all.sent / (0.05 * of_all.dense) == pytest.approx(1, abs=1e-4)
