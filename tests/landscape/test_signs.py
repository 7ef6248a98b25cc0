"""The share of signs that two networks have in common, against counts by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery import registry
from lottery.errors import UsageError
from lottery.landscape.memo import Memo
from lottery.landscape.subject import Measurement, State
from lottery.plan.kinds import MEASUREMENT_FILE
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask, read_trained
from tests.support.landscapes import classes, drawn, random_mask, state, subject
from tests.support.micro import finished, micro, prepared

make = partial(registry.models["mlp"].make, (5,), 3, widths=(6, 6), norm="batch")


def signs(*states: State) -> Measurement:
    found: Measurement = registry.analyses["signs"].make(subject(make, states, classes((5,))), Memo())
    return found


def test_signs_are_counted_over_the_weights_that_survive_in_both_layer_by_layer() -> None:
    one, other = drawn(0, make), drawn(1, make)
    masks = [random_mask(one, seed) for seed in (2, 3)]
    with torch.no_grad():
        other.get_submodule("fc1").weight[0, 0] = 0  # type: ignore[operator]
        masks[0]["fc1.weight"][0, 0] = masks[1]["fc1.weight"][0, 0] = True
    found = signs(state(one, "ticket", masks[0]), state(other, "reinit", masks[1]))
    kept = weights = 0
    for row, name in zip(found.profile, ("fc1", "fc2", "output"), strict=True):
        pairs = [
            (a, b)
            for a, b, here, there in zip(
                one.get_parameter(f"{name}.weight").flatten().tolist(),
                other.get_parameter(f"{name}.weight").flatten().tolist(),
                masks[0][f"{name}.weight"].flatten().tolist(),
                masks[1][f"{name}.weight"].flatten().tolist(),
                strict=True,
            )
            if here and there
        ]
        same = sum(a > 0 < b or a < 0 > b for a, b in pairs)
        assert row == {"layer": name, "weights": len(pairs), "kept": same}
        kept, weights = kept + same, weights + len(pairs)
    assert found.values == {"signs_kept": kept / weights}


def test_scaled_weights_keep_all_signs_and_negated_ones_none() -> None:
    model, scaled, negated = (drawn(0, make) for _ in range(3))
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.mul_(1e-30)  # the product of two of these is no number of single precision
        for parameter in negated.parameters():
            parameter.neg_()
    assert signs(state(model), state(scaled, "other")).values == {"signs_kept": 1.0}
    assert signs(state(model), state(negated, "other")).values == {"signs_kept": 0.0}


def test_one_state_twice_is_refused_and_two_without_common_weights_have_no_share() -> None:
    model, other = drawn(0, make), drawn(1, make)
    with pytest.raises(UsageError, match="have the same weights"):
        signs(state(model), state(model, "again"))
    mask = random_mask(model, 2)
    rest = Mask({name: ~bits for name, bits in mask.items()})
    value = signs(state(model, "ticket", mask), state(other, "reinit", rest)).values["signs_kept"]
    assert value != value


def test_dense_network_and_ticket_are_compared_where_the_ticket_has_weights(tmp_path: Path) -> None:
    asked = "analyses=[{name: signs, between: dense-ticket}]"
    context = finished(prepared(micro("prune.levels=1", asked), tmp_path))
    store = context.store
    job = next(j for j in context.plan if j.kind == "analysis")
    dense, ticket = (
        next(j.key for j in context.plan if (j.kind.value, j.level, j.seed) == (kind, level, job.seed))
        for kind, level in (("dense", 0), ("ticket", 1))
    )
    mask = read_mask(store, ticket)
    one, other = read_trained(store, dense, None, "end"), read_trained(store, ticket, mask, "end")
    same = sum(int(((one[n] > 0) == (other[n] > 0))[bits].sum()) for n, bits in mask.items())
    measured: Any = store.read_json(job.key, MEASUREMENT_FILE)
    assert measured["values"]["signs_kept"] == pytest.approx(same / sum(mask.alive().values()), abs=1e-12)
