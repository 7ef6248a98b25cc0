"""`lottery.prune`: one step of the method on a network of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lottery
from lottery import registry
from lottery.errors import UsageError
from lottery.network.layout import state_of
from lottery.plan.jobs import Job
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.runner.stored_level import StoredLevel
from tests.support.micro import micro_text


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 10), nn.ReLU(), nn.Linear(10, 4)
    )


def batches(seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(seed)
    return [(torch.randn(32, 1, 6, 6, generator=draws), torch.arange(32) % 4) for _ in range(5)]


def sorted_by_hand(weights: dict[str, Tensor], keep: int) -> dict[str, Tensor]:
    """The `keep` largest magnitudes over all, by Python's stable sort."""
    every = [(-float(w), i) for i, w in enumerate(torch.cat([w.detach().abs().flatten() for w in weights.values()]))]
    best = {i for _, i in sorted(every)[:keep]}
    flat = torch.tensor([i in best for i in range(len(every))])
    parts = flat.split([w.numel() for w in weights.values()])
    return {name: part.reshape(w.shape) for (name, w), part in zip(weights.items(), parts, strict=True)}


def test_a_share_of_all_weights_goes_those_of_the_smallest_magnitude_and_the_model_stays_as_it_is() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mask = lottery.prune(model, 0.3, "global")
    weights = {f"{i}.weight": model[i].weight for i in (0, 4, 6)}
    total = sum(weight.numel() for weight in weights.values())  # 547
    expected = sorted_by_hand(weights, total - 164)  # 164.1 go
    assert list(mask) == list(weights) and all(torch.equal(mask[name], expected[name]) for name in mask)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_by_layer_each_loses_its_share_and_rates_multiply_it() -> None:
    mask = lottery.prune(network(), 0.25, "layer", rates={"output": 0.5, "0": 0})
    assert mask.alive() == {"0.weight": 27, "4.weight": 360, "6.weight": 35}


def test_a_mask_is_pruned_further_and_never_revives_a_weight() -> None:
    model = network()
    mask: Mask | None = None
    counts = []
    for level in range(4):
        before = mask
        mask = lottery.prune(model, 0.2, "global", mask=mask)
        counts.append(sum(mask.alive().values()))
        assert before is None or mask <= before
        with torch.no_grad():
            for parameter in model.parameters():  # pruned weights may be anything by now
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(level)))
    assert counts == [438, 350, 280, 224]  # 547 less 109.4, 438 less 87.6, 350 less 70, 280 less 56


def test_layers_that_a_mask_does_not_name_stay_out_of_it() -> None:
    model = network()
    mask = lottery.prune(model, 0.5, "global", mask=Mask.dense({"4.weight": model[4].weight}))
    assert mask.alive() == {"4.weight": 240}


def test_a_mask_names_weights_of_modules_of_ones_own_that_no_kind_of_layer_tells() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.tensor([[1.0, -4.0], [3.0, -2.0]]))

    model = Own()
    with pytest.raises(UsageError, match="Own: has no linear, convolutional, recurrent or attention layer"):
        lottery.prune(model, 0.5)
    mask = lottery.prune(model, 0.5, mask=Mask.dense({"kernel": model.kernel}))
    assert mask["kernel"].tolist() == [[False, True], [True, False]]


