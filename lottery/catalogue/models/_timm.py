"""Classifiers of timm, made for the images at hand."""

from __future__ import annotations

from typing import Any

from torch import nn

from lottery.catalogue.models._keys import NO_TIMM
from lottery.catalogue.models._torchvision import try_images
from lottery.errors import UsageError
from lottery.registry import suggest


def classifier(input_shape: tuple[int, ...], classes: int, arch: str) -> nn.Module:
    """Return timm's `arch` without pretrained weights. Nothing is downloaded.

    Raises:
        UsageError: timm is not there, or has no such model, or it does not take such images.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"model timm: {NO_TIMM}") from error
    known = timm.list_models()  # without those of the Hugging Face hub, which are names of downloads
    if arch not in known:
        name, _, tag = arch.partition(".")
        way = f"; .{tag} is that of trained weights, which are not loaded: write {name}" if name in known else ""
        raise UsageError(f"model.arch: timm has no classifier {arch!r}{way or suggest(arch, known)}")
    if len(input_shape) != 3:
        raise UsageError(f"model timm: takes images, the data has shape {input_shape}")
    channels, *size = input_shape
    about = timm.get_pretrained_cfg(arch, allow_unregistered=False)
    fixed: dict[str, Any] = {"img_size": tuple(size)} if about is not None and about.fixed_input_size else {}
    try:
        model: nn.Module = timm.create_model(arch, pretrained=False, num_classes=classes, in_chans=channels, **fixed)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(
            f"model.arch: {arch} cannot be made for images of {channels} channels and {size[0]}x{size[1]}: "
            f"{str(error).partition(chr(10))[0]}; choose another arch or other data"
        ) from error
    try_images(model, input_shape, arch)
    return model
