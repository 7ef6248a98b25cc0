"""Networks and masks from ticket files, of a study or of none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lottery.errors import UsageError
from lottery.network.layout import Layout, load
from lottery.network.wrappers import explained, matched, plain_name, unwrapped
from lottery.recipe.plugins import import_named
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import unpack
from lottery.tickets.file import read
from lottery.tickets.own import OwnTicket, read_own

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lottery.pruning.mask import Mask
    from lottery.tickets.file import Ticket

Of = Literal["start", "trained"]


def load_ticket(
    path: str | Path, model: nn.Module | None = None, *, weights: Of = "start", plugins: Sequence[str] = ()
) -> tuple[nn.Module, Mask]:
    """Return the network of a ticket file, pruned weights 0, and its mask; hold the mask with `lottery.masked`.

    Args:
        path: A file that `lottery ticket export` or `save_ticket` has written.
        model: A network whose weights and buffers are replaced by those of the file, also one inside wrappers; None for
            the model of the catalogue that a study's ticket names.
        weights: `start` for those that training starts from; `trained` for those after it, of a study at the step of
            the best validation accuracy, at the end without a validation split.
        plugins: Modules that add the entries which the ticket names.

    Returns:
        The model, and the mask by the names that its weights have without wrappers.

    Raises:
        UsageError: The file is not there, is no ticket file or has no such weights; the model is another one, or none
            is given for a file of no study.
        DamagedFile: The file is not whole.
    """
    if weights not in ("start", "trained"):
        raise UsageError(f"weights {weights!r}: there are start and trained")
    import_named(plugins)
    found: Ticket | OwnTicket = read_own(path) or read(path)
    state = _state(found, weights, path)
    if model is None and isinstance(found, OwnTicket):
        raise UsageError(
            f"{path}: holds weights of a network of its maker's own{f', {found.network}' if found.network else ''}; "
            "hand over one with these names and shapes: lottery.load_ticket(path, model)"
        )
    model = found.blank() if model is None and not isinstance(found, OwnTicket) else model
    assert model is not None
    network = unwrapped(model)
    names = _names(network, state, found.mask, path)
    load(network, {name: state[other] for name, other in names.items()})
    return model, found.mask.named({other: plain_name(name) for name, other in names.items() if other in found.mask})


def _state(found: Ticket | OwnTicket, weights: Of, path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a file, pruned ones 0.

    Raises:
        UsageError: It has none after training.
    """
    if weights == "start":
        return dict(found.start if isinstance(found, OwnTicket) else found.weights)
    if isinstance(found, OwnTicket):
        if not found.trained:
            raise UsageError(f"{path}: has no trained weights; those that training starts from are weights='start'")
        return dict(found.trained)
    measured = found.evidence["ticket"]
    step = measured["best_accuracy" if "best_accuracy" in measured else "end"]["step"]
    kept = next(name for name in READINGS if found.trained(name) and measured[name]["step"] == step)
    return unpack(found.trained(kept), found.mask)


def _names(network: nn.Module, state: dict[str, Tensor], mask: Mask, path: str | Path) -> dict[str, str]:
    """Return for each name of the network's state, as the method has it, the name in the file's.

    Packed weights of the file's state are taken apart in place as the network's are.

    Raises:
        UsageError: The file is of another network.
    """
    layout, what = Layout.of(network), type(network).__name__
    for parameter, places in layout.parts.items():
        if (packed := matched([parameter], state)[parameter]) is not None:
            whole = state.pop(packed)
            state |= {place.name: place.rows_of(whole) for place in places}
    own = layout.split(network.state_dict())
    names: dict[str, str] = {}
    for name, other in matched(own, state).items():
        if other is None:
            near = explained(name, state)
            raise UsageError(f"{path}: has no {name}, which {what} has" + (f"; {near}" if near else ""))
        names[name] = other
    for alias, other in matched(layout.same, state).items():  # further names of a weight that layers share
        if other is not None:
            first, spare = layout.same[alias], other
            if other in mask:
                names[first], spare = other, names[first]
            if spare not in names.values():
                state.pop(spare, None)
    if twice := sorted(mask.keys() - set(names.values()) - state.keys()):
        raise UsageError(f"{path}: its mask names {twice[0]}, a weight that layers share, by another name too")
    for name, other in names.items():
        if (there := tuple(state[other].shape)) != (here := tuple(own[name].shape)):
            raise UsageError(f"{path}: {other} is of shape {there}, in {what} of {here}")
    if more := sorted(state.keys() - set(names.values())):
        raise UsageError(f"{path}: has {more[0]}, which {what} has not")
    return names
