"""The spectrum of one matrix as numbers and rows: eigenvalues with residuals, trace, density."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lottery.landscape.lanczos import extreme_eigenvalues
from lottery.landscape.matrices import Matrix
from lottery.landscape.memo import Memo
from lottery.landscape.spectral_density import Axis, Density, spectral_density
from lottery.landscape.trace import trace

Row = Mapping[str, float | str]


@dataclass(frozen=True)
class Settings:
    """How exactly a spectrum is measured.

    Attributes:
        eigenvalues: Number of the largest eigenvalues.
        steps: Largest number of Lanczos steps.
        probes: Largest number of probes of the trace.
        density_probes: Largest number of probes of the density; 0 for no density.
        axis: Axis of the density.
        tolerance: Relative standard error at which trace and density stop.
    """

    eigenvalues: int
    steps: int
    probes: int
    density_probes: int
    axis: Axis
    tolerance: float


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one matrix: numbers by name, and rows."""

    values: Mapping[str, float]
    rows: list[Row]


def spectrum(
    matrix: Matrix, name: str, settings: Settings, generator: Callable[[str, int], torch.Generator], memo: Memo
) -> Spectrum:
    """Measure the spectrum of a matrix; `name`, its block, goes into rows, streams and parts.

    Rows are of three kinds: `eigenvalue` with `rank` from 1 for the largest, 0 for the smallest, `eigenvalue` and
    `residual`; `trace` with `value`, `standard_error`, `probes` and `size` of the matrix; `density` with `eigenvalue`,
    `spectral_density` per unit of the `axis`, `standard_error` and the kernel's `width` in that unit.
    """

    def streams(purpose: str) -> Callable[[int], torch.Generator]:
        return partial(generator, f"{purpose} of {name}")

    def measure() -> Tensor:
        krylov = extreme_eigenvalues(
            matrix,
            streams("eigenvalues"),
            memo,
            f"{name} lanczos",
            largest=settings.eigenvalues,
            smallest=True,
            steps=settings.steps,
        )
        found = trace(
            matrix,
            streams("trace"),
            memo,
            f"{name} trace",
            probes=settings.probes,
            tolerance=settings.tolerance,
            known=krylov,
        )
        memo.forget(f"{name} lanczos")
        kept = [*range(min(settings.eigenvalues, len(krylov.values))), -1]
        sums = torch.tensor([[found.value, found.standard_error], [found.draws, len(krylov.values)]])
        return torch.cat([torch.stack([krylov.values[kept], krylov.residuals[kept]], dim=1), sums])

    table = memo.tensor(f"{name}: eigenvalues and trace", measure).tolist()
    *pairs, (value, error), (probes, products) = table
    rows: list[Row] = [
        {"kind": "eigenvalue", "block": name, "rank": rank, "eigenvalue": one, "residual": residual}
        for rank, (one, residual) in zip([*range(1, len(pairs)), 0], pairs, strict=True)
    ]
    rows.append(
        {"kind": "trace", "block": name, "value": value, "standard_error": error}
        | {"probes": probes, "size": matrix.size, "lanczos_steps": products}
    )
    if settings.density_probes:
        found = spectral_density(
            matrix,
            lambda probe: streams(f"density {probe}"),
            memo,
            f"{name} density",
            axis=settings.axis,
            probes=settings.density_probes,
            steps=settings.steps,
            tolerance=settings.tolerance,
        )
        rows += _density_rows(name, found)
    values = {
        "largest_eigenvalue": pairs[0][0],
        "smallest_eigenvalue": pairs[-1][0],
        "trace": value,
        "trace_standard_error": error,
        "mean_eigenvalue": value / matrix.size,
    }
    return Spectrum(values, rows)


def _density_rows(name: str, found: Density) -> list[Row]:
    """Return a row for each point of the grid, and one for what is too near zero for a logarithmic axis."""
    common: Row = {"block": name, "axis": found.axis, "width": found.width}
    rows: list[Row] = [
        {"kind": "density", **common, "eigenvalue": at, "spectral_density": density, "standard_error": error}
        for branch in found.branches
        for at, density, error in zip(
            branch.eigenvalues.tolist(), branch.density.tolist(), branch.standard_error.tolist(), strict=True
        )
    ]
    if found.axis == "log" or math.isnan(found.width):
        rows.append({"kind": "near zero", **common, "share": found.near_zero, "probes": found.probes})
    return rows
