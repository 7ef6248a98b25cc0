"""The tree of docs/contributing.md: `python -m tests.support.tree` writes it anew after a module was added."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import lottery
from tests.support import ROOT

PACKAGE = Path(lottery.__file__).parent


def packages(folder: Path = PACKAGE) -> list[Path]:
    """Return a package and those in it, depth first and in alphabetical order."""
    inner = [each for each in sorted(folder.iterdir()) if (each / "__init__.py").is_file()]
    return [folder, *(package for each in inner for package in packages(each))]


def tree() -> str:
    """Return the tree of `lottery/` with the modules of each package."""
    lines = []
    for package in packages():
        indent = "  " * len(package.relative_to(PACKAGE).parts)
        modules = " ".join(path.stem for path in sorted(package.glob("*.py")) if not path.stem.startswith("_"))
        lines += textwrap.wrap(
            modules, 118, initial_indent=f"{indent}{package.name}/".ljust(21), subsequent_indent=" " * 21
        )
    return "\n".join(lines) + "\n"


def write() -> None:
    """Put the tree into docs/contributing.md, in place of the one that is there."""
    page = ROOT / "docs" / "contributing.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(
        re.sub(r"(?<=\n## The tree\n)(.*?\n```\n).*?(?=```)", lambda m: m[1] + tree(), text, count=1, flags=re.S)
    )


if __name__ == "__main__":
    write()
