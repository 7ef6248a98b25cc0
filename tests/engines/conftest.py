"""A clock for engines that are chosen by what their steps take."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from torch import Tensor

from lottery.training.engine import DenseEngine, Engine


@pytest.fixture
def step_seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a step of each engine takes by `time.perf_counter`, by name; nothing else takes any time."""
    from lottery.engines.compiled.background import BackgroundEngine
    from lottery.engines.compiled.sparse import SparseEngine

    seconds, now = dict[str, float](), 0.0

    def timed(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed_step(self: Engine, x: Tensor, y: Tensor) -> Tensor:
            nonlocal now
            now += seconds[self.name]
            return step(self, x, y)

        return timed_step

    for engine in (DenseEngine, SparseEngine, BackgroundEngine):  # OneDnnEngine steps as the dense one does
        monkeypatch.setattr(engine, "step", timed(engine.step))
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    return seconds
