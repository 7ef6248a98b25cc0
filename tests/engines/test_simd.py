"""Sums and products of rows, against numpy's in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from lottery.engines.compiled.simd import LANES, add_products, add_rows

Array = np.ndarray[Any, Any]


@njit
def sums(out: Any, row: int, weights: Any, places: Any, matrix: Any, rows: Any, first: int, last: int) -> None:
    add_rows(out, row, out.shape[1], weights, places, matrix, rows, first, last)


@njit
def direct_sums(out: Any, row: int, weights: Any, matrix: Any, rows: Any, first: int, last: int) -> None:
    add_rows(out, row, out.shape[1], weights, None, matrix, rows, first, last)


@njit
def products(out: Any, matrix: Any, rows: Any, first: int, last: int, other: Any, row: int) -> None:
    add_products(out, matrix, rows, first, last, other, row, other.shape[1])


@pytest.fixture
def draws() -> np.random.Generator:
    return np.random.default_rng(0)


def some(draws: np.random.Generator, *shape: int) -> Array:
    return draws.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("columns", [LANES * vectors for vectors in (1, 2, 3, 4, 5, 7, 8, 13, 16)])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (3, 4), (0, 7), (2, 18), (5, 36)])
def test_sums_and_products_are_those_of_numpy(draws: np.random.Generator, columns: int, first: int, last: int) -> None:
    matrix, out, other, weights = (some(draws, *shape) for shape in ((20, columns), (3, columns), (4, columns), (50,)))
    rows, places = (draws.integers(0, most, 40).astype(np.int32) for most in (20, 50))
    exact, chosen = matrix.astype(np.float64), rows[first:last]
    wanted = out.astype(np.float64)
    wanted[1] += weights[places[first:last]].astype(np.float64) @ exact[chosen]
    found = out.copy()
    sums(found, 1, weights, places, matrix, rows, first, last)
    assert found == pytest.approx(wanted, rel=0, abs=2e-5)
    wanted[1] = out[1] + weights[first:last].astype(np.float64) @ exact[chosen]
    found = out.copy()
    direct_sums(found, 1, weights, matrix, rows, first, last)
    assert found == pytest.approx(wanted, rel=0, abs=2e-5)

    gradient = some(draws, last - first + 2)
    wanted = gradient.astype(np.float64)
    wanted[: last - first] += exact[chosen] @ other[2].astype(np.float64)
    products(gradient, matrix, rows, first, last, other, 2)
    assert gradient == pytest.approx(wanted, rel=0, abs=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_shows(draws: np.random.Generator, value: float) -> None:
    matrix, out, rows = some(draws, 5, 16), np.zeros((1, 16), np.float32), np.arange(5, dtype=np.int32)
    matrix[2, 3] = value
    direct_sums(out, 0, np.ones(5, np.float32), matrix, rows, 0, 5)
    assert [column for column in range(16) if not np.isfinite(out[0, column])] == [3]
    gradient = np.zeros(5, np.float32)
    products(gradient, matrix, rows, 0, 5, np.ones((1, 16), np.float32), 0)
    assert [row for row in range(5) if not np.isfinite(gradient[row])] == [2]
