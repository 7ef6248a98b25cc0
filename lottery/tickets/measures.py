"""Comparison of the measurements in a ticket file with those that its trained weights give on the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery.device import prepared
from lottery.pruning.start import Start
from lottery.recipe.readings import READINGS, Reading
from lottery.results.artifacts import unpack
from lottery.runner.assemble import training_of
from lottery.words import in_unit

if TYPE_CHECKING:
    from lottery.runner.context import RunContext
    from lottery.tickets.file import Ticket

FEW_EXAMPLES, FEW_OF_ALL = 2, 0.001  # and share of all, that another processor may recognize otherwise
LOSS_ROUNDING = 1e-2  # relative where it is above 1

Found = tuple[bool | None, str]


def dense_measures(ticket: Ticket, reading: Reading, context: RunContext | None) -> Found:
    """Return what the dense network was measured as, which only training proves: the file does not have its weights."""
    return None, f"{_in_words(ticket.evidence['dense'][reading])}: only training the dense network again proves it"


def ticket_measures(ticket: Ticket, reading: Reading, context: RunContext | None) -> Found:
    """Compare all that the file says of a reading with what its weights give on the context's data, if there is one."""
    row = ticket.evidence["ticket"][reading]
    if context is None:
        return None, f"{_in_words(row)}: --again measures the weights that the file has of it"
    kept = next(n for n in READINGS if ticket.trained(n) and ticket.evidence["ticket"][n]["step"] == row["step"])
    here = measure(ticket, context, kept)
    if other := here.keys() ^ {name for name in row if name.startswith(("test_", "validation_"))}:
        return False, f"step {row['step']}: {', '.join(sorted(other))} is not what this training measures, or missing"
    examples = {"test": len(context.splits.test_y), "validation": context.sizes().validation}
    wrong = [
        name
        for name, value in here.items()
        if not _near(name, row[name], value, examples[name.partition("_")[0]], ticket.classes)
    ]
    if wrong:
        told = ", ".join(
            f"{_words(name)} {in_unit(name, here[name])}, not {in_unit(name, row[name])}" for name in wrong
        )
        return False, f"step {row['step']}: these weights give {told}"
    return True, f"{_in_words(row)}, measured again" + (
        ", and on the validation split" if examples["validation"] else ""
    )


def measure(ticket: Ticket, context: RunContext, reading: Reading) -> dict[str, float]:
    """Return the measures that the file's trained weights of a reading give on the test and the validation split.

    torch's own operations compute it, whatever engine trained them, which may not be there.
    """
    recipe = context.plan.recipe
    train = recipe.train.model_copy(update={"engine": "dense"})
    context = replace(context, plan=replace(context.plan, recipe=recipe.model_copy(update={"train": train})))
    (job,) = context.plan
    weights = unpack(ticket.trained(reading), ticket.mask)
    with prepared(context.machine, train.precision):
        training = training_of(context, job, Start(weights, ticket.mask, ticket.start().spec))
        found = training.measure("test")
        return found | (training.measure("validation") if training.data.validation_size else {})


def _near(name: str, recorded: float, here: float, examples: int, classes: int) -> bool:
    """Return True if the two are of one network, up to what another processor rounds otherwise."""
    measure = name.partition("_")[2]
    if measure in ("loss", "r2"):
        return math.isclose(recorded, here, rel_tol=LOSS_ROUNDING, abs_tol=LOSS_ROUNDING)
    few = max(FEW_EXAMPLES, FEW_OF_ALL * examples) * (classes if measure == "balanced_accuracy" else 1)
    return abs(recorded - here) * examples <= few + 1e-6


def _in_words(row: Mapping[str, Any]) -> str:
    measures = ", ".join(f"{_words(n)} {in_unit(n, value)}" for n, value in row.items() if n.startswith("test_"))
    return f"step {row['step']}, {measures}"


def _words(name: str) -> str:
    return name.replace("_", " ")
