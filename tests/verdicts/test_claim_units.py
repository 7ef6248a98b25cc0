"""Units of the effects of claims, as they are said after a number."""

from __future__ import annotations

from typing import Any

import pytest

from lottery.recipe.claims import ClaimSpec
from lottery.results.study import Study
from lottery.verdicts.claim_units import unit_of
from tests.support.studies import Recorded, hand

LEFT, RIGHT = {"train.optimizer.lr": 0.1}, {"train.optimizer.lr": 0.2}
SIGNALS = {"analysis": "errors", "networks": "dense"}


@pytest.mark.parametrize(
    ("claim", "unit"),
    [
        ({}, "points"),
        ({"measure": "loss"}, "of test loss"),
        ({"measure": "loss", "compare": "ratio"}, "times"),
        ({"measure": "early_stop_step"}, "times"),
        ({"measure": "seconds", "against": None}, "s"),
        ({"measure": "steps_to", "reaches": {"train_loss": 0.5}, "left": LEFT}, "steps"),
        ({"measure": "steps_to", "reaches": {"train_loss": 0.5}, "left": LEFT, "right": RIGHT}, "times"),
        ({"measure": "diverged", "left": LEFT}, "points of the seeds diverged"),
        ({"measure": "good_values", "over": "train.length", "within": 2.0, "left": LEFT}, "values of train.length"),
        ({**SIGNALS, "value": "test_error"}, "points"),
        ({**SIGNALS, "value": "test_loss"}, "of test_loss"),
    ],
)
def test_the_unit_of_an_effect_is_that_of_its_measure_or_analysis(claim: dict[str, Any], unit: str) -> None:
    planned = hand("analyses=[errors]")
    given = {"text": "A", "source": "1", "densities": [1.0], "least": 1.0} | claim
    assert unit_of(ClaimSpec.model_validate(given), Study(planned, {}, Recorded(planned))) == unit
