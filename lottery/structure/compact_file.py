"""Files of compact networks: safetensors that name the model of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lottery.errors import DamagedFile, UsageError
from lottery.files.read import parse_json, read_bytes
from lottery.files.tensors import decode, encode
from lottery.network.build import build_model, own_parameters
from lottery.network.channel_groups import BatchNorm
from lottery.network.weights import PRUNABLE
from lottery.recipe.plugins import import_named
from lottery.structure.compact import prunable_layers, resize
from lottery.values import Component

FORMAT, VERSION = "lottery compact network", 1
MOST_BYTES = 1 << 36


def compact_bytes(small: nn.Module, component: Component, shape: Sequence[int], classes: int) -> bytes:
    """Return the bytes of a safetensors file of a compact network, which `load_compact` reads.

    The widths of layers are those of the tensors; the metadata name the model of the catalogue, the shape of its inputs
    and the number of classes.
    """
    about = {"model": component.as_dict(), "shape": list(shape), "classes": classes}
    head = {"format": FORMAT, "version": str(VERSION), "about": json.dumps(about, sort_keys=True)}
    return encode(small.state_dict(), head)


def load_compact(path: str | Path, *, plugins: Sequence[str] = ()) -> nn.Module:
    """Load a compact network in evaluation mode: the model of the catalogue, its layers as wide as they were saved.

    Args:
        path: A file that `lottery ticket export --form compact` has written.
        plugins: Modules that add entries to the catalogues, such as the model.

    Raises:
        UsageError: The file is of another kind.
        DamagedFile: The file is not whole.
    """
    import_named(plugins)
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    tensors, head = decode(read_bytes(path, most=MOST_BYTES))
    if head.get("format") != FORMAT or head.get("version") != str(VERSION):
        raise UsageError(f"{path}: holds no compact network of version {VERSION}")
    about = parse_json(head["about"].encode(), str(path))
    component, shape = Component.parse(about["model"]), tuple(about["shape"])
    model = build_model(component, shape, about["classes"], init=Component("torch"), seed=0)
    own_parameters(model, prunable_layers(model).values())
    own: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        own.setdefault(name.rpartition(".")[0], {})[name.rpartition(".")[2]] = value
    try:
        for at, module in model.named_modules():
            if isinstance(module, (*PRUNABLE, BatchNorm)):
                resize(module, own.get(at, {}))
        model.load_state_dict(tensors)
        model.eval()(torch.zeros(1, *shape, dtype=next(model.parameters()).dtype))
    except (RuntimeError, ValueError) as error:
        raise DamagedFile(f"{path}: its tensors are not those of the network that it names: {error}") from error
    return model
