"""Curvature: eigenvalues, trace and spectral density of Hessian or Gauss-Newton matrix, and plateaus of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lottery.registry import analyses
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=2, le=100)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _hessian_passes(arguments: Mapping[str, Any]) -> Work:
    """Return the work where no standard error and no convergence ends it before."""

    def products(size: float) -> float:
        krylov: float = min(arguments["steps"], size)
        probes: float = arguments["probes"] if size > krylov else 0
        return krylov + probes + (arguments["density_probes"] * krylov if arguments["density"] else 0)

    return Work(products=products(math.inf), block_products=products if arguments["by"] == "block" else None)


@analyses.register(
    "hessian",
    source="Lanczos 1950; Hutchinson 1990; Ghorbani et al. 2019",
    looks_at="state",
    units={
        "largest_eigenvalue": "",
        "smallest_eigenvalue": "",
        "trace": "",
        "trace_standard_error": "",
        "mean_eigenvalue": "",
    },
    passes=_hessian_passes,
    curvature=True,
)
def hessian(
    subject: Subject,
    memo: Memo,
    *,
    eigenvalues: Count = 10,
    matrix: Literal["hessian", "gauss_newton"] = "hessian",
    by: Literal["whole", "block"] = "whole",
    density: bool = False,
    axis: Literal["linear", "log"] = "log",
    steps: Steps = 100,
    probes: Count = 30,
    density_probes: Count = 10,
    tolerance: Share = 0.05,
    examples: Count = 1000,
    statistics: Literal["running", "batch"] = "running",
) -> Measurement:
    """Largest eigenvalues, the smallest, trace and density of the training loss' Hessian over the survivors.

    Lanczos' method ends where all these eigenvalues have converged to about four digits, at the latest after `steps`
    products; each has a residual in the profile, within which there is an eigenvalue. Trace and density stop where
    their standard error is below `tolerance`. With `by: block` there are rows for each parameter as well, and the table
    shows the whole matrix. `matrix: gauss_newton` leaves out the curvature of the outputs.
    """
    from lottery.landscape.matrices import Matrix, blocks, curvature
    from lottery.landscape.spectrum import Settings, spectrum
    from lottery.landscape.subject import Measurement

    state = subject.states[0]
    surface = subject.surface(state.mask, examples, statistics=statistics)
    surface.load(surface.point(state.weights))
    settings = Settings(eigenvalues, steps, probes, density_probes if density else 0, axis, tolerance)
    whole = curvature(surface, matrix)
    parts: list[tuple[str, Matrix]] = [("whole", whole), *(blocks(surface, whole) if by == "block" else ())]
    found = [spectrum(part, name, settings, subject.generator, memo) for name, part in parts]
    return Measurement(found[0].values, [row for one in found for row in one.rows])


def _plateau_passes(arguments: Mapping[str, Any]) -> Work:
    """Return the work of each state."""
    return Work(gradients=1, products=float(arguments["steps"]), each=True)


@analyses.register(
    "plateaus",
    source="Dauphin et al. 2014",
    looks_at="trajectory",
    units={
        "plateau_share": "fraction",
        "small_gradient_share": "fraction",
        "nonpositive_share": "fraction",
        "largest_gradient_norm": "",
    },
    passes=_plateau_passes,
    curvature=True,
)
def plateaus(
    subject: Subject,
    memo: Memo,
    *,
    threshold: Share = 0.1,
    steps: Steps = 40,
    examples: Count = 1000,
    statistics: Literal["running", "batch"] = "running",
) -> Measurement:
    """Share of a run where the gradient is small and curvature not positive: plateaus, saddles and flat maxima.

    Small is a norm of at most `threshold` times the largest of the run; curvature is not positive where Lanczos' method
    finds an eigenvalue of at most 0 within `steps` products. Each kept state stands for the steps around it.
    """
    from dataclasses import asdict
    from functools import partial

    from lottery.landscape.plateaus import measure_waypoint, shares
    from lottery.landscape.subject import Measurement

    waypoints = []
    for index, state in enumerate(subject.states):
        surface = subject.surface(state.mask, examples, statistics=statistics)
        surface.load(surface.point(state.weights))
        streams = partial(subject.generator, f"plateaus {index}")
        waypoints.append(measure_waypoint(surface, state.step, streams, memo, f"state {index}", steps=steps))
    largest = max((waypoint.gradient_norm for waypoint in waypoints), key=lambda norm: (norm != norm, norm))
    values = {**shares(waypoints, threshold), "largest_gradient_norm": largest}
    return Measurement(values, [asdict(waypoint) for waypoint in waypoints])
