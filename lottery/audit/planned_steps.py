"""The steps that trainings of a recipe will take, compared as the audit will compare those that were taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lottery.audit.protocol_checks import grid, shared_steps
from lottery.audit.step_differences import allowed_by, step_differences
from lottery.audit.trainings import AuditedTraining
from lottery.plan.origins import NETWORK, TICKET, Origin, origin_of
from lottery.registry import branches

if TYPE_CHECKING:
    from lottery.recipe.schema import BranchSpec, Recipe
    from lottery.recipe.types import RewindSpec

_TOTAL, _POINT = 4, 1  # steps that stand for any whole training, and for any rewind point after its first step


def withheld_fields(recipe: Recipe, branch: BranchSpec, rewind: RewindSpec, levels: Iterable[int]) -> list[str]:
    """Return the fields of steps for which the audit will withhold the claims against a control at these levels.

    They follow from where the control and its ticket start (`lottery.plan.origins`), whatever the lengths are, and are
    those that neither the control, the mode of rewinding nor `compare.allow` names. Of a control that does not declare
    where it starts nothing is known.
    """
    point = _POINT if rewind.to.value or rewind.auto is not None else 0  # what is looked for may be any
    dense = _training(NETWORK["weights"], "", rewind.mode, point, [])
    fields: dict[str, None] = {}
    for level in levels:
        tickets = [dense]
        for _ in range(1 if recipe.prune.alone else level):
            tickets.insert(0, _training(TICKET[rewind.mode], "", rewind.mode, point, tickets))
        origin = origin_of(branch.component, rewind.mode)
        ours = _training(origin, branch.name, rewind.mode, point, tickets)
        for each in step_differences(ours, dense, tickets[0]):
            if not allowed_by(recipe.compare, ours, dense, each.field):
                fields[each.field] = None
    return list(fields)


def shares_steps(recipe: Recipe, branch: BranchSpec, rewind: RewindSpec, levels: Iterable[int]) -> str:
    """Return the key with which a control trains the steps of its ticket, `weights: mode`; empty where it has none."""
    changed = branch.model_copy(update={"weights": "mode"})
    if branches.check(changed.component)[1]:
        return ""
    return "" if withheld_fields(recipe, changed, rewind, levels) else "weights: mode"


def _training(origin: Origin, branch: str, mode: str, point: int, above: Sequence[AuditedTraining]) -> AuditedTraining:
    """Return a training from its origin and those above it, its own parent first and the dense network last."""
    first = point if origin.from_the_point else 0
    own = {"0": 0, "T": _TOTAL, "n T": 2 * _TOTAL}.get(origin.steps, _TOTAL - first)
    curve = grid(first, first + own, 1)
    shared = shared_steps(origin, curve, [each.grid for each in above], bool(branch)) if above else 0
    steps = None if shared is None else shared + own
    return AuditedTraining({}, (), (), branch, origin, mode=mode, steps=steps, own_steps=own, grid=tuple(curve))
