"""The command `lottery doctor`: what this machine has for the work, and what is wrong, a line for each thing."""

from __future__ import annotations

import os
import platform
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import DataDir, Json, StoreDir
from lottery.paths import cache_root, data_root, store_root
from lottery.words import counted

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "scikit-learn", "numba", "pydantic")
EXTRAS_APART = ("all", "dev", "docs", "examples")  # of other extras, or for contributors

Found = Iterator[tuple[str, str, bool]]  # name, value, and False where something is to be mended


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    Attributes:
        about: What it belongs to, such as `versions`.
        name: The thing.
        value: What was found, and the way out where it is no good.
        fine: False where something is to be mended.
    """

    about: str
    name: str
    value: str
    fine: bool = True


def doctor(
    data: DataDir = None,
    store: StoreDir = None,
    as_json: Json = False,
) -> None:
    """Say what there is: versions, devices, cores, data, store, extras; with the way out where something is wrong.

    Trains nothing, downloads nothing and writes nothing. Exit code 1 where something is to be mended.
    """
    lines = list(look(data, store))
    if as_json:
        print_json([vars(line) for line in lines])
    else:
        for number, line in enumerate(lines):
            if not number or lines[number - 1].about != line.about:
                print(line.about)
            terminal.say(f"  {'' if line.fine else '! '}{line.name:<16} {line.value}", indent=20)
    raise typer.Exit(0 if all(line.fine for line in lines) else 1)


def look(data: Path | None = None, store: str | None = None) -> Iterator[Line]:
    """Yield what there is, line by line; what fails in one of them is its value, and the others go on."""
    parts: dict[str, Callable[[], Found]] = {
        "versions": _versions,
        "machine": _machine,
        "devices": _devices,
        "data": lambda: _data(data_root(data)),
        "store": lambda: _store(store_root(store)),
        "extras": _extras,
    }
    for about, part in parts.items():
        try:
            for found in part():
                yield Line(about, *found)
        except Exception as error:  # a broken installation, of which any part may raise anything
            yield Line(about, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}", fine=False)


def _versions() -> Found:
    from lottery._version import __version__

    yield "lottery", f"{__version__}, {Path(__file__).parents[1]}", True
    yield "python", f"{platform.python_version()}, {sys.executable}", True
    for name in PACKAGES:
        try:
            yield name, metadata.version(name), True
        except metadata.PackageNotFoundError:
            yield name, f"not installed; pip install {name}", False
    yield from _torchvision()


def _torchvision() -> Found:
    """Yield a line where torchvision cannot be imported beside this torch."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, AttributeError) as error:  # what it raises where it was built for another torch
        why = " ".join(str(error).split())
        yield "torchvision", f"does not fit this torch ({why}); pip install --upgrade torch torchvision", False


def _machine() -> Found:
    from lottery.device import cores

    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}", True
    limit = os.environ.get("LOKY_MAX_CPU_COUNT")
    told = f"of {os.cpu_count()}" + (f", LOKY_MAX_CPU_COUNT={limit}" if limit else "")
    yield "cores", f"{cores()} {told}: as many processes has --jobs auto at most", True
    if threads := os.environ.get("OMP_NUM_THREADS"):
        yield "threads", f"OMP_NUM_THREADS={threads}", True
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield "memory", f"{memory / 1e9:,.1f} GB", True


def _devices() -> Found:
    import torch

    yield "cpu", f"{counted(torch.get_num_threads(), 'thread')}, {torch.backends.cpu.get_cpu_capability()}", True
    if torch.version.cuda is None:
        yield "cuda", "this torch was built without it", True
    elif not torch.cuda.is_available():
        yield "cuda", "no GPU that this torch can use", True
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield f"cuda:{number}", f"{about.name}, {about.total_memory / 1e9:,.1f} GB", True


