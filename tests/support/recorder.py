"""What stands in for a CUDA graph on a CPU: the operations of a call, recorded and done again on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Keeps each operation with its arguments as they are: numbers stay those of now, tensors are known by address.

    As when a graph is captured, the host may read no value, and what was in memory before is there after `undo`."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, dict[int, Tensor]]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for tensor in tensors((args, kwargs)):
            storage = tensor.untyped_storage()
            self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        results = func(*args, **kwargs)
        # what has memory of its own: the other results are views of arguments, or arguments that were changed
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
        made = {i: t for i, t in enumerate(tensors(results)) if t.untyped_storage().data_ptr() not in given}
        self._operations.append((func, args, kwargs, made))
        return results

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self._operations:
            results = func(*args, **kwargs)
            if made:
                again = tensors(results)
                for place, target in made.items():
                    target.copy_(again[place])


class Recordings:
    """A `lottery.engines.cuda_graph.Recorder` for a CPU."""

    def __init__(self) -> None:
        self.runs, self.recorded, self.replayed = 0, 0, 0

    def run(self, call: Callable[[], None]) -> None:
        self.runs += 1
        call()

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        draws, tape = torch.get_rng_state(), Tape()
        try:
            with tape:
                call()
        finally:
            tape.undo()
            torch.set_rng_state(draws)
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay

    def side_by_side(self, calls: Sequence[Callable[[], None]]) -> None:
        for call in calls:
            call()


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
