"""A notebook in a real kernel shows its runs, in one output each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.micro import micro_text

pytestmark = pytest.mark.slow

RUN = "ran = lottery.run('micro.yaml', store='store', device='cpu', deterministic=True{})"
CELLS = [
    "import lottery",
    RUN.format(""),  # two seeds of a rewind point, a dense network and two tickets
    RUN.format(", progress=False"),
    RUN.format(", jobs=2"),  # all is done by now
    "lottery.run('fails.yaml', store='store', device='cpu').exit_code",
]


def outputs(folder: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each cell after a kernel has run them."""
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `examples`")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `examples`")
    (folder / "micro.yaml").write_text(micro_text("seeds=2", "rewind=4it", "train.length=2000it"))
    (folder / "fails.yaml").write_text(micro_text("train.optimizer={name: sgd, lr: 1e30}"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_run_in_a_notebook_is_one_output_that_says_how_it_ended(tmp_path: Path) -> None:
    imported, (shown,), silent, (found,), (failed, code) = outputs(tmp_path)
    assert imported == silent == []
    assert shown["output_type"] == found["output_type"] == "display_data"
    assert re.fullmatch(r"8 of 8 jobs in [\w. ]+", shown["data"]["text/plain"])
    assert re.search(r'<progress value="1.0000" .*8 of 8 jobs', shown["data"]["text/html"])
    assert re.fullmatch(r"8 of 8 jobs in [\w. ]+", found["data"]["text/plain"])
    first, *lines = failed["data"]["text/plain"].splitlines()
    assert re.fullmatch(r"4 of 4 jobs in [\w. ]+, 1 DIVERGED, 2 blocked", first)
    assert len(lines) == 3 and "DIVERGED" in lines[0]
    assert code["data"]["text/plain"] == "1"
