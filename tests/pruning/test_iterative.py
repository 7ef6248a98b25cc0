"""The method: how much is pruned, of which layers, and where the next level starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
import torch

from lottery import registry
from lottery.errors import UsageError
from lottery.pruning.amounts import Pruning, layer_rate
from lottery.pruning.iterative import next_start, zero_pruned
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Context, Criterion, Weights
from lottery.pruning.start import Spec, Start
from lottery.values import Component

LENET: dict[str, tuple[int, ...]] = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "output.weight": (10, 100)}
SPEC = Spec(Component("adam"), Component("constant"))


@dataclass
class FakeLevel:
    """A level whose weights are random draws."""

    number: int
    mask: Mask
    trained: Weights
    rewound: Start
    pruning: Pruning
    dense: Weights = field(default_factory=dict)
    mode: str = "weights"
    rounds: int = 1

    @property
    def start(self) -> Start:
        return Start(self.rewound.weights, self.mask, self.rewound.spec, self.rewound.optimizer_state)

    def criterion(self, generator: torch.Generator) -> Criterion:
        return magnitude

    def fresh(self, generator: torch.Generator) -> Weights:
        return {name: torch.randn(w.shape, generator=generator) for name, w in self.trained.items()}


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}


def level_of(shapes: dict[str, tuple[int, ...]], pruning: Pruning, mask: Mask | None = None) -> Any:
    trained, initial = draw(shapes, 1), draw(shapes, 0)
    mask = mask or Mask.dense(trained)
    rewound = Start(initial, Mask.dense(initial), SPEC, {"state": "of the optimizer"})
    return FakeLevel(1, mask, mask.apply(trained), rewound, pruning, dense=trained)


def magnitude(weights: Weights, mask: Mask) -> dict[str, torch.Tensor]:
    return {name: weights[name].abs() for name in mask}


def test_lenet_has_the_densities_of_frankle_and_carbin_to_the_weight() -> None:
    """Layers lose 20 % of what survives (the output layer 10 %), rounded half down, in exact arithmetic."""
    pruning = Pruning("layer", Fraction("0.2"), {"output": Fraction("0.5")})
    level = level_of(LENET, pruning)
    expected = {name: a * b for name, (a, b) in LENET.items()}
    percent = {}
    for number in range(1, 21):
        start = next_start(level, pruning, magnitude, "weights")
        assert start.mask <= level.mask
        for name, count in expected.items():
            tenths = 1 if name.startswith("output") else 2
            pruned, rest = divmod(count * tenths, 10)
            expected[name] = count - pruned - (rest > 5)
        assert start.mask.alive() == expected
        percent[number] = round(100 * start.mask.density, 2)
        level = level_of(LENET, pruning, start.mask)
    assert {n: percent[n] for n in (3, 7, 12, 15, 20)} == {3: 51.28, 7: 21.07, 12: 6.95, 15: 3.58, 20: 1.19}


def test_global_pruning_counts_over_the_layers_that_take_part() -> None:
    pruning = Pruning("global", Fraction("0.2"), {"output": Fraction(0)})
    level = level_of(LENET, pruning)
    mask = next_start(level, pruning, magnitude, "weights").mask
    assert mask.alive()["output.weight"] == 1000
    assert sum(mask.alive().values()) == 1000 + 265_200 - 53_040
    trained = torch.cat([level.trained[n].flatten() for n in ("fc1.weight", "fc2.weight")]).abs()
    threshold = trained.sort().values[53_040]
    assert all(bool((level.trained[n].abs()[mask[n]] >= threshold).all()) for n in ("fc1.weight", "fc2.weight"))


def test_weight_rewinding_puts_back_weights_schedule_and_optimizer_under_the_new_mask() -> None:
    pruning = Pruning("layer", Fraction("0.5"), {})
    level = level_of({"a.weight": (4, 4)}, pruning)
    start = next_start(level, pruning, magnitude, "weights")
    assert torch.equal(start.weights["a.weight"], level.rewound.weights["a.weight"])
    assert (start.spec, start.optimizer_state) == (level.rewound.spec, level.rewound.optimizer_state)
    assert start.mask.alive() == {"a.weight": 8}


@pytest.mark.parametrize(("mode", "last_rate"), [("lr", False), ("finetune", True)])
def test_without_weight_rewinding_the_trained_weights_go_on_with_a_fresh_optimizer(mode: str, last_rate: bool) -> None:
    pruning = Pruning("layer", Fraction("0.5"), {})
    level = level_of({"a.weight": (4, 4)}, pruning)
    start = next_start(level, pruning, magnitude, mode)
    assert torch.equal(start.weights["a.weight"], level.trained["a.weight"])
    assert start.optimizer_state is None
    assert start.spec.last_rate is last_rate


def test_only_a_layer_with_pruned_weights_that_are_not_zero_is_copied_to_make_them_zero() -> None:
    mask = Mask({name: torch.tensor([True, False]) for name in ("a.weight", "b.weight")})
    state = {"a.weight": torch.tensor([3.0, 0.0]), "b.weight": torch.tensor([3.0, 1.0]), "b.bias": torch.tensor([2.0])}
    masked = zero_pruned(state, mask)
    assert {name: value.tolist() for name, value in masked.items()} == {
        "a.weight": [3.0, 0.0],
        "b.weight": [3.0, 0.0],
        "b.bias": [2.0],
    }
    assert [name for name in state if masked[name] is state[name]] == ["a.weight", "b.bias"]


def test_a_layers_own_name_goes_before_output_and_output_before_patterns() -> None:
    names = ["conv1.weight", "conv2.weight", "fc.weight"]
    rates = {"conv*": Fraction("0.5"), "conv2": Fraction(2), "output": Fraction(3), "f*": Fraction(4)}
    assert [layer_rate(name, names, rates) for name in names] == [Fraction("0.5"), 2, 3]
    assert layer_rate("conv1.weight", names, {}) == 1


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"fc9": Fraction(1)}, "no layer 'fc9'; the model has fc1, fc2, output"),
        ({"fc1": Fraction(5)}, "leaves nothing"),
    ],
)
def test_a_rate_that_fits_no_layer_or_prunes_a_whole_one_is_refused(rates: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Pruning("layer", Fraction("0.2"), rates).check(Mask.dense(draw(LENET, 0)))


def branch(name: str, level: FakeLevel, seed: int = 7, **args: Any) -> Start:
    start = registry.branches[name].make(level, torch.Generator().manual_seed(seed), **args)
    assert isinstance(start, Start)
    return start


@pytest.fixture
def ticket() -> FakeLevel:
    pruning = Pruning("layer", Fraction("0.7"), {"output": Fraction("0.5")})
    level = level_of(LENET, pruning)
    return level_of(LENET, pruning, next_start(level, pruning, magnitude, "weights").mask)


def test_reinit_keeps_the_mask_and_draws_other_weights_from_step_0(ticket: FakeLevel) -> None:
    start = branch("reinit", ticket)
    assert start.mask == ticket.mask
    assert not torch.equal(start.weights["fc1.weight"], ticket.rewound.weights["fc1.weight"])
    assert (start.spec.first, start.optimizer_state) == (0, None)
    assert torch.equal(branch("reinit", ticket).weights["fc1.weight"], start.weights["fc1.weight"])
    assert not torch.equal(branch("reinit", ticket, seed=8).weights["fc1.weight"], start.weights["fc1.weight"])


def test_shuffle_keeps_weights_and_layer_densities_and_moves_the_mask(ticket: FakeLevel) -> None:
    start = branch("shuffle", ticket)
    assert start.mask.alive() == ticket.mask.alive()
    assert start.mask != ticket.mask
    assert torch.equal(start.weights["fc1.weight"], ticket.rewound.weights["fc1.weight"])


def test_a_global_shuffle_keeps_only_the_total(ticket: FakeLevel) -> None:
    start = branch("shuffle", ticket, scope="global")
    assert sum(start.mask.alive().values()) == sum(ticket.mask.alive().values())
    assert start.mask.alive() != ticket.mask.alive()


def test_a_random_mask_has_the_tickets_layer_densities_and_is_uniform(ticket: FakeLevel) -> None:
    start = branch("random", ticket)
    assert start.mask.alive() == ticket.mask.alive()
    kept, size = ticket.mask.alive()["fc1.weight"], ticket.mask.sizes()["fc1.weight"]
    overlap = int((start.mask["fc1.weight"] & ticket.mask["fc1.weight"]).sum())
    chance, spread = kept * kept / size, (kept * kept / size * (1 - kept / size) ** 2) ** 0.5
    assert abs(overlap - chance) < 5 * spread  # hypergeometric
    assert torch.equal(
        branch("random", ticket, weights="rewound").weights["fc1.weight"], ticket.rewound.weights["fc1.weight"]
    )


def test_one_shot_keeps_the_largest_weights_of_the_dense_network(ticket: FakeLevel) -> None:
    start = branch("one_shot", ticket)
    assert start.mask.alive() == ticket.mask.alive()
    for name, count in ticket.mask.alive().items():
        best = ticket.dense[name].abs().flatten().topk(count).indices
        assert set(start.mask[name].flatten().nonzero().flatten().tolist()) == set(best.tolist())


def test_retraining_with_another_optimizer_starts_at_the_ticket_with_fresh_state(ticket: FakeLevel) -> None:
    start = branch("retrain", ticket, optimizer=Component("sgd", {"lr": 0.1}))
    assert start.mask == ticket.mask
    assert torch.equal(start.weights["fc1.weight"], ticket.rewound.weights["fc1.weight"])
    assert start.spec.optimizer == Component("sgd", {"lr": 0.1})
    assert start.optimizer_state is None


def test_the_random_criterion_draws_from_its_stream_only() -> None:
    weights = draw({"a.weight": (5, 5)}, 0)
    make = registry.criteria["random"].make
    before = torch.get_rng_state()
    first, second = (make(weights, Context(torch.Generator().manual_seed(3))) for _ in range(2))
    assert torch.equal(first["a.weight"], second["a.weight"])
    assert torch.equal(torch.get_rng_state(), before)
