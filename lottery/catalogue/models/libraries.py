"""Classifiers of other libraries, by their names there: torchvision's and timm's."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from lottery.catalogue.models._keys import NO_TIMM
from lottery.errors import UsageError
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn


def _version(args: Mapping[str, Any]) -> int:
    """Return 2 where version 1 did not prune attention's projections of queries, keys and values, which torch packs."""
    return 2 if str(args.get("arch")).startswith("vit_") else 1


@models.register("torchvision", source="torchvision.models", version_of=_version)
def torchvision(input_shape: tuple[int, ...], classes: int, *, arch: str) -> nn.Module:
    """Any classification model of torchvision by its name there, `{name: torchvision, arch: resnet18}`, untrained."""
    from lottery.catalogue.models._torchvision import classifier

    return classifier(input_shape, classes, arch)


def _timm_version(args: Mapping[str, Any]) -> int:
    """Return the installed version of timm as a number, 1000031 for 1.0.31: what an arch is may change with it."""
    try:
        parts = metadata.version("timm").split(".")
    except metadata.PackageNotFoundError as error:
        raise UsageError(f"model timm: {NO_TIMM}") from error
    major, minor, patch = (int("".join(takewhile(str.isdecimal, part)) or 0) for part in [*parts, "0", "0"][:3])
    return 1_000_000 * major + 1_000 * minor + patch


@models.register("timm", source="Wightman 2019", version_of=_timm_version, gates=True)
def timm(input_shape: tuple[int, ...], classes: int, *, arch: str) -> nn.Module:
    """Any classification model of timm by its name there, `{name: timm, arch: resnet18d}`, untrained.

    It is made for the channels of the data, and where its input has a fixed size for the size of the images. Models
    whose weights are standardized before they are used, such as nf_resnet50, are refused: a pruned weight would not be
    zero there. The version of timm is part of the keys of jobs. Needs `pip install "lottery[timm]"`.
    """
    from lottery.catalogue.models._timm import classifier

    return classifier(input_shape, classes, arch)
