"""Compilation of the engines' arithmetic by numba, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit

from lottery.engines.compiled.simd import FLAGS


def stamp_of(folder: Path) -> bytes:
    """Return a hash of every module in a folder: a compiled function may contain parts of any of them."""
    digest = sha256()
    for source in sorted(folder.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.digest()


STAMP = stamp_of(Path(__file__).parent)


def kernel(parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return numba's `njit` with the kernels' options: no interpreter lock, sums in any order, NaN respected.

    numba reuses a compiled function as long as its own file is unchanged, although it contains parts of other files:
    after an upgrade it would compute what it did before. The functions kept here are stamped with all files of this
    folder.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        options = {"fastmath": set(FLAGS), "error_model": "numpy", "nogil": True, "cache": True}
        compiled: Any = njit(parallel=parallel, **options)(function)  # type: ignore[call-overload]
        compiled._cache._cache_file._source_stamp = STAMP
        return compiled

    return decorate


def threaded(function: Any) -> Callable[[int], Any]:
    """Return what gives the compiled function for a number of threads; one is compiled in half the time of several.

    In that for one thread, `prange` is `range`.
    """
    alone: Any = FunctionType(function.__code__, function.__globals__)
    alone.__qualname__ = alone.__name__ = f"{function.__name__}_alone"  # numba keeps it under this name
    of_one, of_several = kernel()(alone), kernel(parallel=True)(function)

    def compiled_for(threads: int) -> Any:
        return of_several if threads > 1 else of_one

    return compiled_for