class Tied(nn.Module):
    """A language model of three words: the output layer has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 4)
        self.output = nn.Linear(4, 3, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        out: Tensor = self.output(self.embedding(words).mean(1))
        return out


def test_a_weight_that_layers_share_is_pruned_once_and_by_any_of_its_names() -> None:
    model = Tied()
    mask = lottery.prune(model, 0.5)
    assert mask.alive() == {"output.weight": 6}
    other = lottery.prune(model, 0.5, mask=Mask.dense({"embedding.weight": model.embedding.weight}))
    assert other == mask
    both = {"embedding.weight": model.embedding.weight, "output.weight": model.output.weight}
    with pytest.raises(UsageError, match=r"output\.weight and embedding\.weight are one weight that layers share"):
        lottery.prune(model, 0.5, mask=Mask.dense(both))
    state = mask.apply(model.state_dict())
    assert torch.equal(state["embedding.weight"], state["output.weight"])
    assert int(state["embedding.weight"].count_nonzero()) == 6
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    with lottery.masked(model, mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.tensor([[0, 1], [2, 2]])).square().sum().backward()
            optimizer.step()
    assert not model.embedding.weight[~mask["output.weight"]].any()


@pytest.mark.parametrize("amount", [0, 1, 1.5, -0.2, True, "0.2", float("nan"), None])
def test_an_amount_that_is_no_share_is_refused(amount: Any) -> None:
    with pytest.raises(UsageError, match=r"amount .*: is the share of the surviving weights that goes, above 0 and"):
        lottery.prune(network(), amount)


def test_an_amount_is_the_decimal_that_was_written() -> None:
    model = nn.Linear(10, 5)
    for amount in (0.3, Fraction(3, 10)):  # 15 of 50; the nearest binary number is a little less
        assert lottery.prune(model, amount).alive() == {"weight": 35}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"scope": "layers"}, "scope 'layers': there are layer, global, erk"),
        ({"criterion": "magnitud"}, "criterion: no criterion 'magnitud'; did you mean 'magnitude'"),
        ({"criterion": {"name": "snip", "example": 3}}, "criterion: example: snip has no key 'example'; did you mean"),
        ({"criterion": 3}, "criterion: write a name, or"),
        ({"rounds": 0}, "rounds 0: is how often"),
        ({"rates": {"fc1": 0.5}}, r"prune.rates: no layer 'fc1'; the model has 0, 4, 6"),
        ({"criterion": "movement"}, "criterion movement: compares with the weights that training started from"),
        ({"criterion": "snip"}, "criterion snip: looks at training examples; hand some over as `data`"),
        ({"criterion": "synflow"}, "criterion synflow: looks at training examples"),
        ({"criterion": "snip", "data": iter(batches())}, "data: is used up by one pass"),
        ({"criterion": "snip", "data": [torch.ones(3)]}, "data: its batches have to be pairs of tensors"),
        ({"criterion": {"name": "snip", "examples": 161}, "data": batches()}, "has 160 examples, .* looks at 161"),
        (
            {"criterion": {"name": "grasp", "per_class": 41}, "data": batches()},
            "has 40 examples of class 0, .* takes 41",
        ),
        ({"criterion": "movement", "initial": {"0.weight": torch.ones(2)}}, "initial: has no 0.weight of shape"),
        (
            {"mask": Mask({"0.weight": torch.ones(2, dtype=torch.bool)})},
            "the mask has 0.weight of shape .2,., the model",
        ),
        ({"mask": Mask({"fc.weight": torch.ones(2, dtype=torch.bool)})}, "the mask has fc.weight of shape"),
    ],
)
def test_what_is_wrong_with_a_call_is_said_in_one_line(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        lottery.prune(network(), 0.2, **arguments)
    assert "\n" not in str(caught.value)


def test_sums_over_paths_are_refused_where_a_network_multiplies_what_it_computes() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.a(x) * self.b(x)
            return out

    with pytest.raises(UsageError, match="synflow scores sums over paths of weights, and Gated multiplies"):
        lottery.prune(Gated(), 0.2, criterion="synflow", data=(torch.ones(2, 6), torch.zeros(2)))


NEEDS: dict[str, Any] = {"initial": network(5), "data": batches()}


@pytest.mark.parametrize("name", sorted(entry.name for entry in registry.criteria if not entry.code))
def test_each_criterion_prunes_the_exact_count_the_same_each_time_and_touches_no_global_generator(name: str) -> None:
    model = network()
    model.requires_grad_(False)  # whatever a user has frozen
    torch.manual_seed(9)
    before = torch.get_rng_state()
    rounds = min(3, registry.criteria[name].traits.rounds)  # of synflow's 100
    masks = [lottery.prune(model, 0.4, criterion=name, rounds=rounds, **NEEDS) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    scope = registry.criteria[name].traits.scope
    assert sum(masks[0].alive().values()) == (547 - 219 if scope == "global" else 547 - 11 - 192 - 16)
    assert masks[0] == masks[1]
    assert not any(parameter.requires_grad for parameter in model.parameters()) and model.training


def test_random_scores_are_those_of_the_seed() -> None:
    masks = [lottery.prune(network(), 0.5, criterion="random", seed=seed) for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]


def test_initial_weights_may_be_a_copied_state_also_of_a_wrapped_network() -> None:
    start, model = network(5), network()
    score = {name: (model.state_dict()[name] - w).abs() for name, w in start.state_dict().items() if w.dim() > 1}
    mask = lottery.prune(model, 0.5, "global", "movement", initial=nn.DataParallel(start))
    kept = torch.cat([score[name][mask[name]] for name in mask])
    gone = torch.cat([score[name][~mask[name]] for name in mask])
    assert len(gone) == 273 and kept.min() >= gone.max()
    state = {f"module.{name}": value for name, value in start.state_dict().items()}
    assert lottery.prune(model, 0.5, "global", "movement", initial=state) == mask


def test_the_loss_that_is_given_is_the_one_whose_gradient_counts() -> None:
    model = nn.Linear(3, 2, bias=False)
    x = torch.tensor([[1.0, 2.0, 4.0]])
    loss: Callable[[Tensor, Tensor], Tensor] = lambda outputs, targets: outputs[:, 0].sum()  # noqa: E731
    mask = lottery.prune(model, 0.5, "global", {"name": "snip", "examples": 1}, data=(x, torch.tensor([0])), loss=loss)
    assert mask["weight"][0].all() and not mask["weight"][1].any()  # the second output has no gradient


def test_targets_that_are_fractions_are_approximated() -> None:
    model = nn.Linear(3, 1)
    data = (torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(200, 1))
    mask = lottery.prune(model, Fraction(1, 3), criterion="gradient_weight", data=data)
    assert mask.alive() == {"weight": 2}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunContext]:
    folder = tmp_path_factory.mktemp("studies")

    def run(prune: str) -> RunContext:
        text = micro_text("data={name: digits, validation: 100, limit: 300}", "train.length=6it", f"prune={prune}")
        request = Request(parse_recipe(text, "r.yaml"), folder, folder / "store", device="cpu", deterministic=True)
        context = prepare(request)
        assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
        return context

    return run


def levels(context: RunContext) -> Iterator[tuple[Job, Job]]:
    """Each ticket of the first seed after the job above it."""
    last = next(job for job in context.plan if job.kind == "ticket" and job.level == 2)
    trunk = context.plan.trunk(last)
    yield from pairwise(trunk)


PRUNINGS = [
    ("{fraction: 0.3, levels: 2, scope: layer, rates: {output: 0.5}}", {"scope": "layer", "rates": {"output": 0.5}}),
    ("{fraction: 0.3, levels: 2, scope: global}", {"scope": "global"}),
    ("{fraction: 0.3, levels: 2, scope: erk}", {"scope": "erk"}),
    ("{fraction: 0.3, levels: 2, criterion: movement}", {"criterion": "movement"}),
    ("{fraction: 0.3, levels: 2, criterion: {name: gradient_weight}}", {"criterion": "gradient_weight"}),
]


@pytest.mark.parametrize(("recipe", "arguments"), PRUNINGS, ids=lambda value: str(value)[:60])
def test_the_mask_is_the_one_that_a_study_finds_from_the_same_weights(
    recipe: str, arguments: dict[str, Any], study: Callable[[str], RunContext]
) -> None:
    context = study(recipe)
    from lottery.network.layout import load

    for above, ticket in levels(context):
        level = StoredLevel(context, above)
        model, initial = context.networks.blank(), context.networks.blank()
        load(model, level.trained)
        load(initial, StoredLevel(context, ticket).rewound.weights)
        data = list(context.data(ticket.seed).evaluation("train"))
        mask = lottery.prune(model, 0.3, mask=level.mask, initial=initial, data=data, **arguments)
        assert mask == starting_point(context, ticket).mask


def test_a_weight_normalization_is_pruned_by_what_the_layer_computes_with() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 2, bias=False))
    nn.utils.parametrizations.weight_norm(model[0])
    with torch.no_grad():
        parametrized = model[0].parametrizations.weight
        parametrized.original0.copy_(torch.tensor([[10.0], [1.0]]))  # rows of norms 10 and 1
        parametrized.original1.copy_(torch.tensor([[3.0, 4.0], [30.0, 40.0]]))
    mask = lottery.prune(model, 0.5, "global")
    assert [bits.tolist() for bits in mask.values()] == [[[True, True], [False, False]]]
    assert state_of(model)[next(iter(mask))].tolist() == [[3.0, 4.0], [30.0, 40.0]]
