"""Claims on the command line: what runs a recipe for them, and how their verdicts are printed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import api

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.recipe.sweep import Sweep
    from lottery.runner.events import Outcome, SweptOutcome

SURVEY = "survey"  # the name of all recipes of recipes/survey/
MARKS = {"holds": "HOLDS    ", "fails": "FAILS    ", "undecided": "UNDECIDED"}


def no_gpu(sweep: Sweep, device: str, on_cpu: bool) -> str:
    """Return why nothing is trained for claims that need a GPU, in words; empty where they need none or have one."""
    if sweep.replicates is None or not sweep.replicates.needs_gpu or on_cpu or _cuda(device):
        return ""
    return "these claims need a GPU, and there is none here: nothing was trained (--on-cpu does so all the same)"


def ran(sweep: Sweep, settings: Mapping[str, Any]) -> int:
    """Run what is missing of a recipe; return 1 if a job failed, or was not come to, else 0.

    A training that diverged did not fail: claims count it.
    """
    outcome: Outcome | SweptOutcome = api.run(sweep, progress=True, **settings)
    for message in outcome.messages:
        print(message, file=sys.stderr)
    return 1 if outcome.count("failed") or len(outcome.ended) < outcome.total else 0


def tell(table: Sequence[Row]) -> None:
    """Print the claims of the rows of a replication, with their figures."""
    from lottery.verdicts.claims_in_words import claims_in_words

    for claim in claims_in_words(table):
        print(f"{MARKS[claim.verdict]}  {claim.text} [{claim.source}]{claim.where}")
        for line in claim.figures:
            print(f"           {line}")


def _cuda(device: str) -> bool:
    import torch

    return device != "cpu" and torch.cuda.is_available()
