"""A plan on its way to another process of the same run, with what it was made by, so that a difference is noticed."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from lottery import registry
from lottery._version import __version__
from lottery.errors import UsageError
from lottery.plan.jobs import Plan
from lottery.plan.keys import SCHEMA

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe


def pack_plan(plan: Plan) -> bytes:
    """Return the jobs of a plan, the fingerprints of its data, and the version and plugins that made it."""
    return pickle.dumps((_makers(), plan.fingerprint, dict(plan.others), plan.jobs), pickle.HIGHEST_PROTOCOL)


def unpack_plan(packed: bytes, recipe: Recipe) -> Plan:
    """Return the plan that another process of this run made of the same recipe.

    Only what came over a socket from such a process may be given here: like every pickle it can run code.

    Raises:
        UsageError: another version of this program, or another source of a plugin, made it.
    """
    makers, fingerprint, others, jobs = pickle.loads(packed)
    if makers != _makers():
        raise UsageError("lottery or a plugin was changed while this run was starting; start it again")
    return Plan(recipe, fingerprint, jobs, others)


def _makers() -> tuple[str, int, dict[str, str]]:
    return __version__, SCHEMA, dict(registry.plugins())
