"""What numba keeps of the compiled kernels, which contain parts of one another's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lottery.engines import compiled

SCRIPT = """
import numpy as np
from lottery.engines.compiled.kernels import transpose

transpose(np.zeros((16, 2), np.float32), np.zeros((2, 16), np.float32))
print(transpose.stats.cache_hits.total(), transpose.stats.cache_misses.total())
"""


def test_kept_kernels_are_those_of_the_files_as_they_are(tmp_path: Path) -> None:
    """A kernel of `kernels.py`, whose own file stays what it was while others of the folder change, one by one."""
    package = tmp_path / "lottery" / "engines" / "compiled"
    shutil.copytree(Path(compiled.__file__).parent, package)
    for parent in (package.parent, package.parent.parent):
        (parent / "__init__.py").touch()

    def kept() -> list[int]:
        """How many kernels were found and how many compiled, in a new process."""
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    assert kept() == [0, 1]
    assert kept() == [1, 0]
    for name in ("simd", "background_kernels", "base"):
        with (package / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        assert kept() == [0, 1], name
    assert kept() == [1, 0]
