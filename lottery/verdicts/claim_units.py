"""Units of the effects that claims are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.analysis.measurements import analysis_named
from lottery.recipe.analyses import units_of

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.study import Study

_UNITS = {
    "accuracy": "points",
    "loss": "of test loss",
    "train_loss": "of training loss",
    "steps_to": "steps",
    "epochs_to": "epochs",
    "diverged": "points of the seeds diverged",
    "seconds": "s",
}


def unit_of(claim: ClaimSpec, study: Study) -> str:
    """Return the unit of a claim's effect as it is said after a number: `points`, `times`, `of smoothness_last`.

    Args:
        claim: The claim.
        study: A study that it is about, whose recipe says what its analysis is.
    """
    other = claim.against if claim.analysis is None else None
    if claim.logarithmic and any(each is not None for each in (claim.right, claim.minus, other)):
        return "times"
    if claim.analysis is not None:
        value = str(claim.value)
        unit = units_of(analysis_named(study, claim.analysis).name)[value]
        return {"fraction": "points", "": f"of {value}"}.get(unit, unit)
    return f"values of {claim.over}" if claim.measure == "good_values" else _UNITS[claim.measure]
