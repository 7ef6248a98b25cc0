"""Checks of the records of a study, each with the number of trainings it was made for and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.audit import protocol_checks
from lottery.audit.audit import audit
from lottery.audit.disclosures import sentences
from lottery.audit.measurement_checks import wrong_in_record
from lottery.audit.stored_jobs import StoredJobs
from lottery.errors import DamagedFile
from lottery.plan.kinds import CORRECT_FILE, WEIGHTS_FILE, Kind
from lottery.results.artifacts import read_state
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study
    from lottery.store.store import Store

RECORDS = {  # fields of the audit's failed proofs, and what each check proves
    "identity": "each record is what its key is a hash of, and its parents lead to a dense network",
    "tuning": "each learning rate that was chosen is the best of its trials",
    "learning_rate": "each learning rate is that of the identity or of the choice",
    "stopping": "each reading stands at the row of the curve that its rule chooses, with its values",
    "test_use": "test values stand at the readings and nowhere else",
    "accuracy": "each accuracy is the share of the kept bits that say correct",
    "mask": "masks and counts follow from identity and parent, and lie within the mask above",
    "steps": "curves have the lengths and rewind points of the identity",
    "evaluation_grid": "curves are on the grid of the identity",
    "metrics": "all measures that were asked for are there",
}
FILES = "each file has the bytes that were committed"
MEASUREMENTS = "each analysis says what it read, and has test values only where its entry says so"
STATES = "states to rewind to are at their step, on the curve of their dense network"
UNPROVEN = (
    "that the code, the machine and the data behind a fingerprint are those recorded",
    "weights of controls, which are not kept: their accuracies are held against their bits only",
    "that no seed, level or training was removed from the store",
)
UNPROVEN_WITHOUT_AGAIN = (
    "that stored weights have the measures of their records, that states are those of the seeds (--again)"
)


@dataclass(frozen=True)
class Check:
    """One check of a study.

    Attributes:
        name: Its name.
        proves: What it proves, in words.
        count: The number of jobs it was made for.
        wrong: What is wrong, a line for each job.
        left: The jobs it could not be made for, a line for each.
    """

    name: str
    proves: str
    count: int
    wrong: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """True if nothing is wrong."""
        return not self.wrong


def check_records(study: Study) -> Iterator[Check]:
    """Yield the checks that need neither data nor a network, as they are made."""
    yield _files(study)
    found, audited = study.found, audit(study)
    own = [record for key, record in found.items() if record.manifest.key == key]
    trained = [record for record in own if record.diverged is None]
    counts = {
        "accuracy": sum(CORRECT_FILE in record.manifest.files for record in own),
        **dict.fromkeys(("stopping", "steps", "evaluation_grid", "metrics"), len(trained)),
    }
    labels = {job.key: job.label for job in study.plan}
    for name, proves in RECORDS.items():
        wrong = [
            f"{short(finding.key)} ({labels.get(finding.key, 'a training')}): {finding.note}"
            for finding in audited.findings
            if finding.field == name and not finding.dense and not finding.ours
        ]
        yield Check(name, proves, counts.get(name, len(own)), tuple(dict.fromkeys(wrong)))
    yield _states(study)
    if study.recipe.analyses:
        yield _measurements(study)


def unproven(study: Study, *, again: bool) -> list[str]:
    """Return in words what is recorded without a proof, and what a reader must be told."""
    left_open = dict.fromkeys(words for each in audit(study).unproven.values() for words in each)
    return [*left_open, *UNPROVEN, *(() if again else (UNPROVEN_WITHOUT_AGAIN,))]


def notes(study: Study) -> list[str]:
    """Return in words what a reader must be told beside the checks, such as withheld verdicts and left-out seeds."""
    withheld = sum(not finding.allowed_by and bool(finding.ours or finding.dense) for finding in audit(study).findings)
    unfair = (
        f"{withheld} differences from dense networks are not named and withhold verdicts: --view audit of the table"
    )
    return [*([unfair] if withheld else []), *sentences(study)]


def _files(study: Study) -> Check:
    wrong, count = [], 0
    for job in study.plan:
        if (manifest := study.store.find(job.key)) is None:
            continue
        count += 1
        try:
            for name in manifest.files:
                study.store.read(job.key, name)
        except DamagedFile as damage:
            wrong.append(f"{short(job.key)} ({job.label}): {damage}")
    return Check("files", FILES, count, tuple(wrong))


def _measurements(study: Study) -> Check:
    wrong, count = [], 0
    for job in study.plan:
        if job.kind is not Kind.ANALYSIS or study.store.find(job.key) is None:
            continue
        count += 1
        try:
            wrong += [f"{short(job.key)} ({job.label}): {problem}" for problem in wrong_in_record(study.store, job)]
        except (DamagedFile, KeyError, TypeError, AttributeError) as error:
            wrong.append(f"{short(job.key)} ({job.label}): it cannot be read: {error!r}")
    return Check("analyses", MEASUREMENTS, count, tuple(wrong))


def _states(study: Study) -> Check:
    """Compare rewind states with the curve of the dense network that shares their training."""
    stored = StoredJobs(study.store, {key: record.metrics for key, record in study.found.items()})
    dense = {(job.optimizer_index, job.seed): job for job in study.plan if job.kind is Kind.DENSE}
    wrong, count = [], 0
    for job in study.plan:
        manifest = study.store.find(job.key) if job.kind is Kind.REWIND else None
        if manifest is None or manifest.status != "done":
            continue
        count += 1
        problems = list(_wrong_state(study.store, job, stored, dense[job.optimizer_index, job.seed]))
        wrong += [f"{short(job.key)} ({job.label}): {problem}" for problem in problems]
    return Check("state", STATES, count, tuple(wrong))


def _wrong_state(store: Store, job: Job, stored: StoredJobs, dense: Job) -> Iterator[str]:
    try:
        tensors, values = read_state(store, job.key)
        identity = stored.identity(job.key) or {}
        step, rows = int(values["step"]), list(values["curve"])
        length = str(identity["training"]["length"])
        curve = list(protocol_checks.curve_of(stored.known.get(dense.key, {})))
        to = protocol_checks.in_steps(str(identity["to"]), length, int(curve[-1]["step"])) if curve else None
        shapes = store.shapes(dense.key, WEIGHTS_FILE) if store.find(dense.key) else {}
    except (DamagedFile, KeyError, TypeError, ValueError) as error:
        yield f"it cannot be read: {error!r}"
        return
    if not stored.genuine(job.key):
        yield "its record is not what its key is a hash of"
    if to is not None and step != to:
        yield f"it is at step {step}, not at {identity['to']}"
    own = {name.removeprefix("model/"): tuple(v.shape) for name, v in tensors.items() if name.startswith("model/")}
    if shapes and own != shapes:
        yield "it has other weights than its dense network"
    upto: Sequence[object] = [row for row in curve if row["step"] <= step]
    if curve and [row for row in rows if row["step"] <= step] != upto:
        yield "its curve is not the beginning of the dense network's: it was trained anew, or replaced"
