"""Trackers are told of a run: from its events to runs of TensorBoard, MLflow or Weights & Biases.

`choose` makes the trackers that `--track` names, `Feed` passes on the events of a run, `Sink` calls one tracker in a
thread of its own, and `Teller` makes measures by step of what happened, with the store's own for what was missed.
Nothing here is part of a recipe or of a key: where numbers are shown changes none of them.
"""