def _data(root: Path) -> Found:
    from lottery.data.present import files_of_data_sets, missing_files
    from lottery.registry import datasets

    there = root.is_dir()
    named = "" if os.environ.get("LOTTERY_DATA") else " (LOTTERY_DATA or --data names another)"
    yield "folder", f"{root.absolute()}{'' if there else ': is not there yet'}{named}", True
    files, missing = files_of_data_sets(), missing_files(root)
    alone = [entry for entry in datasets if not entry.code and not files[entry.name]]
    free = [each.name for each in alone if not any(key.is_required() for key in each.schema.model_fields.values())]
    yield "without files", ", ".join(free), True
    for name, lacking in missing.items():
        found = "downloaded by the first run that names it, where the network allows" if lacking else "found"
        if 0 < len(lacking) < len(files[name]):
            found = f"{counted(len(lacking), 'file')} missing, such as {lacking[0]}; {found}"
        yield name, found, True
    known = {file.partition("/")[0] for each in files.values() for file in each}
    folders = [each.name for each in sorted(root.iterdir()) if each.is_dir()] if there else []
    others = [name for name in folders if name not in known and not name.startswith(".")]
    if others:
        yield "other folders", ", ".join(others[:20]) + (", ..." if len(others) > 20 else ""), True
    yield "cache", f"{cache_root()} (LOTTERY_CACHE names another)", True


def _store(where: str) -> Found:
    from lottery.results.studies import remembered
    from lottery.store.maintenance import find_garbage, summarize
    from lottery.store.store import Store

    kept = Store(where)
    there = kept.place.is_there()
    yield "place", f"{kept.name}{'' if there else ': there is no store here yet; lottery run makes one'}", True
    if (free := kept.free_bytes()) is not None:
        yield "free", f"{free / 1e9:,.1f} GB", free > 1e9
    if not there:
        return
    counts = summarize(kept)
    yield "studies", f"{len(remembered(kept))} (lottery studies)", True
    yield "jobs", f"{counts.finished:,} finished, {counts.size / 1e6:,.1f} MB; lottery verify hashes every byte", True
    states = {"running": len(counts.running), "interrupted": len(counts.interrupted)}
    yield "unfinished", ", ".join(f"{number} {state}" for state, number in states.items()), True
    if counts.failed:
        yield "failed", f"{counted(len(counts.failed), 'job')}; lottery status, lottery run tries them again", False
    if counts.quarantined:
        yield "quarantine", f"{counted(counts.quarantined, 'damaged job')} put aside; lottery gc lists them", False
    garbage = find_garbage(kept)
    yield "can go", f"{sum(size for _, size, _ in garbage) / 1e6:,.1f} MB (lottery gc)", True


def _extras() -> Found:
    """Yield each extra of the installed package: what is there of it, or how it is installed."""
    for extra, packages in extras().items():
        lacking = [name for name in packages if not _is_there(name)]
        found = ", ".join(f"{name} {metadata.version(name)}" for name in packages if name not in lacking)
        way = f'{", ".join(lacking)} not installed; pip install "lottery[{extra}]"'
        yield extra, way if lacking else found, True


def extras() -> dict[str, list[str]]:
    """Return the packages of each extra for users: as the source tree declares them, else as the installed package."""
    from packaging.requirements import Requirement

    source = Path(__file__).parents[2] / "pyproject.toml"
    if source.is_file():  # an editable install has the metadata of the day it was made
        declared = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
        found = {extra: [Requirement(each) for each in packages] for extra, packages in declared.items()}
    else:
        every = [Requirement(each) for each in metadata.requires("lottery") or ()]
        names = metadata.metadata("lottery").get_all("Provides-Extra") or ()
        found = {
            name: [each for each in every if each.marker and each.marker.evaluate({"extra": name})] for name in names
        }
    return {
        extra: [each.name for each in packages if each.name != "lottery"]
        for extra, packages in sorted(found.items())
        if extra not in EXTRAS_APART
    }


def _is_there(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
