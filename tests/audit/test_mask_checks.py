"""What identities prove of masks: the counts of the literature, and sentences on what does not fit."""

from __future__ import annotations

import torch

from lottery.audit.mask_checks import inconsistent, misdescribed, not_nested, wrong_counts, wrong_sizes
from lottery.pruning.mask import Mask


def test_a_mask_of_other_counts_is_told_by_layer_or_over_all() -> None:
    shapes = {"a.weight": (4, 5), "b.weight": (10,)}
    dense = Mask.full(shapes)
    half = {"scope": "layer", "fraction": "1/2", "rates": []}
    assert list(wrong_counts({"a.weight": 10, "b.weight": 5}, dense, half)) == []
    (told,) = wrong_counts({"a.weight": 11, "b.weight": 4}, dense, half)
    assert told == "a.weight has 11 weights, its identity keeps 10 (and in 1 more layers)"
    over_all = {**half, "scope": "global"}
    assert list(wrong_counts({"a.weight": 7, "b.weight": 8}, dense, over_all)) == []
    (told,) = wrong_counts({"a.weight": 7, "b.weight": 7}, dense, over_all)
    assert told == "14 weights are kept, its identity keeps 15 of 30"


def test_a_mask_that_revives_a_weight_is_told() -> None:
    above = Mask({"a": torch.tensor([True, True, False])})
    assert list(not_nested(Mask({"a": torch.tensor([True, False, False])}), above)) == []
    (told,) = not_nested(Mask({"a": torch.tensor([False, False, True])}), above)
    assert told == "it keeps weights that the mask above it has pruned, in a"
    (told,) = not_nested(Mask({"b": torch.tensor([True])}), above)
    assert told == "it has other layers than the mask above it"


def test_metrics_and_weights_must_be_those_of_the_mask() -> None:
    mask = Mask({"a": torch.tensor([True, False]), "b": torch.tensor([False, False])})
    true = {"sizes": {"a": 2, "b": 2}, "alive": {"a": 1, "b": 0}, "density": 0.25, "collapsed": ["b"]}
    assert list(misdescribed(true, mask)) == list(inconsistent(true)) == []
    for name, value in (("sizes", {"a": 2}), ("alive", {"a": 2, "b": 0}), ("density", 0.025), ("collapsed", [])):
        assert len(list(misdescribed({**true, name: value}, mask))) == 1
        assert len(list(inconsistent({**true, name: value}))) == 1
    assert list(wrong_sizes({"a": (1,), "b": (0,), "bias": (2,)}, mask)) == []
    assert list(wrong_sizes({"a": (2,), "b": (0,)}, mask)) == ["a has 2 kept weights, 1 are alive in its mask"]
