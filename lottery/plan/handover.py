"""A plan on its way to another process of the same run, with what it was made by, so that a difference is noticed.

It travels as JSON. The recipe is known at both ends: what a job has of it is told by its index there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery._version import __version__
from lottery.errors import UsageError
from lottery.plan.expand import retraining_branch, untuned_optimizers
from lottery.plan.jobs import Job, Look, Plan
from lottery.plan.keys import SCHEMA
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import rewound_to
from lottery.recipe.analyses import OWN_KEYS, AnalysisSpec
from lottery.recipe.components import check_entry
from lottery.recipe.types import RewindSpec
from lottery.values import Chosen, Component, plain

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

AS_THEY_ARE = (
    "identity",
    "parent",
    "seed",
    "optimizer_index",
    "optimizer_label",
    "level",
    "times",
    "sample",
    "transfer",
    "transfer_label",
    "point",
    "partner",
    "noise",
    "moments",
)


def pack_plan(plan: Plan) -> str:
    """Return the jobs of a plan, the fingerprints of its data, and the version and plugins that made it, as JSON."""
    jobs = {job.key: _pack(job, plan.recipe) for job in plan}
    rewinds = [_point(rewind) for rewind in plan.recipe.rewind]
    return json.dumps([_makers(), plan.fingerprint, dict(plan.others), rewinds, jobs])


def unpack_plan(packed: str | bytes, recipe: Recipe) -> Plan:
    """Return the plan that another process of this run made of the same recipe.

    Raises:
        UsageError: Where another version of this program, or another source of a plugin, made it.
    """
    makers, fingerprint, others, rewinds, jobs = json.loads(packed)
    if makers != _makers():
        raise UsageError("lottery or a plugin was changed while this run was starting; start it again")
    if recipe.search is not None:
        recipe = rewound_to(recipe, _rewind(rewinds[0], recipe).to)
    optimizers = untuned_optimizers(recipe)
    return Plan(recipe, fingerprint, {key: _unpack(key, job, recipe, optimizers) for key, job in jobs.items()}, others)


def _makers() -> list[Any]:
    return [__version__, SCHEMA, dict(registry.plugins())]


def _pack(job: Job, recipe: Recipe) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in AS_THEY_ARE},
        "kind": job.kind.value,
        "lr": plain(job.optimizer.args.get("lr")),
        "rewind": None if job.rewind is None else _point(job.rewind),
        "fraction": str(job.fraction),
        "densities": dict(job.densities),
        "needs": job.needs,
        "branch": None if job.branch is None or job.transfer is not None else recipe.branches.index(job.branch),
        "analysis": None if job.analysis is None else _packed(job.analysis, recipe),
        "looks": [vars(look) for look in job.looks],
        "transfer_lr": None if job.transfer is None else plain(_retrainer(job).args.get("lr")),
    }


def _unpack(key: str, packed: Mapping[str, Any], recipe: Recipe, optimizers: Sequence[Component]) -> Job:
    transfer, branch, rewind = packed["transfer"], packed["branch"], packed["rewind"]
    control = None if branch is None else recipe.branches[branch]
    if transfer is not None:
        control = retraining_branch(_with_rate(optimizers[transfer], packed["transfer_lr"]))
    job = Job(
        Kind(packed["kind"]),
        optimizer=_with_rate(optimizers[packed["optimizer_index"]], packed["lr"]),
        rewind=None if rewind is None else _rewind(rewind, recipe),
        fraction=Fraction(packed["fraction"]),
        densities=packed["densities"],
        needs=tuple(packed["needs"]),
        branch=control,
        analysis=None if packed["analysis"] is None else _analysis(packed["analysis"], recipe),
        looks=tuple(Look(**look) for look in packed["looks"]),
        **{name: packed[name] for name in AS_THEY_ARE} | {"moments": tuple(packed["moments"])},
    )
    job.__dict__["key"] = key  # as in `Job.rewound_to`: known, and long to hash again
    return job


def _point(rewind: RewindSpec) -> list[str]:
    return [str(rewind.to), rewind.mode]


def _rewind(point: Sequence[str], recipe: Recipe) -> RewindSpec:
    """Return the recipe's own rewind point, or that of a state that an analysis asks for."""
    known = (rewind for rewind in recipe.rewind if _point(rewind) == list(point))
    return next(known, None) or RewindSpec.model_validate(dict(zip(("to", "mode"), point, strict=True)))


def _packed(analysis: AnalysisSpec, recipe: Recipe) -> int | dict[str, Any]:
    """Return the index of an analysis in the recipe; one of the search of `rewind: auto` written out."""
    known = recipe.analyses
    return known.index(analysis) if analysis in known else analysis.model_dump(mode="json", by_alias=True)


def _analysis(packed: int | Mapping[str, Any], recipe: Recipe) -> AnalysisSpec:
    if isinstance(packed, int):
        return recipe.analyses[packed]
    return AnalysisSpec.model_validate(check_entry(registry.analyses, packed, OWN_KEYS)[0])


def _retrainer(job: Job) -> Component:
    assert job.branch is not None
    optimizer = job.branch.component.args["optimizer"]
    assert isinstance(optimizer, Component)
    return optimizer


def _with_rate(optimizer: Component, rate: Any) -> Component:
    if rate is None:
        return optimizer
    return Component(
        optimizer.name, {**optimizer.args, "lr": Chosen(rate["chosen"]) if isinstance(rate, dict) else rate}
    )
