"""Finished parts of a measurement, kept so that one that was stopped goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class Memo:
    """The finished parts of a measurement by name: each is computed once, and found again after a kill.

    A measurement asks for its parts by names that it never uses twice, such as `alpha 3`, and computes each from the
    parts before it and its arguments alone; then the run that was stopped and the one that was not give the same bytes.

    Args:
        parts: Parts that were finished before.
        after: Called after each new part; it saves, reports progress, and raises where the run is told to stop.
    """

    def __init__(self, parts: Mapping[str, Tensor] | None = None, after: Callable[[Memo], None] = lambda memo: None):
        self.parts: dict[str, Tensor] = dict(parts or {})
        self.done = len(self.parts)  # parts that this measurement has asked for
        self._after = after

    def tensor(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """Return a part, a tensor of any shape and type, which nobody may change."""
        if name not in self.parts:
            self.parts[name] = make().detach().clone()
            self.done += 1
            self._after(self)
        return self.parts[name]

    def values(self, name: str, make: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Return a part that is numbers by name, in the order of the names, in which one that was kept comes back too.

        They may be NaN or infinite, and are kept to the last bit.
        """
        head = f"{name}: "
        known = {part.removeprefix(head): value for part, value in self.parts.items() if part.startswith(head)}
        if not known:
            known = {key: torch.tensor(float(value), dtype=torch.float64) for key, value in make().items()}
            self.parts |= {head + key: value for key, value in known.items()}
            self.done += 1
            self._after(self)
        return {key: value.item() for key, value in sorted(known.items())}

    def forget(self, name: str) -> None:
        """Drop the parts whose names begin with this one and a space, once all that is needed of them is a part itself.

        It belongs at the end of the function that makes that part, so that no saved state lacks both.
        """
        self.parts = {part: value for part, value in self.parts.items() if not part.startswith(f"{name} ")}

    def iterate(
        self,
        name: str,
        count: int,
        state: Mapping[str, Tensor],
        advance: Callable[[int, dict[str, Tensor]], Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Return the state after so many steps, of which the newest alone is kept.

        Args:
            name: Name of the parts.
            count: Number of steps.
            state: The state before the first step, tensors by name.
            advance: Returns the state after step i from a copy of the one before it.
        """
        found, first = {key: value.detach().clone() for key, value in state.items()}, 0
        head = f"{name}: "
        kept = {part.removeprefix(head): value for part, value in self.parts.items() if part.startswith(head)}
        if kept:
            first = int(kept.pop("steps"))
            found = {key: value.clone() for key, value in sorted(kept.items())}
        for step in range(first, count):
            found = {key: value.detach().clone() for key, value in sorted(advance(step, found).items())}
            self.parts |= {head + key: value for key, value in found.items()}
            self.parts[f"{head}steps"] = torch.tensor(step + 1)
            self.done += 1
            self._after(self)
            found = {key: value.clone() for key, value in found.items()}
        return found
