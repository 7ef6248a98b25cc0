"""TensorBoard: a folder for each training."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.catalogue.trackers._folder import writable
from lottery.files.write import make_folder, write_atomic
from lottery.registry import trackers

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import End, Tracker, Training, Value

FLUSH_SECONDS = 2  # between two writes to the disk, for those who watch
ENDED_FILE = "lottery-ended"  # beside the events of a training that was told to its end


@trackers.register("tensorboard", source="Abadi et al. 2016; torch.utils.tensorboard", package="tensorboard")
def tensorboard(*, folder: str = "tensorboard") -> Tracker:
    """Event files for TensorBoard, `folder/STUDY/TRAINING`; `tensorboard --logdir tensorboard` shows them.

    A training that goes on after a kill is told again from its first step, and TensorBoard drops what it had of it.
    """
    return _Folders(writable(folder), importlib.import_module("torch.utils.tensorboard"))


class _Folders:
    """The folders of one run."""

    def __init__(self, root: Path, library: Any):
        self._root, self._library = root, library
        self._open: dict[str, Any] = {}

    def has(self, training: Training) -> bool:
        """Return True if the training's folder says so."""
        return (self._folder(training) / ENDED_FILE).exists()

    def begin(self, training: Training) -> int:
        """Open a file of events that takes the place of earlier ones from step 0 on."""
        folder = self._folder(training)
        make_folder(folder)
        (folder / ENDED_FILE).unlink(missing_ok=True)
        again = any(folder.glob("events.out.tfevents.*"))
        writer = self._library.SummaryWriter(str(folder), purge_step=0, flush_secs=FLUSH_SECONDS)
        self._open[training.key] = writer
        if not again:  # scalars are dropped from the step on that is purged, texts are not
            lines = [f"| {name} | {value} |" for name, value in training.config.items()]
            writer.add_text("job", "\n".join(["| | |", "|---|---|", *lines]), 0)
        return -1

    def log(self, training: Training, step: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each measure."""
        for name, value in values.items():
            self._open[training.key].add_scalar(name, value, step)

    def end(self, training: Training, end: End, summary: Mapping[str, Value]) -> None:
        """Write what the tab HPARAMS shows of it, and close the file."""
        writer = self._open.pop(training.key)
        measured = {name: value for name, value in summary.items() if "/" in name or name == "density"}
        given = {name: value for name, value in training.config.items() if name not in ("key", "study")}
        for part in self._hparams({"study": training.study, **given, "end": end}, measured):
            writer.file_writer.add_summary(part)
        writer.close()
        if end != "failed":
            write_atomic(self._folder(training) / ENDED_FILE, f"{training.key} {end}\n".encode())

    def close(self) -> None:
        """Close the files that are open."""
        for writer in self._open.values():
            writer.close()
        self._open = {}

    def _hparams(self, given: dict[str, Any], measured: dict[str, Any]) -> Any:
        return importlib.import_module("torch.utils.tensorboard.summary").hparams(given, measured)

    def _folder(self, training: Training) -> Path:
        return self._root / _spelled(training.study) / _spelled(training.unique_name)


def _spelled(name: str) -> str:
    """Return a name that is no path and that every file system takes."""
    return re.sub(r"[^\w.,()=+ -]", "_", name).strip(". ")[:200] or "_"
