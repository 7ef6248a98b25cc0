"""The table of signal propagation at initialization."""

from __future__ import annotations

import math

import pytest

from lottery.analysis.propagation import propagation_table
from lottery.errors import UsageError
from lottery.values import Component


def test_the_table_says_what_the_theory_says() -> None:
    rows = propagation_table(
        inits=[Component("kaiming_normal"), Component("lecun_normal"), Component("naive", {"std": 0.3})],
        activations=("relu",),
        norms=("none", "batch"),
        depths=(5, 30),
        width=60,
        input_shape=(60,),
    )
    found = {(row["init"], row["norm"], row["depth"]): row for row in rows}
    assert len(found) == 3 * 2 * 2
    said = {key: row["verdict"] for key, row in found.items()}
    assert said["kaiming_normal", "none", 30] == "holds"
    assert said["lecun_normal", "none", 5] == "holds"  # too short to vanish
    assert said["lecun_normal", "none", 30] == "vanishes"  # half of the variance a layer
    assert said["naive(std=0.3)", "none", 30] == "explodes"  # s_w^2 = 60 * 0.09 = 5.4
    assert said["kaiming_normal", "batch", 30] == "explodes"  # Yang et al. 2019
    lecun = found["lecun_normal", "none", 30]
    assert lecun["depth_scale_expected"] == pytest.approx(1 / math.log(2), rel=0.03)
    assert lecun["depth_scale_measured"] == pytest.approx(lecun["depth_scale_expected"], rel=0.2)
    assert math.isnan(found["lecun_normal", "batch", 30]["depth_scale_expected"])


def test_rows_are_the_same_each_time_and_the_init_gets_the_activation_of_its_row() -> None:
    def table() -> list[dict[str, object]]:
        return propagation_table(
            inits=[Component("mean_field")], activations=("tanh", "relu"), norms=("none",), depths=(40,)
        )

    rows = table()
    assert [row["verdict"] for row in rows] == ["holds", "holds"]  # with ReLU's variance of 2 tanh would be chaotic
    assert repr(rows) == repr(table())


def test_a_network_that_cannot_be_is_a_row_that_says_why() -> None:
    (row,) = propagation_table(
        inits=[Component("mean_field", {"bias_var": 0.1})], activations=("relu",), norms=("none",), depths=(5,)
    )
    assert row["verdict"] == "refused"
    assert "nowhere critical" in row["note"]
    assert math.isnan(row["forward_rate"])


def test_models_with_a_depth_are_taken_and_others_refused() -> None:
    (row,) = propagation_table(
        inits=[Component("lecun_normal")],
        activations=("relu",),
        norms=("none",),
        depths=(12,),
        model=Component("deep_linear"),
    )
    assert row["verdict"] == "holds"
    assert row["depth_scale_expected"] > 50  # linear: s_w^2 = 1 is critical
    with pytest.raises(UsageError, match=r"plain|depth"):
        propagation_table(inits=[Component("torch")], model=Component("conv2"), depths=(3,))
    with pytest.raises(UsageError, match="depth is 6n"):
        propagation_table(inits=[Component("torch")], model=Component("plain"), depths=(9,))
