"""One measurement of finished networks by itself: as a row of a table, and as a document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.analysis.columns import KEY, Column
from lottery.analysis.measurements import NOT_REPEATED, read_measurement
from lottery.analysis.rows import Row, Values
from lottery.plan.kinds import IDENTITY_FILE, MEASUREMENT_FILE
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.store.store import Store


def row_of(store: Store, job: Job, networks: Sequence[str]) -> Row:
    """Return the row of a finished analysis; `networks` are those that it looks at, in words.

    A value that is not finite stays so, and `note` says so.
    """
    found = read_measurement(store, job)
    assert job.analysis is not None
    units = registry.analyses[job.analysis.name].traits.units
    values = _head(job, networks)
    values |= {Column(name, units[name]): found.values[name] for name in units if name in found.values}
    notes = [f"{name} is {value}" for name, value in found.values.items() if not math.isfinite(value)]
    notes += [NOT_REPEATED] if any(not state["same"] for state in found.states) else []
    return Row({**values, "note": "; ".join(notes)}, _made_from(job))


def diverged_row(job: Job, networks: Sequence[str], steps: Mapping[str, int | None]) -> Row:
    """Return the row of networks of which one diverged, so that there is nothing to measure.

    Args:
        job: The analysis.
        networks: What it would look at, in words.
        steps: The step at which each network diverged, by its key; None for one that ended well.
    """
    said = [f"{short(key)} diverged at step {step}" for key, step in steps.items() if step is not None]
    return Row({**_head(job, networks), "note": f"diverged: {'; '.join(said)}"}, _made_from(job))


def document(store: Store, job: Job, networks: Sequence[str]) -> dict[str, Any]:
    """Return all that is kept of a finished analysis, as plain values that JSON can hold.

    Numbers that are not finite are the words `nan`, `inf` and `-inf`, as in the file.
    """
    assert job.analysis is not None
    manifest = store.find(job.key)
    assert manifest is not None
    traits = registry.analyses[job.analysis.name].traits
    about = store.read_json(job.key, MEASUREMENT_FILE)
    looks = [vars(look) | state for look, state in zip(job.looks, about.pop("states"), strict=True)]
    return {
        "key": job.key,
        "analysis": store.read_json(job.key, IDENTITY_FILE)["analysis"],
        "networks": list(networks),
        "states": looks,
        "units": dict(traits.units),
        **about,
        "seconds": manifest.seconds,
        "environment": manifest.environment,
    }


def _head(job: Job, networks: Sequence[str]) -> Values:
    return {
        "networks": " - ".join(networks),
        "states": " - ".join(dict.fromkeys(look.name for look in job.looks)),
        KEY: job.key,
    }


def _made_from(job: Job) -> list[str]:
    return list(dict.fromkeys((job.key, *(look.key for look in job.looks))))
