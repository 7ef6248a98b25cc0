"""Kinds of jobs, and the files that a finished job keeps. The one place that names either."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from lottery.recipe.readings import Reading

IDENTITY_FILE = "job.json"  # what the key is a hash of
METRICS_FILE = "metrics.json"
CORRECT_FILE = "correct.safetensors"  # one bit for each test example, and their number
MASK_FILE = "mask.safetensors"
STATE_FILE = "state.safetensors"  # the tensors of a `Training.state()`; its plain values are the other
STATE_VALUES_FILE = "state.json"
WEIGHTS_FILE = "weights.safetensors"  # at the end of the training
STATES_FILE = "states.json"  # by moment of a training: its step, the key of the job that keeps its state, and the file
MEASUREMENT_FILE = "measurement.json"  # values and profile of an analysis
WEIGHTS_FILES: Mapping[Reading, str] = MappingProxyType(  # where two readings are the same step, one file is kept
    {
        "best_accuracy": "best_accuracy.safetensors",
        "early_stop": "early_stop.safetensors",
        "end": WEIGHTS_FILE,
    }
)


class Kind(StrEnum):
    """Kind of a job. Its value is part of keys and stands in manifests, so it never changes.

    TRIAL: a training with one of the learning rates that are tried.
    CHOICE: the choice among these; trains nothing.
    REWIND: the dense network's training up to a rewind point.
    DENSE: the dense network's training.
    TICKET: the training of a level's ticket.
    BRANCH: a control, or a ticket retrained with another optimizer.
    RETRAINING: the training of a ticket file; no plan of a recipe has one.
    CHILD: a copy of a state that is trained on to the end under a noise of its own.
    STATES: the states of one training at moments that analyses ask for, which the training kept or are trained again.
    ANALYSIS: a measurement of states of finished trainings.
    """

    TRIAL = "trial"
    CHOICE = "choice"
    REWIND = "rewind"
    DENSE = "dense"
    TICKET = "ticket"
    BRANCH = "branch"
    RETRAINING = "retraining"
    CHILD = "child"
    STATES = "states"
    ANALYSIS = "analysis"

    @property
    def tunes(self) -> bool:
        """True for the jobs that find a learning rate."""
        return self in (Kind.TRIAL, Kind.CHOICE)

    @property
    def measured(self) -> bool:
        """True for trainings of a recipe that are measured on the test set, so that tables have them."""
        return self in (Kind.DENSE, Kind.TICKET, Kind.BRANCH)

    @property
    def starts_at_initialization(self) -> bool:
        """True for trainings that need no other job's weights to start from."""
        return self in (Kind.TRIAL, Kind.REWIND, Kind.DENSE)

    @property
    def on_dense_trajectory(self) -> bool:
        """True for the dense network and its rewind points, which go on from one another."""
        return self in (Kind.REWIND, Kind.DENSE)

    @property
    def in_trunk(self) -> bool:
        """True for the dense network and the tickets, each of which the next level is pruned from."""
        return self in (Kind.DENSE, Kind.TICKET)

    @property
    def keeps_state(self) -> bool:
        """True for kinds that keep `STATE_FILE` and `STATE_VALUES_FILE`, to be gone back to."""
        return self is Kind.REWIND

    @property
    def keeps_weights(self) -> bool:
        """True for kinds that keep `WEIGHTS_FILE`, and those of chosen steps before the end."""
        return self.in_trunk or self in (Kind.RETRAINING, Kind.CHILD)

    @property
    def keeps_mask(self) -> bool:
        """True for kinds that keep `MASK_FILE` beside their weights."""
        return self.keeps_weights and self is not Kind.DENSE

    @property
    def trains(self) -> bool:
        """False for the jobs that read what others have trained."""
        return self not in (Kind.CHOICE, Kind.STATES, Kind.ANALYSIS)


def state_file(step: int) -> str:
    """Return the name of the file in which a training keeps its state after so many steps, on request."""
    return f"state-{step:09d}.safetensors"
