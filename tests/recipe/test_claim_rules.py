"""Claims that select points of a sweep: what selects none, several or nothing comparable is told with key and line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lottery.errors import RecipeError
from lottery.recipe.sweep import Sweep, parse_sweep
from tests.support.micro import MICRO, problems

SWEEP = """sweep:
  model.norm: [none, batch]
  train.optimizer.lr: [0.01, 0.1]
  zip:
    train.batch_size: [20, 50]
    train.evaluate_every: [2it, 4it]
"""
LEFT = {"model.norm": "batch", "train.optimizer.lr": 0.1, "train.batch_size": 20}
RIGHT = LEFT | {"model.norm": "none"}


def sweep(*changes: str, **claim: Any) -> Sweep:
    """The micro recipe with eight points and one claim."""
    written = {"text": "t", "source": "s", "left": LEFT, "right": RIGHT, "densities": [1.0], "least": 0.0} | claim
    given = {key: value for key, value in written.items() if value is not None}
    text = MICRO + SWEEP + f"replicates:\n  source: Who 2020\n  claims:\n  - {json.dumps(given)}\n"
    return parse_sweep(text, "micro.yaml", changes)


def wrong(*changes: str, **claim: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        sweep(*changes, **claim)
    return str(caught.value)


def test_a_claim_selects_points_by_swept_keys_and_one_of_those_that_go_together() -> None:
    replicates = sweep().replicates
    assert replicates is not None
    (claim,) = replicates.claims
    assert (claim.column, claim.against) == ("dense", None)
    (point,) = sweep().where(LEFT)
    assert point.recipe.train.batch_size == 20 and str(point.recipe.train.evaluate_every) == "2it"


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (
            {"left": LEFT | {"model.nrm": "batch"}},
            "left.model.nrm: model.nrm: is not swept; did you mean 'model.norm'?",
        ),
        (
            {"right": RIGHT | {"model.norm": "layer"}},
            "right.model.norm: model.norm: is never layer; its values are none, batch",
        ),
        (
            {"left": {"model.norm": "batch"}},
            "left: selects 4 points, which differ in train.optimizer.lr, train.batch_size",
        ),
        ({"left": LEFT | {"train.evaluate_every": "4it"}}, "left: selects no point: none has these values together"),
        ({"right": LEFT}, "right: is the point that left is; nothing is compared"),
        (
            {"left": None, "right": None},
            "claims.0: is of which of the 8 points of the sweep? write `left: {model.norm: ...}`",
        ),
        ({"left": None}, "right is compared with `left`; write that as well"),
        ({"column": "reinit"}, "column: no column 'reinit'; there are dense, ticket (at model.norm=batch"),
        ({"analysis": "hessian", "networks": "dense", "value": "trace"}, "analysis: there is no analysis 'hessian'"),
        ({"optimizer": 1}, "optimizer: no optimizer 1"),
    ],
)
def test_what_selects_not_one_point_or_names_what_is_not_there_is_told(claim: dict[str, Any], said: str) -> None:
    told = wrong(**claim)
    assert said in told and told.startswith("micro.yaml:18:")


GOOD = {"measure": "good_values", "over": "train.optimizer.lr", "within": 2}
WIDE = {key: value for key, value in LEFT.items() if key != "train.optimizer.lr"}


def test_good_values_select_a_point_for_each_value_of_a_key() -> None:
    assert sweep(**GOOD, left=WIDE, right=WIDE | {"model.norm": "none"}).replicates is not None
    assert "left.train.optimizer.lr: good values of train.optimizer.lr are counted" in wrong(**GOOD)
    assert "over: train.lr is not swept" in wrong(**GOOD | {"over": "train.lr"}, left=WIDE, right=None)
    assert "left: selects 4 points, which differ in train.batch_size" in wrong(
        **GOOD, left={"model.norm": "batch"}, right=None
    )


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"measure": "steps_to"}, "`reaches`, {train_loss: 0.5}, belongs to `measure: steps_to` or epochs_to"),
        ({"measure": "steps_to", "reaches": {"train_loss": 1.0, "loss": 1.0}, "least": 1.0}, "names one reading"),
        ({"measure": "steps_to", "reaches": {"train_los": 1.0}, "least": 1.0}, "did you mean 'train_loss'?"),
        ({"measure": "steps_to", "reaches": {"loss": 1.0}, "least": 0.0}, "of 0; those are above 0"),
        ({"measure": "epochs_to", "reaches": {"loss": 1.0}, "least": 1.0}, "epochs_to needs train.length in epochs"),
        ({"measure": "good_values"}, "`measure: good_values`, `over` and `within` belong together"),
        ({"compare": "ratio", "least": 1.0}, "accuracy is compared as a difference"),
        ({"compare": "ratio", "measure": "loss", "right": None, "least": 1.0}, "a ratio is of two"),
        ({"measure": "diverged", "against": "ticket"}, "diverged compares two shares of seeds"),
        ({"measure": "early_stop_step", "right": None, "least": 1.0}, "a ratio of steps needs `against`"),
    ],
)
def test_measures_that_do_not_go_with_the_rest_are_refused(claim: dict[str, Any], said: str) -> None:
    assert said in wrong(**claim)


def test_what_is_measured_of_a_validation_split_needs_one() -> None:
    claim = {"measure": "steps_to", "reaches": {"accuracy": 0.5}, "least": 1.0}
    assert "reaches: is measured on a validation split; add data.validation" in wrong("data.validation=0", **claim)
    assert sweep(**claim).replicates is not None


def test_points_without_a_sweep_are_refused() -> None:
    claim = {"text": "t", "source": "s", "left": {"a": 1}, "densities": [1.0], "least": 0.0}
    told = problems(f"replicates={json.dumps({'source': 's', 'claims': [claim]})}")
    assert "replicates.claims.0.left: the recipe has no `sweep` whose points could be selected" in told[0]
