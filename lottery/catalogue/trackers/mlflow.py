"""MLflow: a run for each training, in an experiment for each study."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.registry import trackers

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import End, Tracker, Training, Value

KEY, STUDY, END = "lottery.key", "lottery.study", "lottery.end"  # tags of runs
STATUS = {"done": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


@trackers.register("mlflow", source="Zaharia et al. 2018; MLflow", package="mlflow")
def mlflow(*, uri: str | None = None, experiment: str | None = None) -> Tracker:
    """Runs in MLflow, found by the tag lottery.key, in an experiment that is named as the study where none is given.

    `uri` is that of the tracking server, of a database such as `sqlite:///mlflow.db`, or of a folder; without it
    MLflow's own setting counts, $MLFLOW_TRACKING_URI. A training that goes on after a kill goes on in its run.
    """
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
    return _Runs(client, importlib.import_module("mlflow.entities"), experiment)


class _Runs:
    """The runs of one tracking server."""

    def __init__(self, client: Any, entities: Any, experiment: str | None):
        self._client, self._entities, self._experiment = client, entities, experiment
        self._experiments: dict[str, str] = {}  # id by name
        self._open: dict[str, str] = {}  # id of the run by key
        self._final: dict[str, set[str]] = {}  # measures beside its curve that a run has already, by key

    def has(self, training: Training) -> bool:
        """Return True if a run of the training says how it ended."""
        found = self._find(training)
        return found is not None and found.data.tags.get(END) in ("done", "diverged")

    def begin(self, training: Training) -> int:
        """Create a run, or go on with the one that there is: MLflow takes no number back."""
        found = self._find(training)
        if found is None:
            tags = {KEY: training.key, STUDY: training.study, "lottery.kind": training.kind}
            found = self._client.create_run(self._in(training), tags=tags, run_name=training.unique_name)
            given = [self._entities.Param(name, str(value)) for name, value in training.config.items()]
            self._client.log_batch(found.info.run_id, params=given)
        else:
            self._client.update_run(found.info.run_id, status="RUNNING")
        self._open[training.key] = found.info.run_id
        self._final[training.key] = set(found.data.metrics) - set(_of_curve(found))
        return self._last(found)

    def log(self, training: Training, step: int, values: Mapping[str, float]) -> None:
        """Log the measures in one request."""
        now = int(1000 * time.time())
        new = {name: value for name, value in values.items() if name not in self._final[training.key]}
        metrics = [self._entities.Metric(name, value, now, step) for name, value in new.items()]
        self._client.log_batch(self._open[training.key], metrics=metrics)

    def end(self, training: Training, end: End, summary: Mapping[str, Value]) -> None:
        """Say how it ended, in a tag and in the run's status; learning rates that were chosen are a tag too."""
        run = self._open[training.key]
        for name in ("lr", "diverged_at"):
            if name in summary:
                self._client.set_tag(run, f"lottery.{name}", str(summary[name]))
        self._client.set_tag(run, END, end)
        self._client.set_terminated(run, STATUS[end])
        del self._open[training.key]

    def close(self) -> None:
        """Mark the open runs as ended from outside; a later session goes on with them."""
        for run in self._open.values():
            self._client.set_terminated(run, "KILLED")
        self._open = {}

    def _find(self, training: Training) -> Any:
        wanted = f"tags.`{KEY}` = '{training.key}'"
        found = self._client.search_runs([self._in(training)], wanted, max_results=1)
        return found[0] if found else None

    def _in(self, training: Training) -> str:
        """Return the id of the training's experiment, which is created where it is not there."""
        name = self._experiment or training.study
        if name not in self._experiments:
            found = self._client.get_experiment_by_name(name)
            self._experiments[name] = found.experiment_id if found is not None else self._client.create_experiment(name)
        return self._experiments[name]

    def _last(self, run: Any) -> int:
        """Return the last step of the curve that a run has."""
        history = (self._client.get_metric_history(run.info.run_id, name) for name in _of_curve(run))
        return max((each.step for metrics in history for each in metrics), default=-1)


def _of_curve(run: Any) -> list[str]:
    """Return the names of the measures of a run that are taken at each evaluation."""
    return [name for name in run.data.metrics if name.startswith(("train/", "validation/"))]
