"""Analyses that tests register, and a study of the micro recipe that runs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lottery.runner.context import RunContext
from tests.support.micro import finished, micro, prepared
from tests.support.plugs import Plugs

ENTRIES = '''
from lottery.landscape.subject import Measurement
from lottery.registry import analyses

CALLS, STOP = [], {}


@analyses.register("norms", source="test", units={"norm": "", "loss": ""}, passes=lambda arguments: 4)
def norms(subject, memo, *, scale: float = 1.0, examples: int = 64) -> Measurement:
    """Norm of the surviving weights, in parts."""
    (state,) = subject.states
    surface = subject.surface(state.mask, examples)
    point = surface.point(state.weights)
    surface.load(point)

    def part(number):
        CALLS.append(number)
        if STOP.get("at") == number:
            STOP["stop"].signal = 15
        return {"square": float(point.vector[number::3].double().square().sum())}

    squares = [memo.values(f"part {number}", lambda: part(number))["square"] for number in range(3)]
    loss = surface.measure("validation")["loss"]
    return Measurement({"norm": scale * sum(squares) ** 0.5, "loss": loss}, [{"square": each} for each in squares])


@analyses.register("gap", source="test", looks_at="pair", units={"distance": ""})
def gap(subject, memo) -> Measurement:
    """Distance of two states."""
    surface = subject.surface(subject.densest)
    one, two = (surface.point(state.weights).vector for state in subject.states)
    return Measurement({"distance": float((one - two).double().norm())})


@analyses.register("walk", source="test", looks_at="trajectory", units={"states": ""})
def walk(subject, memo) -> Measurement:
    """Steps of the states along a training."""
    return Measurement({"states": len(subject.states)}, [{"step": state.step} for state in subject.states])


@analyses.register("broken", source="test", units={"value": ""})
def broken(subject, memo) -> Measurement:
    """Numbers that are not finite."""
    return Measurement({"value": float("inf")}, [{"a": float("nan"), "b": float("-inf")}])
'''


def load(plugs: Plugs) -> Any:
    """Register the analyses, and return the module that has them."""
    plugs.load("measuring", ENTRIES)
    return sys.modules["measuring"]


def measured(folder: Path, *changes: str, **options: Any) -> RunContext:
    """Return the finished run of the micro recipe with these changes."""
    return finished(prepared(micro(*changes), folder, **options))


def asking(*analyses: str) -> str:
    """Return the change that asks for these analyses, each in YAML's flow style."""
    return f"analyses=[{', '.join(analyses)}]"
