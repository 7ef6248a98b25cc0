"""Classifiers of torchvision, and a check that they take the images at hand."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.func import functional_call

from lottery.errors import UsageError
from lottery.registry import suggest


def classifier(input_shape: tuple[int, ...], classes: int, arch: str) -> nn.Module:
    """Return torchvision's `arch` without pretrained weights and auxiliary outputs.

    Raises:
        UsageError: There is no such classifier, or it does not take such images.
    """
    try:
        from torchvision import models as zoo
    except (ImportError, RuntimeError) as error:
        raise UsageError(
            f"model torchvision: it does not fit the installed torch ({error}); install the two together"
        ) from error
    known = zoo.list_models(module=zoo)
    if arch not in known:
        raise UsageError(f"model.arch: torchvision has no classifier {arch!r}{suggest(arch, known)}")
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise UsageError(f"model torchvision: takes images of 3 channels, the data has shape {input_shape}")
    # left unset, init_weights makes these two warn; an init draws the weights anyway
    special = {"aux_logits": False, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
    model: nn.Module = zoo.get_model(arch, weights=None, num_classes=classes, **special)
    try_images(model, input_shape, arch)
    return model


def try_images(model: nn.Module, shape: tuple[int, ...], arch: str) -> None:
    """Pass two images through without computing: some classifiers have a fixed or a least size.

    Raises:
        UsageError: They do not go through.
    """
    tensors = chain(model.named_parameters(), model.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    try:
        functional_call(model, shapes, torch.empty(2, *shape, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"model.arch: {arch} does not take images of {shape[1]}x{shape[2]} ({error}); "
            "choose another arch or other data"
        ) from error
