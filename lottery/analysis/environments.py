"""The machines, versions and dates that a study was made with."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lottery import _version
from lottery.analysis.columns import Column
from lottery.analysis.rows import Row, Values, in_plan_order
from lottery.environment import Session, rounding, said
from lottery.words import listed

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study


def environments(study: Study) -> list[Row]:
    """Return a row for each environment that trainings ran in, that of the most trainings first.

    It has their number, first and last date (UTC), their seconds in all, and what was recorded of versions and machine;
    `a and b` where trainings went on in another one, or had two engines.
    """
    rows = environments_of(study.found.values())
    return [Row(row, in_plan_order(study, row.made_from)) for row in rows]


def environments_of(found: Iterable[Record]) -> list[Row]:
    """Return the rows that `environments` has, of trainings of any studies; one that they share counts once."""
    rows, names = list[Row](), dict[str, None]()
    for records in _by_environment({record.job.key: record for record in found}.values()):
        manifests = [record.manifest for record in records]
        dates = sorted(manifest.created for manifest in manifests)
        row: Values = {
            "trainings": len(manifests),
            Column("first", "date"): dates[0],
            Column("last", "date"): dates[-1],
            "seconds": sum(manifest.seconds for manifest in manifests),
            **_recorded([session for manifest in manifests for session in manifest.machines]),
            "engine": " and ".join(sorted(set[str]().union(*(manifest.engines for manifest in manifests)))),
        }
        names |= dict.fromkeys(row)
        rows.append(Row(row, [record.job.key for record in records]))
    return [Row({name: row.get(name) for name in names}, row.made_from) for row in rows]


def _recorded(sessions: Sequence[Session]) -> Values:
    """Return what sessions recorded, by field: the value, or `a and b` in words where they differ."""
    values: dict[str, Values] = {}
    for session in sessions:
        for name, value in session.items():
            values.setdefault(name, {})[said(value)] = value
    return {
        name: " and ".join(sorted(found)) if len(found) > 1 else next(iter(found.values()))
        for name, found in values.items()
    }


def _by_environment(found: Iterable[Record]) -> list[list[Record]]:
    """Return the finished trainings of each environment, a set of machines, that of the most trainings first."""
    groups: dict[frozenset[str], list[Record]] = {}
    for record in found:
        machines = frozenset(json.dumps(machine, sort_keys=True) for machine in record.manifest.machines)
        groups.setdefault(machines, []).append(record)
    return sorted(groups.values(), key=len, reverse=True)


def roundings(*studies: Study) -> list[str]:
    """Return a sentence on what differs between trainings and changes nothing but rounding, if anything does.

    Their engines are left to `lottery.analysis.engines`.
    """
    found = rounding(record.manifest.machines for study in studies for record in study.found.values())
    if not found:
        return []
    parts = ", ".join(f"{name} ({listed(values)})" for name, values in found.items())
    return [f"Trainings differ in {parts}: that changes rounding only, so they are compared all the same."]


def newest(study: Study) -> str | None:
    """Return when the last finished training was committed, in UTC (ISO 8601): the date of what is made of them."""
    return max((record.manifest.created for record in study.found.values()), default=None)


def software() -> str:
    """Return the version of this installation, and its commit where that is known; for trainings see `environments`."""
    commit = next(_commits(), None)
    return f"lottery {_version.__version__}" + (f", commit {commit}" if commit else "")


def _commits() -> Iterator[str]:
    """Yield the commit that pip recorded (PEP 610), and that of the git repository this package is the source of."""
    with suppress(metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        recorded = metadata.distribution("lottery").read_text("direct_url.json")
        yield str(json.loads(recorded or "")["vcs_info"]["commit_id"])
    root = Path(_version.__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():  # a repository above an installed copy is not ours
        return
    describe = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= with changes"]
    done = subprocess.run([git, "--no-optional-locks", "-C", str(root), *describe], capture_output=True, text=True)
    if done.returncode == 0:
        yield done.stdout.strip()
