"""Sharpness: how far the loss rises near a state, at worst and on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lottery.registry import analyses
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

Count = Annotated[int, Field(ge=1)]
Radius = Annotated[float, Field(gt=0)]
_STARTS, _PRODUCTS, _ITERATIONS = 3, 20, 10  # of an ascent, for its eigenvector, of L-BFGS-B


def _passes(arguments: Mapping[str, Any]) -> Work:
    """Return the work where no ascent and no standard error ends before."""
    return Work(
        forwards=4 * arguments["draws"],
        gradients=2 * _STARTS * (arguments["steps"] + 1) + 2 * _ITERATIONS,
        products=2 * _PRODUCTS,
    )


@analyses.register(
    "sharpness",
    source="Keskar et al. 2017; Foret et al. 2021; Kwon et al. 2021; Andriushchenko et al. 2023",
    looks_at="state",
    units={
        "keskar": "",
        "worst_case": "",
        "ascent_reached": "fraction",
        "adaptive": "",
        "adaptive_ascent_reached": "fraction",
        "average_case": "",
        "adaptive_average_case": "",
    },
    passes=_passes,
    curvature=True,
)
def sharpness(
    subject: Subject,
    memo: Memo,
    *,
    rho: Radius = 0.05,
    adaptive_rho: Radius = 0.5,
    epsilon: Radius = 0.001,
    steps: Count = 20,
    draws: Count = 20,
    examples: Count = 1000,
    statistics: Literal["running", "batch"] = "running",
) -> Measurement:
    """Rise of the training loss near a state, over the survivors: worst case in a box and two balls, and averages.

    `keskar` is 100 rise / (1 + loss) in the box |d| <= epsilon (|w| + 1); `worst_case` the rise in the ball |d| <= rho,
    `adaptive` in the ball |d / w| <= adaptive_rho, which scaling layers against each other does not change; averages
    are over random steps of about these lengths. `ascent_reached` below 1 warns that an ascent found less than the
    quadratic model has: it failed, or the loss grows slower than that.
    """
    from functools import partial

    from lottery.landscape import sharpness as measured
    from lottery.landscape.matrices import Streams
    from lottery.landscape.subject import Measurement
    from lottery.landscape.trace import Estimate

    def streams(purpose: str) -> Streams:
        return partial(subject.generator, f"sharpness {purpose}")

    state = subject.states[0]
    surface = subject.surface(state.mask, examples, statistics=statistics)
    surface.load(surface.point(state.weights))
    keskar = measured.keskar(surface, streams("box"), memo, "box", epsilon=epsilon, iterations=_ITERATIONS)
    balls = {"worst_case": (rho, False), "adaptive": (adaptive_rho, True)}
    worst: dict[str, measured.WorstCase] = {}
    average: dict[str, Estimate] = {}
    for name, (radius, adaptive) in balls.items():
        worst[name] = measured.worst_case(
            surface,
            streams(name),
            memo,
            name,
            rho=radius,
            adaptive=adaptive,
            steps=steps,
            products=_PRODUCTS,
        )
        average[name] = measured.average_case(
            surface, streams(f"{name} average"), memo, f"{name} average", rho=radius, adaptive=adaptive, draws=draws
        )
    values = {
        "keskar": keskar,
        "worst_case": worst["worst_case"].rise,
        "ascent_reached": worst["worst_case"].reached,
        "adaptive": worst["adaptive"].rise,
        "adaptive_ascent_reached": worst["adaptive"].reached,
        "average_case": average["worst_case"].value,
        "adaptive_average_case": average["adaptive"].value,
    }
    rows: list[dict[str, float | str]] = [
        {
            "kind": name,
            "rho": radius,
            "rise": worst[name].rise,
            "quadratic": worst[name].quadratic,
            "eigenvalue": worst[name].eigenvalue,
            "average": average[name].value,
            "standard_error": average[name].standard_error,
            "draws": average[name].draws,
        }
        for name, (radius, _) in balls.items()
    ]
    return Measurement(values, rows)
