"""What numba keeps of the compiled kernels, which contain parts of one another's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lottery.engines import compiled
from lottery.engines.compiled.jit import STAMP, stamp_of

SCRIPT = """
import numpy as np
from lottery.engines.compiled.kernels import transpose

transpose(np.zeros((16, 2), np.float32), np.zeros((2, 16), np.float32))
print(transpose.stats.cache_hits.total(), transpose.stats.cache_misses.total())
"""


def test_each_module_of_the_folder_is_in_the_stamp_of_what_is_kept(tmp_path: Path) -> None:
    modules = list(Path(compiled.__file__).parent.glob("*.py"))
    stamps = {STAMP}
    for number, module in enumerate(modules):
        folder = tmp_path / str(number)
        folder.mkdir()
        for each in modules:
            (folder / each.name).write_bytes(each.read_bytes() + b"# changed\n" * (each == module))
        stamps.add(stamp_of(folder))
    assert len(stamps) == 1 + len(modules) > 5


def test_kept_kernels_are_those_of_the_files_as_they_are(tmp_path: Path) -> None:
    """A kernel of `kernels.py`, whose own file stays what it was while another one of the folder changes."""
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
    with (package / "background_kernels.py").open("a") as file:
        file.write("# changed\n")
    assert kept() == [0, 1]
