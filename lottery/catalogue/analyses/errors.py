"""Losses and errors of a network on training and test set, which its three errors are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.analyses._keys import Examples, version
from lottery.registry import analyses
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.landscape.memo import Memo
    from lottery.landscape.subject import Measurement, Subject


@analyses.register(
    "errors",
    source="survey: representation, optimization, generalization; Bottou & Bousquet 2008",
    units={"train_loss": "", "test_loss": "", "train_error": "fraction", "test_error": "fraction"},
    passes=lambda args: Work(1, parts=("train", "test")),
    adds_up=True,
    test=("test_*",),
    version_of=version,
)
def errors(subject: Subject, memo: Memo, *, examples: Examples | None = None) -> Measurement:
    """Loss and error of a state on training and test set; the table tells them apart into three errors.

    `representation` is the best fit found to the training set: an estimate of the lowest training loss that the network
    can have, by the networks of the same seed that this analysis looks at. These are ones with the same mask that were
    trained at least as long (`longest`: the best of them is the longest or as good), and larger ones, whose mask
    contains this one (`wider`), as the dense network is to a ticket. It is no bound: a larger network's fit may be out
    of reach, then it is too low; training may not have ended at the lowest loss, then it is too high. `optimization` is
    the training loss less the best fit, 0 for a network that fits best itself. `generalization` is test loss less
    training loss, with the sampling error of the test set. The three add up to the test loss, or to the test error.
    Losses are those of evaluation: no dropout, no augmentation, no label smoothing.
    """
    from lottery.landscape.evaluate import values_at
    from lottery.landscape.subject import Measurement

    (state,) = subject.states
    surface = subject.surface(state.mask, examples, parts=("train", "test"))
    return Measurement(values_at(surface, memo, "state", lambda: surface.point(state.weights), "none"))
