"""Masks of pruned networks, one bit for each prunable weight; `keep_top`, the one place where weights are selected."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from lottery.errors import DamagedFile, UsageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from lottery.pruning.top_k import Bits


class Mask(Mapping[str, "Tensor"]):
    """The surviving weights of a network: a bool tensor for each prunable weight, True where it is alive.

    Names are those of `lottery.network.layout` (`fc1.weight`). A mask never changes: the tensors handed out are made
    anew each time. It takes one bit for each weight, in memory as on disk. Two masks are equal when names, shapes and
    bits are; `a <= b` is True if every weight alive in `a` is alive in `b`.

    Args:
        alive: Bool tensors by name, in the shapes of the weights.

    Raises:
        UsageError: A tensor is not of type bool.
    """

    def __init__(self, alive: Mapping[str, Tensor]):
        self._packed: dict[str, Bits] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, bits in alive.items():
            if str(bits.dtype) != "torch.bool":
                raise UsageError(f"mask of {name}: {bits.dtype} is no bool")
            self._packed[name] = np.packbits(bits.detach().cpu().numpy())
            self._shapes[name] = tuple(bits.shape)

    @classmethod
    def _of(cls, packed: Mapping[str, Bits], shapes: Mapping[str, tuple[int, ...]]) -> Mask:
        """Return the mask of these bits, which nobody changes any more."""
        mask = cls({})
        mask._packed, mask._shapes = dict(packed), {name: shapes[name] for name in packed}
        return mask

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor]) -> Mask:
        """Return the mask with all weights alive, in the shapes of `weights`."""
        return cls.full({name: tuple(weight.shape) for name, weight in weights.items()})

    @classmethod
    def full(cls, shapes: Mapping[str, tuple[int, ...]]) -> Mask:
        """Return the mask with all weights alive, in these shapes."""
        return cls._of({name: np.packbits(np.ones(math.prod(shape), bool)) for name, shape in shapes.items()}, shapes)

    def __getitem__(self, name: str) -> Tensor:
        import torch  # at a first use: what a mask counts is known without it

        shape = self._shapes[name]
        bits = np.unpackbits(self._packed[name], count=math.prod(shape)).view(np.bool_)
        return torch.from_numpy(bits).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self._alike(other) and all(np.array_equal(bits, other._packed[n]) for n, bits in self._packed.items())

    def __le__(self, other: Mask) -> bool:
        """Return True if every weight alive here is alive there."""
        return self._alike(other) and not any((bits & ~other._packed[n]).any() for n, bits in self._packed.items())

    __hash__ = None  # type: ignore[assignment]

    def _alike(self, other: Mask) -> bool:
        """Return True if both have the same layers in the same order."""
        return list(self._shapes.items()) == list(other._shapes.items())

    def __repr__(self) -> str:
        return f"Mask: {self.in_words()}"

    def in_words(self) -> str:
        """Return the density and the number of weights: `5.0 % of 266,200 weights`."""
        percent = 100 * self.density
        rounded = f"{percent:.1f}"
        if rounded in ("0.0", "100.0") and percent not in (0, 100):
            rounded = f"{percent:.5g}"
        return f"{rounded} % of {sum(self.sizes().values()):,} weights"

    def of(self, names: Iterable[str]) -> Mask:
        """Return the mask of these layers only."""
        return Mask._of({name: self._packed[name] for name in names}, self._shapes)

    def alive(self) -> dict[str, int]:
        """Return the number of surviving weights of each layer."""
        return {name: int(np.bitwise_count(bits).sum(dtype=np.int64)) for name, bits in self._packed.items()}

    def flat(self) -> dict[str, NDArray[np.bool_]]:
        """Return the bits of each layer as an array of bools, in the order of the flattened weight."""
        sizes = self.sizes().items()
        return {name: np.unpackbits(self._packed[name], count=size).view(np.bool_) for name, size in sizes}

    def shared(self, other: Mask) -> dict[str, int]:
        """Return the number of weights of each layer that survive here and in a mask of the same layers."""
        pairs = ((name, bits & other._packed[name]) for name, bits in self._packed.items())
        return {name: int(np.bitwise_count(both).sum(dtype=np.int64)) for name, both in pairs}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each layer's weight."""
        return dict(self._shapes)

    def sizes(self) -> dict[str, int]:
        """Return the number of weights of each layer, pruned ones included."""
        return {name: math.prod(shape) for name, shape in self._shapes.items()}

    @property
    def density(self) -> float:
        """Number of surviving weights over that of prunable weights, from 0 to 1."""
        return sum(self.alive().values()) / max(1, sum(self.sizes().values()))

    def collapsed(self) -> list[str]:
        """Return the names of the layers with no weight left: nothing passes them any more."""
        return [name for name, count in self.alive().items() if count == 0]

    def named_as(self, there: Collection[str]) -> Mask:
        """Return the mask with the names that its weights have among others, see `lottery.network.wrappers.matched`.

        Raises:
            UsageError: A weight is not there.
        """
        from lottery.network.wrappers import explained, matched

        if all(name in there for name in self):
            return self
        names = dict[str, str]()
        for name, found in matched(self, there).items():
            if found is None:
                near = explained(name, there)
                told = f"the mask has {name} of shape {self._shapes[name]}, the model has not"
                raise UsageError(f"{told}; {near}" if near else told)
            names[name] = found
        return self.named(names)

    def named(self, names: Mapping[str, str]) -> Mask:
        """Return the mask with other names, by its own ones.

        Raises:
            UsageError: Two weights get the same name.
        """
        if len(set(names.values())) < len(names):
            raise UsageError("two names of the mask are of one weight; name it once")
        packed = {names[name]: bits for name, bits in self._packed.items()}
        return Mask._of(packed, {names[name]: shape for name, shape in self._shapes.items()})

    def apply(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a copy of `weights` with each pruned weight exactly +0.0, also where a tensor has several names.

        Args:
            weights: A state dict, which may be that of a wrapped network (torch.compile, DataParallel, an average).

        Raises:
            UsageError: A weight that the mask names is not there, or has another shape.
        """
        import torch

        alive = {_memory(weights[name]): bits for name, bits in _by_tensor(self, weights).items()}
        return {
            name: torch.where(alive[_memory(weight)].to(weight.device), weight, torch.zeros_like(weight))
            if _memory(weight) in alive
            else weight.clone()
            for name, weight in weights.items()
        }

    def pack(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return eight weights in a byte (uint8 tensors by name), and the shapes as safetensors metadata."""
        import torch

        packed = {name: torch.from_numpy(bits.copy()) for name, bits in self._packed.items()}
        return packed, {"shapes": json.dumps([[name, list(shape)] for name, shape in self._shapes.items()])}

    @classmethod
    def unpack(cls, packed: Mapping[str, Tensor] | Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> Mask:
        """Return the mask that `pack` took apart, its bytes as tensors or arrays.

        Raises:
            DamagedFile: Bytes and shapes disagree.
        """
        found: dict[str, Bits] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            for name, shape in json.loads(metadata["shapes"]):
                shapes[name], count = tuple(shape), int(np.prod(shape, dtype=np.int64))
                found[name] = np.asarray(packed[name]).copy()
                if found[name].dtype != np.uint8 or found[name].shape != ((count + 7) // 8,):
                    raise DamagedFile(f"mask of {name}: {found[name].shape} bytes cannot be {count} bits")
                if count % 8 and found[name][-1] & (0xFF >> count % 8):
                    raise DamagedFile(f"mask of {name}: bits are set beyond the {count} of its shape")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFile(f"no mask can be read: {error!r}") from error
        return cls._of(found, shapes)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return what tensors that are one and the same under several names have in common."""
    if not tensor.numel() or tensor.is_meta:
        return (id(tensor),)
    return tensor.data_ptr(), tensor.device, tensor.shape, tensor.stride()


def _by_tensor(mask: Mask, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the surviving weights of each tensor that the mask names, or of which it names parts.

    Attention's packed projections are three weights of a mask, and one tensor of a state dict.

    Raises:
        UsageError: A weight is not there, or has another shape.
    """
    import torch

    from lottery.network.weights import packed_projection

    packed = {name: found for name in mask if (found := packed_projection(name, weights)) is not None}
    rest = mask.of(name for name in mask if name not in packed)
    alive = dict(rest.named_as(weights).items())
    for name, place in packed.items():
        whole_of = alive.setdefault(place.parameter, torch.ones(weights[place.parameter].shape, dtype=torch.bool))
        if place.rows_of(whole_of).shape == mask.shapes()[name]:
            place.rows_of(whole_of).logical_and_(mask[name])
        else:
            raise UsageError(f"the mask has {name} of shape {mask.shapes()[name]}, the model has not")
    for name, bits in alive.items():
        if weights[name].shape != bits.shape:
            raise UsageError(f"the mask has {name} of shape {tuple(bits.shape)}, the model has not")
    return alive


def pruned_count(alive: int, fraction: Fraction) -> int:
    """Return the number of weights that a fraction of `alive` is: the nearest whole number, half rounded down."""
    exact = alive * fraction
    return -((Fraction(1, 2) - exact) // 1) if exact > 0 else 0


def keep_top(scores: Mapping[str, Tensor], mask: Mask, keep: Mapping[str, int] | int) -> Mask:
    """Return the mask that keeps the highest scores among the surviving weights.

    Counts are exact: among equal scores, the weight that comes first is kept, in the order of layers and then of the
    flattened weight. Layers without scores stay as they are.

    Args:
        scores: A score for each weight, by layer, in the shape of the weight; high means keep.
        mask: The weights that survive so far.
        keep: Number of weights to keep of each layer in `scores`, or one number over all of them (global pruning).

    Raises:
        UsageError: Scores are not finite or of another shape, or more is to be kept than survives.
    """
    import torch

    from lottery.pruning.top_k import highest

    alive, kinds = mask.alive(), {name: _checked(name, scores[name], mask) for name in scores}
    if isinstance(keep, int):
        groups = [([name for name in mask if name in scores], keep)]
    else:
        groups = [([name], count) for name, count in keep.items()]
    kept = dict(mask._packed)
    for names, count in groups:
        total = sum(alive[name] for name in names)
        if not 0 <= count <= total:
            raise UsageError(f"cannot keep {count} of {total} surviving weights")
        layers = [(partial(scores.__getitem__, name), mask._packed[name]) for name in names]
        kind = reduce(torch.promote_types, (kinds[name] for name in names), torch.bool)
        kept |= zip(names, highest(layers, count, kind), strict=True)
    return Mask._of(kept, mask._shapes)


def _checked(name: str, score: Tensor, mask: Mask) -> torch.dtype:
    """Return the type of a layer's scores.

    Raises:
        UsageError: `keep_top` cannot take them.
    """
    from lottery.pruning.top_k import finite

    if score.shape != mask.shapes().get(name):
        raise UsageError(f"scores of {name}: no such layer of shape {tuple(score.shape)} in the mask")
    if not finite(score, mask._packed[name]):
        raise UsageError(f"scores of {name}: not all of them are finite")
    return score.dtype


def fitted(mask: Mask, model: nn.Module) -> tuple[nn.Module, Mask]:
    """Return the network inside the wrappers of a model, and the mask with the names that its weights have there.

    A weight that layers share gets its first name, unless the mask has both.

    Raises:
        UsageError: The mask names a weight that the network lacks, or the network's weights lie in shards.
    """
    from lottery.network.layout import Layout
    from lottery.network.wrappers import unwrapped

    network = unwrapped(model)
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    layout = Layout.of(network)
    mask = mask.named_as(dict.fromkeys((*layout.weights, *names)))
    if not any(name in layout.same for name in mask):
        return network, mask
    first = {name: layout.same.get(name, name) for name in mask}
    return network, mask.named({name: name if other in mask else other for name, other in first.items()})


def whole(model: nn.Module, mask: Mask) -> Iterator[tuple[str, Tensor]]:
    """Yield each parameter that the mask names, or of which it names parts, with the bool tensor of its survivors.

    Raises:
        UsageError: The mask names a weight that the model lacks or has in another shape.
    """
    import torch

    from lottery.network.layout import Layout

    layout, parameters = Layout.of(model), dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, list[str]] = {}
    for name, shape in mask.shapes().items():
        place = layout.place(name)
        parameter = parameters.get(place.parameter)
        if parameter is None or place.rows_of(parameter).shape != shape:
            raise UsageError(f"the mask has {name} of shape {shape}, the model has not")
        found.setdefault(layout.same.get(place.parameter, place.parameter), []).append(name)
    for parameter_name, names in found.items():
        alive = torch.ones(parameters[parameter_name].shape, dtype=torch.bool)
        for name in names:
            layout.place(name).rows_of(alive).logical_and_(mask[name])
        yield parameter_name, alive
