"""What ticket and dense network must have in common, by name: the words of `compare.allow` and of the audit."""

from __future__ import annotations

FIELDS = {  # those that a recipe may allow to differ
    "learning_rate": "the optimizer's learning rate",
    "tuning": "whether the learning rate was fixed, or chosen: of how many rates and seeds, by what, at which step",
    "optimizer": "its entry and version, and all its settings but learning rate and batch size",
    "schedule": "of the learning rate: entry, version, settings",
    "warmup": "how long the learning rate rises at first",
    "length": "of the whole training, as the recipe names it",
    "steps": "trained, those shared with the dense network up to the rewind point included",
    "own_steps": "trained after the rewind point; a control's are compared with the ticket's",
    "batch_size": "examples in a step",
    "accumulate": "parts that a batch is split into",
    "clip": "largest norm of the gradient",
    "label_smoothing": "of the training loss",
    "precision": "of the arithmetic",
    "augment": "random changes of training images",
    "data": "the data set: entry, version, settings",
    "fingerprint": "the hash of the data themselves",
    "validation": "examples held out",
    "limit": "most examples trained on",
    "model": "entry, version, settings, number of prunable weights",
    "init": "entry, version, settings",
    "evaluation_grid": "the steps at which losses are measured and training may stop",
    "seed": "of initialization, data split and order",
    "seeds": "those with a result: differences are taken within a seed, one that only one side has is lost",
    "lottery": "version",
    "torch": "version",
    "python": "version",
    "platform": "system and kind of processor",
    "device": "processor or GPU",
    "threads": "of a process",
    "deterministic": "whether equal jobs give equal bytes",
    "engine": "what computed the steps, see `train.engine`",
    "other": "whatever else a job's identity says of its training",
}

FIXED = {  # those that no recipe can allow, with the reason
    "identity": "a record that is not what its key says proves nothing",
    "stopping": "accuracy is read at the first lowest validation loss, or at the end, whatever is compared",
    "test_use": "the test set is read at the chosen step and at the end, whatever is compared",
    "weights": "each branch names its own weights already",
    "trunk": "a branch with `trunk: own` names it already",
}
