"""Keys and units that several analyses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

Unit = Literal["", "fraction", "points", "steps"]
Examples = Annotated[int, Field(ge=1)]  # of each part of the data
Bn = Literal["interpolate", "reset", "both"]  # running statistics at a point between states


def evaluations(args: Mapping[str, Any]) -> float:
    """Return the cost of a point under the policies for running statistics, in forward and backward passes."""
    return {"interpolate": 1, "reset": 2, "both": 3}[args["bn"]] / 3


def along_units(kinds: Mapping[str, Unit]) -> dict[str, Unit]:
    """Return the units of numbers about loss and error along a path, by the number's name, under each policy.

    Args:
        kinds: Unit of each number where it is about the error; about the loss, it has none.
    """
    return {
        f"{part}_{measure}_{kind}{policy}": unit if measure == "error" else ""
        for policy in ("", "_reset")
        for part in ("train", "validation", "test")
        for measure in ("error", "loss")
        for kind, unit in kinds.items()
    }


def shape_units(policies: tuple[str, ...] = ("", "_reset")) -> dict[str, Unit]:
    """Return the units of what is said of the shape of a slice or plane, under each policy."""
    kinds: dict[str, Unit] = {
        "train_loss_lowest": "",
        "train_loss_highest": "",
        "convex": "fraction",
        "minima": "",
        "holes": "fraction",
    }
    return {f"{kind}{policy}": unit for policy in policies for kind, unit in kinds.items()}
