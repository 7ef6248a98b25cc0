"""How the compiled engines' arithmetic is compiled by numba, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

from lottery.engines.compiled.simd import FLAGS


def _stamp() -> bytes:
    """Return a hash of every module in this folder: a compiled function may contain parts of any of them."""
    digest = sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.digest()


STAMP = _stamp()


def kernel(parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Numba's `njit` as all kernels have it: without the interpreter's lock, sums in any order but with NaN.

    numba takes a kept function as long as its own file is what it was, though it has parts of other files in it: after
    an upgrade it would compute what it did before. Those kept here are those of all these files.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        options = {"fastmath": set(FLAGS), "error_model": "numpy", "nogil": True, "cache": True}
        compiled: Any = njit(parallel=parallel, **options)(function)  # type: ignore[call-overload]
        compiled._cache._cache_file._source_stamp = STAMP
        return compiled

    return decorate
