"""How far the studies that a store remembers have come: jobs by their state, and the bytes that they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.results.studies import RememberedStudy, differences
from lottery.store.maintenance import failed_jobs

if TYPE_CHECKING:
    from lottery.store.store import Store


@dataclass(frozen=True)
class StudyProgress:
    """A study and the jobs of its last plan.

    Attributes:
        study: The study.
        finished: Number of jobs that have ended, those that diverged among them.
        diverged: Number of these.
        running: Keys of unfinished jobs that a process works on now.
        failed: Keys of unfinished jobs that failed the last time.
        size: Bytes of the finished jobs; those that studies share count for each.
    """

    study: RememberedStudy
    finished: int
    diverged: int
    running: tuple[str, ...]
    failed: tuple[str, ...]
    size: int

    @property
    def planned(self) -> int:
        """Number of jobs of the last plan."""
        return len(self.study.jobs)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        study = self.study
        return {
            "name": study.name,
            "version": study.version,
            "source": study.source,
            "overrides": list(study.overrides),
            "plugins": list(study.plugins),
            "first_run": study.first_run.isoformat(),
            "last_run": study.last_run.isoformat(),
            "planned": self.planned,
            "finished": self.finished,
            "diverged": self.diverged,
            "running": list(self.running),
            "failed": list(self.failed),
            "bytes": self.size,
        }


def progress(store: Store, studies: Sequence[RememberedStudy]) -> list[StudyProgress]:
    """Return the progress of studies, in their order; manifests are read, no other file."""
    finished = {
        manifest.key: (manifest.status, sum(record.size for record in manifest.files.values()))
        for manifest in store.manifests()
    }
    running, failed = store.leases.held(), set(failed_jobs(store))
    return [_progress(study, finished, running, failed) for study in studies]


def _progress(
    study: RememberedStudy, finished: Mapping[str, tuple[str, int]], running: Iterable[str], failed: Iterable[str]
) -> StudyProgress:
    ended = [finished[key] for key in study.jobs if key in finished]
    works = tuple(key for key in study.jobs if key in running and key not in finished)
    lost = tuple(key for key in study.jobs if key in failed and key not in finished and key not in works)
    diverged = sum(status == "diverged" for status, _ in ended)
    return StudyProgress(study, len(ended), diverged, works, lost, sum(size for _, size in ended))


def versions_told_apart(studies: Sequence[RememberedStudy]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by name what the versions of each study that has several differ in: the values by version, by key."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in dict.fromkeys(study.name for study in studies):
        versions = [study for study in studies if study.name == name]
        for other in versions[1:]:
            for key in differences(versions[0], other):
                found.setdefault(name, {}).setdefault(key, {})
        for key, values in found.get(name, {}).items():
            values.update({version.version: version.settings.get(key) for version in versions})
    return found
