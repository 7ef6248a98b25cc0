"""The identity of a job, whose hash is its key: all that determines its result, and nothing that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.recipe.entry_rules import keeps_statistics
from lottery.values import Component, LabelNoise, plain, point_label

if TYPE_CHECKING:
    from lottery.recipe.schema import DataSpec, Recipe
    from lottery.recipe.types import RewindSpec

SCHEMA = 2  # raise it when the meaning of a key changes: no job of another schema is ever reused


def digest(value: Any) -> str:
    """Return the sha256, in hex, of the canonical JSON: sorted keys, no spaces, shortest float digits.

    Raises:
        ValueError: JSON cannot hold the value.
    """
    return digest_of_json(plain(value))


def digest_of_json(value: Any) -> str:
    """Return the `digest` of a value that was read from JSON, without the pass that makes others plain."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def data_identity(data: DataSpec) -> dict[str, Any]:
    """Return the data set as a recipe names it; a hash of its bytes is the fingerprint beside it."""
    return dataset_identity(data.component, data.label_noise)


def name_of(dataset: Component) -> str:
    """Return the name of a data set beside the recipe's in a plan and a run: the digest of its identity."""
    return digest(registry.datasets.identity(dataset))


def dataset_identity(dataset: Component, noise: LabelNoise | None) -> dict[str, Any]:
    """Return a data set with the noise in its training labels."""
    return registry.datasets.identity(dataset) | ({} if noise is None else {"label_noise": noise.model_dump()})


def training_identity(recipe: Recipe, fingerprint: str, seed: int, optimizer: Component) -> dict[str, Any]:
    """Return all that determines a dense training: everything but the pruning.

    Args:
        recipe: the recipe.
        fingerprint: sha256 of the data.
        seed: of the training.
        optimizer: its optimizer, whose learning rate may be `Chosen`.
    """
    data, train = recipe.data, recipe.train
    fields = {
        "validation": data.validation or None,
        "stratify": data.stratify or None,
        "limit": data.limit,
        "augment": plain(data.augment.model_dump(exclude_defaults=True)) if data.augment else None,
        "warmup": plain(train.schedule.warmup),
        "precision": train.precision if train.precision != "fp32" else None,
        "clip": train.clip,
        "accumulate": train.accumulate if train.accumulate > 1 else None,
        "label_smoothing": train.label_smoothing or None,
        "batch_norm": train.batch_norm if train.batch_norm != "sync" else None,
        "ranks": train.ranks if train.batch_norm == "local" else None,  # else they change no result
        "metrics": sorted(recipe.metrics) or None,  # a training that lacks what is asked for is another one
        "embeddings": recipe.prune.embeddings or None,  # of the dense training too: its weights are counted and stored
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
    """Return a component's identity, with that of each component, normalization and activation among its arguments.

    Where one of them comes from outside this package, a hash of its source is part of it: see `lottery.plugins.source`.
    """
    catalogue = next(r for r in registry.catalogues.values() if r.singular == singular)
    identity = catalogue.identity(component)
    arguments = catalogue[component.name].all_arguments(component.args)
    for name, named in (("norm", registry.normalizations), ("activation", registry.activations)):
        if name in arguments:
            identity[f"{name}_version"] = named[arguments[name]].version
            if code := named[arguments[name]].code:
                identity[f"{name}_code"] = code
    for name, value in component.args.items():
        if isinstance(value, Component):  # its key is the catalogue's name: optimizer, schedule, init, criterion
            identity[name] = with_versions(name, value)
    return identity


def rewind_identity(recipe: Recipe, rewind: RewindSpec) -> dict[str, Any]:
    """Return the rewind point and the mode: what goes back to it.

    Modes `lr` and `finetune` are of version 2: a training that goes on from trained weights has no result before its
    first step.
    """
    identity: dict[str, Any] = {"to": point_label(rewind.to), "mode": rewind.mode}
    if rewind.mode != "weights":
        identity["version"] = 2
    if rewind.mode == "finetune" and recipe.finetune is not None:
        identity["rate"] = recipe.finetune.rate
    return identity


def branch_identity(
    branch: Component, recipe: Recipe, others: Mapping[str, str], rewind: RewindSpec | None
) -> dict[str, Any]:
    """Return what determines a control beside the ticket that it leaves, which is rewound to `rewind`.

    `others` are the fingerprints of other data sets by the digest of their identity. Some fields are there only where
    they matter, so that the keys of other controls stay as they were.
    """
    identity, prune = with_versions("branch", branch), recipe.prune
    traits = registry.branches[branch.name].traits
    by_magnitude = prune.criterion == Component("magnitude") and prune.rounds_of_criterion == 1
    if traits.criterion and not by_magnitude:
        identity["criterion"] = registry.criteria.identity(prune.criterion)
    if (dataset := branch.args.get("dataset")) is not None:
        identity["fingerprint"] = others[name_of(dataset)]
        if rewind is not None and rewind.to.unit == "ep" and rewind.to.value:
            identity["rewind"] = str(rewind.to)  # in passes over the other data
    if traits.learned and registry.inits[recipe.init.name].traits.zeros:
        identity["density"] = "of the mask"  # results without it counted weights that are not 0
    if branch.args.get("scope") == "global" and (prune.densities or 0 in prune.rates.values()):
        identity["among"] = "pruned layers"  # shuffle once moved weights into layers that are never pruned, too
    if traits.mask_alone and keeps_statistics(recipe.model):
        identity["statistics"] = "recalibrated"  # results without it were measured with another network's statistics
    return identity


def sources_in(identity: Any) -> Iterator[str]:
    """Yield the hashes of plugins' sources that are part of an identity."""
    if isinstance(identity, Mapping):
        for name, item in identity.items():
            if is_code(name):
                yield str(item)
            else:
                yield from sources_in(item)
    elif isinstance(identity, (list, tuple)):
        for item in identity:
            yield from sources_in(item)


def is_code(name: str) -> bool:
    """Return whether a field of an identity holds the hash of a source: no argument may have such a name."""
    return name == "code" or name.endswith("_code")


def exact(number: float) -> Fraction:
    """Return the decimal fraction that was written: 0.2 is 1/5, not the nearest binary number."""
    return Fraction(Decimal(repr(number)))
