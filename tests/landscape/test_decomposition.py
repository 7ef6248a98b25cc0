"""The three errors of a network."""

from __future__ import annotations

import math

import pytest

from lottery.landscape.decomposition import three_errors


def test_the_three_errors_add_up_to_the_test_loss() -> None:
    found = three_errors(0.3, 0.5, longest=0.2, wider=0.05)
    assert (found.representation, found.source) == (0.05, "wider")
    assert found.optimization == pytest.approx(0.25)
    assert found.generalization == pytest.approx(0.2)
    assert found.representation + found.optimization + found.generalization == pytest.approx(0.5)


def test_the_best_fit_is_the_lowest_of_those_that_are_known() -> None:
    assert three_errors(0.3, 0.5, longest=0.2).source == "longest"
    assert three_errors(0.3, 0.5, longest=0.2, wider=math.nan).source == "longest"
    itself = three_errors(0.1, 0.5, longest=0.2, wider=0.15)
    assert (itself.source, itself.optimization) == ("itself", 0)
    assert three_errors(0.1, 0.5).representation == 0.1


def test_a_test_set_that_is_easier_gives_a_negative_error() -> None:
    assert three_errors(0.3, 0.2).generalization == pytest.approx(-0.1)


def test_a_diverged_network_keeps_its_nan() -> None:
    found = three_errors(math.nan, math.nan, wider=0.1)
    assert all(map(math.isnan, (found.representation, found.optimization, found.generalization)))
