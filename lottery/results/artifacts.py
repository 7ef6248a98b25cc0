"""Finished jobs read back from the store: the levels of a trunk and the states to rewind to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, UsageError
from lottery.files.arrays import decode_arrays
from lottery.plan.kinds import CORRECT_FILE, MASK_FILE, METRICS_FILE, STATE_FILE, STATE_VALUES_FILE, WEIGHTS_FILES
from lottery.pruning.mask import Mask
from lottery.recipe.readings import CHOSEN, READINGS, Reading
from lottery.words import short

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from lottery.pruning.scoring import Weights
    from lottery.store.store import Store
    from lottery.training.trainer import Training


def read_state(store: Store, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the `Training.state()` that a rewind job committed: tensors by name, and plain values."""
    return store.read_tensors(key, STATE_FILE), store.read_json(key, STATE_VALUES_FILE)


def stored_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a `Training.state()` as a rewind job commits them: weights in the layout of the method."""
    from lottery.files.tensors import part
    from lottery.network.layout import Layout

    return _with_weights(tensors, Layout.of(model).split(part(tensors, "model/")))


def network_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as a training of this model restores them: the inverse of `stored_state`."""
    from lottery.files.tensors import part
    from lottery.network.layout import Layout

    return _with_weights(tensors, Layout.of(model).join(part(tensors, "model/")))


def _with_weights(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a `Training.state()` with these weights in place of its own."""
    rest = {name: value for name, value in tensors.items() if not name.startswith("model/")}
    return {**{f"model/{name}": value for name, value in weights.items()}, **rest}


def kept_states(training: Training) -> dict[str, dict[str, Tensor]]:
    """Return the states that a finished trunk level keeps, by file: that of the end and of each chosen step before it.

    Each step is kept once: `read_trained` knows whose file a reading shares.
    """
    from lottery.network.layout import Layout, state_of

    kept, seen = {WEIGHTS_FILES["end"]: state_of(training.model)}, {training.step}
    for reading in CHOSEN:
        row = training.chosen.rows.get(reading)
        if row is not None and row["step"] not in seen:
            seen.add(row["step"])
            kept[WEIGHTS_FILES[reading]] = Layout.of(training.model).split(training.chosen.weights[row["step"]])
    return kept


def read_trained(store: Store, key: str, mask: Mask | None, reading: Reading = "end") -> Weights:
    """Return the weights of a finished trunk level at a reading, pruned ones 0; `mask` is None for a dense network.

    Raises:
        UsageError: the training has no such reading, as without a validation split.
        DamagedFile: a file is not what was committed.
    """
    metrics = store.read_json(key, METRICS_FILE)
    steps = {name: metrics[name]["step"] for name in READINGS if metrics.get(name)}
    if reading not in steps:
        raise UsageError(f"{short(key)}: has no {reading}; there are {', '.join(steps) or 'none: it diverged'}")
    name = next(each for each in ("end", *CHOSEN) if steps.get(each) == steps[reading])
    packed = store.read_tensors(key, WEIGHTS_FILES[name])
    return packed if mask is None else unpack(packed, mask)


def pack_correct(correct: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return one bit for each test example, eight in a byte, by reading, and the number of examples as header."""
    import numpy as np
    import torch

    packed = {name: torch.from_numpy(np.packbits(each.numpy())) for name, each in correct.items()}
    return packed, {"examples": str(len(next(iter(correct.values()))))}


def read_correct(store: Store, key: str) -> dict[Reading, NDArray[np.bool_]]:
    """Return which test examples a finished training recognized at each reading, bools in the order of the test split.

    Empty for regression, for a diverged training, and for a control that is measured as the mean of several networks.

    Raises:
        DamagedFile: the counts disagree.
    """
    manifest = store.find(key)
    if manifest is None or CORRECT_FILE not in manifest.files:
        return {}
    import numpy as np

    packed, head = decode_arrays(store.read(key, CORRECT_FILE))
    examples = int(head.get("examples", -1))
    if any(bits.dtype != np.uint8 or bits.shape != (-(-examples // 8),) for bits in packed.values()):
        raise DamagedFile(f"{short(key)}: {CORRECT_FILE} has not a bit for each of {examples} examples")
    found = {name: np.unpackbits(bits, count=examples).astype(bool) for name, bits in packed.items()}
    return {name: found[name] for name in READINGS if name in found}


def read_mask(store: Store, key: str) -> Mask:
    """Return the mask that a ticket, or a control with a trunk of its own, committed."""
    return Mask.unpack(*decode_arrays(store.read(key, MASK_FILE)))


def pack(weights: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return weights with each masked one as the 1-D tensor of its survivors, in the order of the flattened weight."""
    return {name: value.cpu()[mask[name]] if name in mask else value for name, value in weights.items()}


def unpack_arrays(packed: Mapping[str, NDArray[Any]], mask: Mask) -> dict[str, NDArray[Any]]:
    """Return what `unpack` returns, of arrays.

    Raises:
        DamagedFile: the counts disagree.
    """
    import numpy as np

    weights, alive, flat = dict(packed), mask.alive(), mask.flat()
    for name in mask.of(name for name in mask if name in packed):
        _check_count(name, packed[name].shape, alive[name])
        weights[name] = np.zeros(mask.shapes()[name], packed[name].dtype)
        weights[name].reshape(-1)[flat[name]] = packed[name]
    return weights


def _check_count(name: str, shape: tuple[int, ...], alive: int) -> None:
    """Raise DamagedFile where a layer's kept weights are not as many as its mask leaves."""
    if shape != (alive,):
        raise DamagedFile(f"{name}: {tuple(shape)} kept weights for {alive} alive in the mask")


def unpack(packed: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    """Return the weights that `pack` was given, pruned ones 0.

    Raises:
        DamagedFile: the counts disagree.
    """
    import torch

    weights: dict[str, Tensor] = {}
    for name, value in packed.items():
        weights[name] = value
        if name in mask:
            bits = mask[name]
            _check_count(name, value.shape, int(bits.sum()))
            weights[name] = torch.zeros(bits.shape, dtype=value.dtype)
            weights[name][bits] = value
    return weights
