"""The layout of a network's state for the method: one entry for each weight that can be pruned.

A network's own state dict is turned into this form, and back, where it passes between the network and the method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.network.names import layer_name
from lottery.network.tracing import Traced, trace
from lottery.network.weights import Value, WeightPosition, places

EXAMPLES = 2  # of a pass that is followed
_CHOICE = "_lottery_choice"


@dataclass(frozen=True)
class Choice:
    """The grounds, beside the kinds of layers, on which weights of a network are prunable.

    Attributes:
        multiplied: Parameters that multiply values which depend on the input, as one pass has shown.
        computed: Parameters from which such a factor is computed.
        embeddings: Embeddings are prunable on request.
        only: Patterns of layers; where there are any, they alone decide.
    """

    multiplied: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    embeddings: bool = False
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The weights of a network in the form that the method uses: attention's projections apart, shared weights once.

    Attributes:
        weights: Prunable weights by name, in the order of the modules.
        names: Names of the state dict.
        parts: The weights that a parameter holds, where it holds several or goes by another name.
        same: For each further name of a shared parameter, its first name.
        left: Number of weights by layer that multiply inputs, or look them up, and are never pruned.
    """

    names: tuple[str, ...]
    weights: Mapping[str, WeightPosition]
    parts: Mapping[str, Sequence[WeightPosition]]
    same: Mapping[str, str]
    left: Mapping[str, int]

    @classmethod
    def of(cls, model: nn.Module) -> Layout:
        """Return the layout of a network by the note that `choose` left on it, else by its kinds of layers alone."""
        choice: Choice = getattr(model, _CHOICE, Choice())
        parameters = dict(model.named_parameters(remove_duplicate=False))
        multiplied, computed = (
            {id(parameters[name]) for name in names if name in parameters}
            for names in (choice.multiplied, choice.computed)
        )
        every, found = list(places(model)), dict[str, WeightPosition]()
        owners: dict[int, str] = {}  # of each tensor the name that it goes by
        others: list[WeightPosition] = []
        of_layers = {id(parameters[place.parameter]) for place in every if place.kind == "layer"}
        for place in every:
            parameter = parameters[place.parameter]
            if not choice.only and place.kind != "layer" and id(parameter) in of_layers:
                continue  # it goes by the name of the layer that it multiplies in
            multiplies = place.kind == "layer" or id(parameter) in multiplied
            if choice.only:
                wanted = any(fnmatchcase(layer_name(place.name), pattern) for pattern in choice.only)
            else:
                wanted = multiplies or (choice.embeddings and place.kind == "embedding")
            if wanted and owners.setdefault(id(parameter), place.parameter) == place.parameter:
                found[place.name] = place
            elif multiplies or place.kind == "embedding" or id(parameter) in computed:
                others.append(place)
        counted = {(id(parameters[place.parameter]), place.rows) for place in found.values()}
        left: dict[str, int] = {}
        for place in others:
            parameter = parameters[place.parameter]
            if (id(parameter), place.rows) not in counted:
                counted.add((id(parameter), place.rows))
                left[layer_name(place.name)] = place.rows_of(parameter).numel()
        apart = {place.parameter for place in found.values() if place.name != place.parameter}
        parts = {name: [place for place in every if place.parameter == name] for name in apart}
        names, same = [], {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            names.append(name)
            if isinstance(tensor, Tensor) and (owner := owners.setdefault(id(tensor), name)) != name:
                same[name] = owner
        return cls(tuple(names), found, parts, same, left)

    def split(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """Return the state in the method's form from a network's own state, or from a part of one; memory is shared."""
        weights: dict[str, Value] = {}
        for name, value in state.items():
            if name in self.same:
                continue
            for place in self.parts.get(name, [WeightPosition(name, name, "", name, "other")]):
                weights[place.name] = place.rows_of(value)
        return weights

    def join(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a network's own state: the inverse of `split`. Tensors that are in no parts share their memory."""
        joined: dict[str, Tensor] = {}
        for name, parts in self.parts.items():
            pieces = [weights[place.name] for place in parts if place.name in weights]
            if pieces:
                joined[name] = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        inner = {place.name for parts in self.parts.values() for place in parts}
        joined |= {name: value for name, value in weights.items() if name not in inner}
        joined |= {name: joined[owner] for name, owner in self.same.items() if owner in joined}
        return {name: joined[name] for name in dict.fromkeys((*self.names, *joined)) if name in joined}

    def place(self, name: str) -> WeightPosition:
        """Return where the weight of this name is; any other name is that of a whole parameter."""
        return self.weights.get(name) or WeightPosition(name, name, *_apart(name), "other")


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the prunable weights of a network by name: parameters, and views of those that hold several weights."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: place.rows_of(parameters[place.parameter]) for name, place in Layout.of(model).weights.items()}


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's state in the form that the method uses."""
    return Layout.of(model).split(model.state_dict())


def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy a state in the method's form into a network."""
    model.load_state_dict(Layout.of(model).join(weights))


def choose(
    model: nn.Module,
    shape: Sequence[int],
    *,
    empty: Callable[[], nn.Module],
    only: Sequence[str] = (),
    embeddings: bool = False,
) -> None:
    """Decide which weights of a model are prunable, and note it on the model, whose copies keep the note.

    Args:
        model: The network.
        shape: Shape of an input without the batch.
        empty: Makes a copy of the model on the device "meta", where a pass costs nothing; the pass is made with values
            where it has to be. Where the model's code takes neither, the kinds of layers decide alone.
        only: Patterns of layers that are pruned; empty for all.
        embeddings: Embeddings are prunable too.

    Raises:
        UsageError: No layer fits a pattern of `only`.
    """
    found = Traced()
    if any(place.kind != "layer" for place in places(model)):  # else the kinds of layers say it all
        found = traced(model, shape, empty) or found
    choice = Choice(frozenset(found.multiplied), frozenset(found.computed), embeddings, tuple(only))
    model.__dict__[_CHOICE] = choice
    layers = [layer_name(place.name) for place in places(model)]
    for pattern in only:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise UsageError(
                f"model: its trait `prunable` names {pattern!r}, which no weight of two or more dimensions is called; "
                f"there are {', '.join(layers)}"
            )


def traced(model: nn.Module, shape: Sequence[int], empty: Callable[[], nn.Module]) -> Traced | None:
    """Return the observations of a pass of two examples; None where the model's code takes none."""
    why = ""
    for dtype in (torch.float32, torch.int64):  # numbers, or places in an embedding
        for device, copied in (("meta", empty), ("cpu", lambda: deepcopy(model).cpu())):
            try:
                with torch.random.fork_rng(devices=[]):
                    return trace(copied(), torch.zeros(EXAMPLES, *shape, dtype=dtype, device=device))
            except Exception as error:  # whatever a user's code raises where it meets no values, or unexpected ones
                why = why or str(error).partition("\n")[0]
    warnings.warn(
        f"{type(model).__name__}: its code cannot be followed ({why}); only the weights of known kinds of layers are "
        "prunable, a model's trait `prunable` names others",
        stacklevel=2,
    )
    return None


def _apart(name: str) -> tuple[str, str]:
    path, _, attribute = name.rpartition(".")
    return path, attribute
