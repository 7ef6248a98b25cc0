"""The recipe that trains a stored network, made from the identities that its key is a hash of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.environment import PLUGIN
from lottery.errors import UsageError
from lottery.plan.keys import sources_in
from lottery.recipe.load import parse_recipe

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

Identity = Mapping[str, Any]


def recipe_of(training: Identity, rewind: Mapping[str, Any], rate: float | None, engine: str = "auto") -> Recipe:
    """Return a recipe of one seed that trains a dense network of this identity, and its tickets.

    Args:
        training: The section `training` of the dense network's identity.
        rewind: The section `rewind` of the ticket's.
        rate: The learning rate, where one was chosen.
        engine: The engine; `graph`, which a reader may not have, becomes `auto`.
    """
    optimizer = without_versions(training["optimizer"])
    if isinstance(optimizer.get("lr"), dict):
        optimizer["lr"] = rate
    data: dict[str, Any] = {k: training[k] for k in ("validation", "stratify", "limit", "augment") if k in training}
    rest = ("batch_size", "length", "evaluate_every", "precision", "clip", "accumulate", "label_smoothing")
    shared = ("batch_norm", "ranks")
    train: dict[str, Any] = {name: training[name] for name in (*rest, *shared) if name in training}
    warmup: dict[str, Any] = {name: training[name] for name in ("warmup",) if name in training}
    said = {
        "name": "ticket",
        "data": {**without_versions(training["data"]), **data},
        "model": without_versions(training["model"]),
        "init": without_versions(training["init"]),
        "train": {
            "optimizer": optimizer,
            "schedule": {**without_versions(training["schedule"]), **warmup},
            **train,
            # a graph asks for a machine that a reader may not have
            "engine": "auto" if engine == "graph" else engine,
        },
        **{name: training[name] for name in ("metrics",) if name in training},
        "prune": {"levels": 1, "embeddings": training.get("embeddings", False)},
        "rewind": {"to": rewind["to"], "mode": rewind["mode"]},
        **({"finetune": {"rate": rewind["rate"]}} if "rate" in rewind else {}),
        "seeds": [training["seed"]],
    }
    return parse_recipe(json.dumps(said), "ticket")


def plugins_of(training: Identity, environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the plugins that a training needs: names of modules, where they were recorded, by hashes of their source.

    Args:
        training: The section `training` of its identity.
        environment: Environment that was recorded with it.
    """
    names = {code: field.removeprefix(PLUGIN) for field, code in environment.items() if field.startswith(PLUGIN)}
    return {code: names.get(code, "") for code in sorted(set(sources_in(training)))}


def check_sources(training: Identity, environment: Mapping[str, Any], name: str) -> None:
    """Check that the plugins that a training needs are loaded, with the source that they had; `name` says whose it is.

    Raises:
        UsageError: One is not loaded, or was edited since.
    """
    loaded, needed = registry.plugins(), plugins_of(training, environment)
    if lost := {code: module for code, module in needed.items() if code not in loaded.values()}:
        which = ", ".join(
            f"{module or 'of a name that was not recorded'} (source {code})" for code, module in lost.items()
        )
        way = " ".join(f"--plugin {module or 'MODULE'}" for module in lost.values())
        now = ", ".join(f"{module} {code}" for module, code in loaded.items()) or "none"
        raise UsageError(
            f"{name}: needs the plugin{'s'[: len(lost) > 1]} {which}; add {way}, with the files as they were then "
            f"(loaded: {now})"
        )


def without_versions(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a component without its versions and sources."""
    return {
        name: without_versions(value) if isinstance(value, dict) and "name" in value else value
        for name, value in identity.items()
        if name not in ("version", "code") and not name.endswith(("_version", "_code"))
    }
