"""Networks inside wrappers such as those of torch.compile and DataParallel, and names of weights without wrappers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from torch import nn

from lottery.errors import UsageError

T = TypeVar("T")

_INSIDE = {  # attribute with the network, by the name of the wrapper's class: none of their packages need be there
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",  # torch.optim.swa_utils
    "ModelEma": "module",  # timm
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "DeepSpeedEngine": "module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}
_PARTS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})  # of names, wrappers' alone
_COUNT = "n_averaged"  # of AveragedModel, beside its network
_FRONT = "module."  # of names in the state of DataParallel and of averages


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside the wrappers around a model, the model itself where there are none.

    Raises:
        UsageError: Its parameters are kept in shards, so that no process has the whole weights.
    """
    network = model
    while attribute := next((_INSIDE[each.__name__] for each in type(network).__mro__ if each.__name__ in _INSIDE), ""):
        network = getattr(network, attribute)
    kinds = {each.__name__ for module in network.modules() for each in type(module).__mro__}
    shards = any(type(parameter.data).__name__ == "DTensor" for parameter in network.parameters())
    if shards or kinds & {"FullyShardedDataParallel", "FSDPModule"}:
        raise UsageError(
            f"{type(network).__name__}: its parameters lie in shards (FSDP, tensor parallel), and masks are of whole "
            "weights; train it with DistributedDataParallel, or prune and mask before it is sharded"
        )
    return network


def plain_name(name: str) -> str:
    """Return the name of a weight without what torch.compile, FSDP and checkpointing put into it."""
    return ".".join(part for part in name.split(".") if part not in _PARTS)


def plain_state(state: Mapping[str, T]) -> dict[str, T]:
    """Return a state with the names that its tensors have without wrappers; what an average counts is left out."""
    plain = {plain_name(name): value for name, value in state.items()}
    while plain and all(name.startswith(_FRONT) or name == _COUNT for name in plain):
        plain = {name.removeprefix(_FRONT): value for name, value in plain.items() if name != _COUNT}
    return plain


def matched(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str | None]:
    """Return for each name of a weight the name that it has among others; None where it has none, or several.

    Both may be of a wrapped network: _orig_mod.fc1.weight and module.fc1.weight are fc1.weight.
    """
    names = list(there)
    by_plain: dict[str, list[str]] = {}
    for name in names:
        for form in {plain_name(name), _without_front(name)}:
            by_plain.setdefault(form, []).append(name)
    known = set(names)

    def found(name: str) -> str | None:
        if name in known:
            return name
        for form in (plain_name(name), _without_front(name)):
            if len(by_plain.get(form, [])) == 1:
                return by_plain[form][0]
        return None

    return {name: found(name) for name in wanted}


def explained(name: str, there: Iterable[str]) -> str:
    """Return in words where a weight may be that `matched` did not find; empty where nothing is like it."""
    plain = _without_front(name)
    for other in there:
        if other.endswith(f".{plain}"):
            front = other.removesuffix(f".{plain}")
            return f"there is {other}: hand over the network in {front!r} itself, or its part of the state"
        if plain.endswith(f".{other}"):
            return f"there is {other}: name the weights of the mask without {plain.removesuffix(other)!r}"
    return ""


def _without_front(name: str) -> str:
    plain = plain_name(name)
    while plain.startswith(_FRONT):
        plain = plain.removeprefix(_FRONT)
    return plain
