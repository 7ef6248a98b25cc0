"""Keys and units that several analyses share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from lottery.traits import Work
from lottery.values import Part

Unit = Literal["", "fraction", "points", "steps"]
Examples = Annotated[int, Field(ge=1)]  # of each part of the data
Bn = Literal["interpolate", "reset", "both"]  # running statistics at a point between states


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _ordered(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return parts without repetition in the order of the data, so that two ways to write them are one analysis."""
    return tuple(part for part in get_args(Part) if part in parts)


def _with_train(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return parts as they are. Raises ValueError where the training data are not among them."""
    if "train" not in parts:
        raise ValueError("the range and the shape of a picture are told by the train loss; add `train`")
    return parts


Parts = Annotated[  # of the data, on which loss and error are measured; None for all that have examples
    tuple[Part, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Part | list[Part]),
    AfterValidator(_ordered),
]
PictureParts = Annotated[Parts, AfterValidator(_with_train)]


def evaluated(args: Mapping[str, Any], points: float, **other: Any) -> Work:
    """Return the work of so many points under the policies for running statistics, and other work."""
    return Work(points, bn=args["bn"], parts=args["parts"], **other)


def version(args: Mapping[str, Any]) -> int:
    """Return the version by all arguments: 2 where part of the test set may be read, which was its beginning before."""
    parts = args.get("parts")
    return 2 if args["examples"] is not None and (parts is None or "test" in parts) else 1


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
