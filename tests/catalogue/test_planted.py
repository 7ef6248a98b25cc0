"""Planted tickets: the teacher, its data, its place in the initialization, and what training its mask gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.data.teacher import make_teacher
from lottery.errors import UsageError
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask
from lottery.results.record import records
from lottery.values import Component
from tests.support.levels import FakeLevel, branch
from tests.support.micro import finished, micro, prepared, problems
from tests.support.verified import wrong

TEACHER = {"inputs": 10, "widths": (6, 5), "outputs": 4, "fan_in": 2, "seed": 3}
MLP = Component("mlp", {"widths": (40, 30)})


@pytest.mark.parametrize(
    ("inputs", "widths", "outputs", "fan_in"), [(20, (8, 8), 4, 3), (3, (9,), 5, 2), (7, (7, 7), 7, 1)]
)
def test_each_unit_of_a_teacher_has_its_connections_and_is_read_and_can_be_above_0(
    inputs: int, widths: tuple[int, ...], outputs: int, fan_in: int
) -> None:
    for seed in range(20):
        teacher = make_teacher(inputs, widths, outputs, fan_in, seed)
        assert [tuple(w.shape) for w in teacher.weights] == list(
            zip((*widths, outputs), (inputs, *widths), strict=True)
        )
        assert all((connected.sum(1) == fan_in).all() for connected in teacher.connections)
        assert all(connected.any(0).all() for connected in teacher.connections[1:])
        assert all((weight > 0).any(1).all() for weight in teacher.weights[1:-1])


def by_matrices(weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
    x = x.double() @ weights[0].T
    for weight in weights[1:]:
        x = x.relu() @ weight.T
    return x


def test_targets_are_the_teachers_outputs_and_another_seed_is_another_teacher() -> None:
    splits = load(Component("planted", TEACHER), Path("nowhere"))
    assert isinstance(splits.train_x, Tensor) and isinstance(splits.test_x, Tensor)
    assert splits.regression and splits.classes == 4 and (len(splits.train_x), len(splits.test_x)) == (4000, 1000)
    weights = make_teacher(10, (6, 5), 4, 2, 3).weights
    for x, y in ((splits.train_x, splits.train_y), (splits.test_x, splits.test_y)):
        torch.testing.assert_close(y, by_matrices(weights, x).float(), rtol=1e-5, atol=1e-6)
    assert (splits.train_y.std(0) > 0.1).all()
    assert fingerprint(splits) != fingerprint(load(Component("planted", TEACHER | {"seed": 4}), Path("nowhere")))


def test_the_network_under_the_planted_mask_computes_the_targets_times_one_factor() -> None:
    level = FakeLevel(model=MLP, init=Component("planted", TEACHER))
    start, splits = branch("planted", level), load(Component("planted", TEACHER), Path("nowhere"))
    assert isinstance(splits.test_x, Tensor)
    assert sum(start.mask.alive().values()) == 2 * (6 + 5 + 4) and start.spec.first == 0
    network = build_model(MLP, (10,), 4, init=Component("torch"), seed=0)
    network.load_state_dict(dict(level.initial.weights))
    with torch.no_grad():
        for name, weight in prunable(network).items():
            weight.mul_(start.mask[name])
        for name, bias in network.named_parameters():
            if name.endswith("bias"):
                bias.zero_()
        found = network(splits.test_x)
    factor = (found * splits.test_y).sum() / splits.test_y.square().sum()
    assert factor > 0
    torch.testing.assert_close(found, factor * splits.test_y, rtol=1e-4, atol=1e-5 * float(found.abs().max()))


def test_planted_weights_have_the_mean_square_of_the_weights_around_them() -> None:
    connected = make_teacher(10, (6, 5), 4, 2, 3).connections
    for seed in range(5):
        network = build_model(MLP, (10,), 4, init=Component("planted", TEACHER), seed=seed)
        for weight, bits in zip(prunable(network).values(), connected, strict=True):
            corner = torch.zeros_like(weight, dtype=torch.bool)
            corner[: len(bits), : bits.shape[1]] = bits
            inside, outside = (weight[each].square().mean().sqrt().item() for each in (corner, ~corner))
            assert inside == pytest.approx(
                outside, rel=0.25
            )  # the weights that are replaced are not in the others' mean


STUDY = (
    "data={name: planted, inputs: 6, widths: [4], outputs: 2, fan_in: 2, samples: 1000}",
    "model={name: mlp, widths: [16]}",
    "init={name: planted, inputs: 6, widths: [4], outputs: 2, fan_in: 2}",
    "train.optimizer={name: adam, lr: 3e-2}",
    "train.length=120it",
    "train.evaluate_every=120it",
    "prune.levels=1",
    "branches=[planted]",
    "report=end",
)


def test_a_study_trains_the_planted_ticket_to_the_targets_and_holds_against_its_records(tmp_path: Path) -> None:
    context = finished(prepared(micro(*STUDY), tmp_path))
    found = records(context.plan, context.store)
    job = next(job for job in context.plan if job.branch is not None and job.branch.name == "planted")
    score = found[job.key].score("end")
    assert score is not None and score > 0.99
    assert found[job.key].metrics["density"] == 12 / (6 * 16 + 16 * 2)
    assert wrong(context) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            ["init={name: planted, inputs: 6, widths: [4], outputs: 2}"],
            "init: plants the teacher of the data set planted",
        ),
        (["data=digits", "branches=[]"], "init: plants the teacher of the data set planted"),
        (["model.norm=batch"], "model: has more than rectifiers"),
        (["model={name: plain}"], "model: has more than rectifiers"),
        (["model.widths=[3]"], "model: has no room for the teacher"),
        (["model.widths=[16, 16]"], "model: has no room for the teacher"),
        (["init=kaiming_normal"], "branches.0: planted is the ticket that the init planted has planted"),
        (["branches=[small_dense]"], "branches.0: small_dense has narrower layers"),
    ],
)
def test_what_does_not_go_with_planted_tickets_is_refused_at_its_line(changes: list[str], told: str) -> None:
    assert any(told in line for line in problems(*STUDY, *changes))


def test_a_network_that_is_not_the_teachers_kind_is_refused_by_the_init_itself() -> None:
    for model in ({"widths": (40,)}, {"widths": (40, 4)}):
        with pytest.raises(UsageError, match="init planted: the teacher has 10 inputs and layers of"):
            build_model(Component("mlp", model), (10,), 4, init=Component("planted", TEACHER), seed=0)


def test_a_teacher_whose_units_would_not_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.widths: 1 units of 3 connections do not read all 8"):
        load(Component("planted", {"widths": (8, 1, 8)}), Path("nowhere"))
    with pytest.raises(UsageError, match=r"data\.fan_in: 30 connections into a unit"):
        load(Component("planted", {"fan_in": 30}), Path("nowhere"))
    assert isinstance(branch("planted", FakeLevel(model=MLP, init=Component("planted", TEACHER))).mask, Mask)
