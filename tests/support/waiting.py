"""Steps that may not wait for the GPU: torch raises where one does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Have torch raise for what waits for the GPU while the `with` block runs, and not after it, whatever happens.

    Torch warns of the mode itself, as a prototype, when it has set it already: where warnings are errors that would
    leave the mode on, and all tests after this one would fail.
    """
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype", UserWarning)
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            torch.cuda.set_sync_debug_mode("default")
