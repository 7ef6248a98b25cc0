"""Weights & Biases: a run for each training, in a group for each study."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.catalogue.trackers._folder import writable
from lottery.errors import UsageError
from lottery.files.write import make_folder, write_atomic
from lottery.registry import trackers
from lottery.words import short

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import End, Tracker, Training, Value

STEP = "step"  # of the training, which W&B's own counter is not
ENDED_FOLDER = "lottery-ended"  # in W&B's folder: a file for each run that was told to its end
EXIT_CODES = {"done": 0, "diverged": 1, "failed": 1}


@trackers.register("wandb", source="Biewald 2020; Weights & Biases", package="wandb")
def wandb(
    *, project: str = "lottery", entity: str | None = None, offline: bool = False, folder: str | None = None
) -> Tracker:
    """Runs in Weights & Biases, in a group for each study; their ids begin with the key of the job.

    With `offline` nothing is sent: `wandb sync wandb/offline-run-*` does that later. `folder` is where W&B puts its
    folder `wandb`; without it that is $WANDB_DIR, else the working folder. A training that goes on after a kill goes on
    in its run; offline it is told again as a whole, and takes the place of what was there when it is sent.
    """
    library = importlib.import_module("wandb")
    mode = "offline" if offline else os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not library.login(prompt=False, verify=False):
        raise UsageError("nobody is logged in here: wandb login, or {name: wandb, offline: true}")
    place = Path(folder or os.environ.get("WANDB_DIR", "."))
    if folder or mode == "offline":  # online, W&B takes a temporary one where this one cannot be written to
        writable(place)
    return _Runs(library, {"project": project, "entity": entity, "mode": mode}, place)


class _Runs:
    """The runs of one project."""

    def __init__(self, library: Any, where: Mapping[str, Any], folder: Path):
        self._library, self._where, self._folder = library, where, folder
        self._open: dict[str, Any] = {}

    def has(self, training: Training) -> bool:
        """Return True if a run here has told it all."""
        return self._ended(training).exists()

    def begin(self, training: Training) -> int:
        """Open the run, or go on with the one on the server."""
        make_folder(self._folder)
        run = self._library.init(
            **self._where,
            id=_id(training),
            name=training.name,
            group=training.study,
            job_type=training.kind,
            config=dict(training.config),
            dir=str(self._folder),
            resume="allow" if self._where["mode"] == "online" else None,
            reinit="create_new",
            settings=self._library.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
        )
        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP)
        self._open[training.key] = run
        return int(run.summary.get(STEP, -1)) if run.resumed else -1

    def log(self, training: Training, step: int, values: Mapping[str, float]) -> None:
        """Log the measures beside the step, which charts have along their axis."""
        self._open[training.key].log({STEP: step, **values})

    def end(self, training: Training, end: End, summary: Mapping[str, Value]) -> None:
        """Put what tables have into the summary, and finish the run."""
        run = self._open.pop(training.key)
        run.summary.update({**summary, "end": end})
        run.finish(exit_code=EXIT_CODES[end])
        if end != "failed":
            make_folder(self._ended(training).parent)
            write_atomic(self._ended(training), f"{training.key} {end}\n".encode())

    def close(self) -> None:
        """Finish the open runs as stopped; a later run goes on with them."""
        for run in self._open.values():
            run.finish(exit_code=1)
        self._open = {}

    def _ended(self, training: Training) -> Path:
        return self._folder / "wandb" / ENDED_FOLDER / _id(training)


def _id(training: Training) -> str:
    """Return the id of a training's run: the first digits of its key, and others for the study, which may share it."""
    return f"{short(training.key)}-{hashlib.sha256(training.study.encode()).hexdigest()[:8]}"
