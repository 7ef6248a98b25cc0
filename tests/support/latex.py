"""LaTeX, where it is installed with what tables need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDED = ("article.cls", "booktabs.sty", "siunitx.sty", "threeparttable.sty")


def compiled(source: str, folder: Path) -> str:
    """Return the log of LaTeX on a document, which must compile without an error; skip where LaTeX lacks something."""
    for needed in NEEDED:
        if shutil.which("kpsewhich") is None or not subprocess.run(["kpsewhich", needed], capture_output=True).stdout:
            pytest.skip(f"LaTeX is not here, or not with {needed}")
    (folder / "article.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout
