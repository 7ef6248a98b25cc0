"""What makes two jobs the same: the identities that keys hash, and nothing that changes no result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.spec import Component, Duration, plain

if TYPE_CHECKING:
    from lottery.schema import DataSpec, Recipe

SCHEMA = 1  # raise it when the meaning of a key changes: no job of another schema is ever reused


def digest(value: Any) -> str:
    """sha256 of the canonical JSON: sorted keys, no spaces, shortest float digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def data_identity(data: DataSpec) -> dict[str, Any]:
    """What of the data a recipe names; the bytes it stands for are their fingerprint."""
    return registry.datasets.identity(data.component)


def training_identity(recipe: Recipe, fingerprint: str, seed: int, optimizer: Component) -> dict[str, Any]:
    """What determines a dense training: everything but the pruning."""
    data, train = recipe.data, recipe.train
    fields = {
        "validation": data.validation or None,
        "limit": data.limit,
        "augment": plain(data.augment.model_dump(exclude_defaults=True)) if data.augment else None,
        "warmup": plain(train.schedule.warmup),
        "precision": train.precision if train.precision != "fp32" else None,
        "clip": train.clip,
        "accumulate": train.accumulate if train.accumulate > 1 else None,
        "label_smoothing": train.label_smoothing or None,
    }
    return {
        "data": data_identity(data),
        "fingerprint": fingerprint,
        "model": with_versions("model", recipe.model),
        "init": with_versions("init", recipe.init),
        "optimizer": with_versions("optimizer", optimizer),
        "schedule": with_versions("schedule", train.schedule.component),
        "batch_size": train.batch_size,
        "length": str(train.length),
        "evaluate_every": str(train.evaluate_every),
        "seed": seed,
        **{name: value for name, value in fields.items() if value is not None},
    }


def with_versions(singular: str, component: Component) -> dict[str, Any]:
    """A component's identity, with that of each component, normalization and activation among its arguments."""
    catalogue = next(r for r in registry.catalogues.values() if r.singular == singular)
    identity = catalogue.identity(component)
    arguments = {**catalogue[component.name].defaults, **component.args}
    for name, named in (("norm", registry.normalizations), ("activation", registry.activations)):
        if name in arguments:
            identity[f"{name}_version"] = named[arguments[name]].version
    for name, value in component.args.items():
        if isinstance(value, Component):  # its key is the catalogue's name: optimizer, schedule, init, criterion
            identity[name] = with_versions(name, value)
    return identity


def branch_identity(branch: Component, recipe: Recipe, others: Mapping[str, str]) -> dict[str, Any]:
    """What determines a control beside the ticket that it leaves.

    `others` are the fingerprints of other data sets by the digest of their identity."""
    identity, traits = with_versions("branch", branch), registry.branches[branch.name].traits
    if (dataset := branch.args.get("dataset")) is not None:
        identity["fingerprint"] = others[digest(registry.datasets.identity(dataset))]
    if traits.get("learned") and registry.inits[recipe.init.name].traits.get("zeros"):
        identity["density"] = "of the mask"  # results without it counted weights that are not 0
    return identity


def point_label(to: Duration) -> str:
    return "init" if to.value == 0 else str(to)


def exact(number: float) -> Fraction:
    """The decimal fraction that was written: 0.2 is 1/5, not the nearest binary number."""
    return Fraction(Decimal(repr(number)))
