"""Subjects of analyses made by hand: small networks, small data, states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lottery.landscape.memo import Memo
from lottery.landscape.subject import State, Subject, union
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part

Data = Mapping[str, tuple[Tensor, Tensor]]


def drawn(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose parameters and running statistics are drawn, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        for name, value in model.state_dict().items():
            if value.is_floating_point() and value.dim() < 2:
                value.copy_(torch.rand(value.shape) + 0.5 if "var" in name else value + 0.3 * torch.randn(value.shape))
    return model.eval()


def classes(shape: tuple[int, ...], count: int = 3, examples: int = 40) -> Data:
    """Random examples of train and test; there is no validation part."""
    draws = torch.Generator().manual_seed(5)
    return {
        part: (torch.randn(examples, *shape, generator=draws), torch.randint(count, (examples,), generator=draws))
        for part in ("train", "test")
    }


def random_mask(model: nn.Module, seed: int, density: float = 0.5) -> Mask:
    draws = torch.Generator().manual_seed(seed)
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    return Mask({name: torch.rand(p.shape, generator=draws) < density for name, p in weights.items()})


def state(model: nn.Module, name: str = "dense", mask: Mask | None = None, *, poison: bool = True) -> State:
    """A state of a network, NaN where its weights are pruned."""
    weights = {key: value.clone() for key, value in state_of(model).items()}
    if mask is not None and poison:
        for key in mask:
            weights[key][~mask[key]] = float("nan")
    return State(name, f"key of {name}", weights, mask)


def subject(
    make: Callable[[], nn.Module],
    states: Sequence[State],
    data: Data,
    *,
    loss: nn.Module | None = None,
    batch: int = 16,
    initial: Callable[[], nn.Module] | None = None,
) -> Subject:
    def examples(part: Part, count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        if part in data:
            x, y = (value[:count] for value in data[part])
            yield from zip(x.split(batch), y.split(batch), strict=True)

    loss = loss or nn.CrossEntropyLoss()
    return Subject(states, 0, make, initial or make, loss, examples, union(each.mask for each in states))


class Stopped(Exception):
    """Raised by a memo in place of a kill."""


def stopping(parts: Mapping[str, Tensor] | None, after: int) -> Memo:
    """A memo that raises `Stopped` after so many new parts."""
    left = [after]

    def count(memo: Memo) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped

    return Memo(parts, count)


def same_after_kills(measure: Callable[[Memo], object], every: int = 2) -> bool:
    """Return True if a measurement that is stopped again and again gives the bytes of one that is not."""
    parts: Mapping[str, Tensor] = {}
    while True:
        memo = stopping(parts, every)
        try:
            return repr(measure(memo)) == repr(measure(Memo()))
        except Stopped:
            assert len(memo.parts) > 0
            parts = {name: value.clone() for name, value in memo.parts.items()}
