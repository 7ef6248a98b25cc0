"""What becomes of weights from level to level: hand-counted masks, enumerated chance and paths, stored tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import numpy as safetensors
from scipy.stats import hypergeom, ttest_1samp
from torch import Tensor

from lottery.analysis.rows import Row
from lottery.analysis.views import rows_of
from lottery.files.tensors import encode
from lottery.formats.text import text
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.results.artifacts import pack
from lottery.results.record import Record, records
from lottery.results.study import Study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from tests.support.micro import micro_text
from tests.support.studies import everything, hand, made

SHAPES = {"fc1.weight": (2, 3), "output.weight": (4,)}
Kept = Mapping[str, Iterable[int]]  # of each layer the places of the flattened weight
ABSENT = "data={name: mnist, validation: 100}"  # not in the data folder: what needs the network is not known
HALF = {"fc1.weight": (0, 1, 2), "output.weight": (0, 1)}


def mask_of(kept: Kept, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> Mask:
    bits = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes.items()}
    for name, places in kept.items():
        bits[name].view(-1)[list(places)] = True
    return Mask(bits)


class Given(Store):
    """A store with the masks that a test gives by job, and weights at the rewind point (`start`) and at the end."""

    def __init__(self, masks: Mapping[str, Mask], start: Mapping[str, Tensor], end: Mapping[str, Tensor]):
        super().__init__(Path("no-store"))
        self.masks, self.start, self.end = masks, start, end

    def read(self, key: str, name: str) -> bytes:
        if name == "state.safetensors":
            return encode({f"model/{layer}": weight for layer, weight in self.start.items()})
        if name == "state.json":
            return b"{}"
        if name == "weights.safetensors":
            return encode(pack(self.end, self.masks[key]) if key in self.masks else self.end)
        assert name == "mask.safetensors"
        return encode(*self.masks[key].pack())


def with_masks(
    planned: Plan,
    found: Mapping[str, Record],
    masks: Mapping[tuple[int, int, int], Mask],
    folder: Path,
    end: Mapping[str, Tensor] | None = None,
) -> Study:
    """A study whose finished tickets have these masks, by optimizer's place, seed and level; all weights start at 1."""
    by_key = {
        j.key: masks[j.optimizer_index, j.seed, j.level] for j in planned if j.kind == "ticket" and j.key in found
    }
    (first, *_) = masks.values()
    start = {name: torch.ones(bits.shape) for name, bits in first.items()}
    for record in found.values():
        record.metrics["sizes"] = first.sizes()
    return Study(planned, found, Given(by_key, start, end or start), folder)


def rows(study: Study, view: str, **where: Any) -> list[Row]:
    return [row for row in rows_of(study, view) if all(row[name] == value for name, value in where.items())]


# overlaps


def overlaps_of(tmp_path: Path, *masks: Mask) -> dict[str, Row]:
    """By layer, the overlaps of these masks of as many seeds."""
    planned = hand(f"seeds={len(masks)}")
    given = {(0, seed, 1): mask for seed, mask in enumerate(masks)}
    found = with_masks(planned, everything(planned), given, tmp_path)
    return {row["layer"]: row for row in rows(found, "overlaps")}


def test_the_overlap_of_seeds_is_counted_weight_by_weight(tmp_path: Path) -> None:
    masks = [
        mask_of({"fc1.weight": (0, 1, 2), "output.weight": (0, 1)}),
        mask_of({"fc1.weight": (0, 1, 3), "output.weight": (0, 1)}),
        mask_of({"fc1.weight": (3, 4, 5), "output.weight": (2, 3)}),
    ]
    found = overlaps_of(tmp_path, *masks)
    assert list(found) == ["fc1", "output", "all"]
    assert {(row["between"], row["other"], row["pairs"]) for row in found.values()} == {("seeds", None, 3)}
    fc1, output, both = found.values()  # in common: 2, 0, 1 of 3; 2, 0, 0 of 2; 4, 0, 1 of 5
    assert fc1["overlap"] == pytest.approx((2 + 0 + 1) / 3 / 3) and fc1["overlap_chance"] == pytest.approx(1 / 2)
    assert output["overlap"] == pytest.approx(2 / 2 / 3) and output["overlap_chance"] == pytest.approx(1 / 2)
    assert both["overlap"] == pytest.approx((4 + 0 + 1) / 5 / 3) and both["overlap_chance"] == pytest.approx(1 / 2)
    assert fc1["jaccard"] == pytest.approx((2 / 4 + 0 + 1 / 5) / 3) and fc1["jaccard_chance"] == pytest.approx(1 / 3)
    assert (fc1["density"], output["density"], both["density"]) == (0.5, 0.5, 0.5)
    for row, excess in ((fc1, (0.5 / 3, -1.5 / 3, -0.5 / 3)), (both, (1.5 / 5, -2.5 / 5, -1.5 / 5))):
        mean = sum(excess) / 3  # of pairs 01, 02, 12, so that the one without seed 0 is the last
        pseudo = [3 * mean - 2 * left for left in reversed(excess)]
        expected = ttest_1samp(pseudo, 0)
        assert (row["n"], row["t"]) == (3, pytest.approx(expected.statistic))
        assert row["p"] == pytest.approx(expected.pvalue)
        assert row["overlap"] - row["overlap_chance"] == pytest.approx(mean)


def test_overlaps_of_masks_of_unequal_size_are_taken_of_the_mean_size(tmp_path: Path) -> None:
    found = overlaps_of(
        tmp_path, mask_of({"fc1.weight": (0, 1)}), mask_of({"fc1.weight": (1, 2, 3, 4), "output.weight": (0,)})
    )
    assert found["fc1"]["overlap"] == pytest.approx(1 / 3) and found["fc1"]["jaccard"] == pytest.approx(1 / 5)
    assert found["fc1"]["overlap_chance"] == pytest.approx(hypergeom(6, 2, 4).mean() / 3)
    assert found["output"]["overlap"] == 0 and found["output"]["overlap_chance"] == 0
    assert found["all"]["density"] == pytest.approx((2 + 5) / 2 / 10)
    assert all((row["n"], row["t"], row["p"]) == (2, None, None) for row in found.values())  # one pair has no spread


def test_layers_that_both_masks_lack_or_have_whole_leave_nothing_to_chance(tmp_path: Path) -> None:
    found = overlaps_of(tmp_path, *[mask_of({"fc1.weight": range(6)})] * 3)
    assert (found["fc1"]["overlap"], found["fc1"]["overlap_chance"], found["fc1"]["t"]) == (1, 1, None)
    empty = found["output"]
    assert (empty["overlap"], empty["overlap_chance"], empty["jaccard"], empty["t"]) == (None, None, None, None)


def test_chance_is_the_mean_over_all_masks_with_the_same_densities_of_layers(tmp_path: Path) -> None:
    shapes = {"fc1.weight": (5,), "output.weight": (3,)}
    counts = [{"fc1.weight": 2, "output.weight": 1}, {"fc1.weight": 3, "output.weight": 2}]
    every = [list(product(*(combinations(range(shapes[n][0]), k) for n, k in own.items()))) for own in counts]
    shared = [
        [len({*x} & {*y}) for x, y in zip(one, other, strict=True)] for one in every[0] for other in every[1]
    ]  # by layer
    first, second = (mask_of({n: range(k) for n, k in own.items()}, shapes) for own in counts)
    found = overlaps_of(tmp_path, first, second)
    for layer, (own, size) in zip(("fc1", "output"), ((0, 2.5), (1, 1.5)), strict=True):
        assert found[layer]["overlap_chance"] * size == pytest.approx(np.mean([each[own] for each in shared]))
    assert found["all"]["overlap_chance"] * 4 == pytest.approx(np.mean([sum(each) for each in shared]))


def test_p_errs_at_no_more_than_its_rate_where_whole_units_are_pruned(tmp_path: Path) -> None:
    """Masks of five seeds whose rows and columns differ in density and can be numbered in any way; each layer is an
    experiment. The hypergeometric variance, that of weights one by one, is too small for them."""
    draws, width, experiments = np.random.default_rng(20261123), 24, 500
    kept = width * width // 8
    bits: list[dict[str, Tensor]] = [{} for _ in range(5)]
    for seed, number in product(range(5), range(experiments)):
        scores = draws.normal(size=(width, width)) + draws.normal(size=(2, width, 1)).sum(0)
        scores += draws.normal(size=(1, width))
        places = np.argpartition(scores.ravel(), -kept)[-kept:]
        bits[seed][f"fc{number}.weight"] = mask_of({"a": places}, {"a": (width, width)})["a"]
    found = overlaps_of(tmp_path, *map(Mask, bits))
    del found["all"]
    wrong = np.mean([row["p"] < 0.05 for row in found.values()])
    assert wrong < 0.05  # pairs are uncorrelated here, and the jackknife allows for pairs that are not
    alone = hypergeom(width**2, kept, kept).std() / kept / np.sqrt(10)
    naive = np.mean([abs(row["overlap"] - row["overlap_chance"]) > 1.96 * alone for row in found.values()])
    assert naive > 0.15


def test_optimizers_are_compared_within_a_seed(tmp_path: Path) -> None:
    planned = hand("train.optimizer=[adam, {name: sgd, lr: 0.1}]")
    sgd = [{"fc1.weight": (0, 1, 5)}, {"fc1.weight": (0, 4, 5)}]
    masks = {(0, seed, 1): mask_of(HALF) for seed in (0, 1)}
    masks |= {(1, seed, 1): mask_of(kept) for seed, kept in enumerate(sgd)}
    found = with_masks(planned, everything(planned), masks, tmp_path)
    table = rows(found, "overlaps", layer="fc1")
    assert [(row["optimizer"], row["between"], row["other"], row["pairs"]) for row in table] == [
        ("adam", "seeds", None, 1),
        ("sgd", "seeds", None, 1),
        ("adam", "optimizers", "sgd", 2),
    ]
    assert [row["overlap"] for row in table] == pytest.approx([1, 2 / 3, (2 / 3 + 1 / 3) / 2])
    test = ttest_1samp([2 / 3 - 1 / 2, 1 / 3 - 1 / 2], 0)  # chance gives half of three weights of six
    assert (table[2]["t"], table[2]["p"]) == pytest.approx(tuple(test)) and table[2]["n"] == 2


# which trainings enter


def test_missing_and_diverged_tickets_and_controls_are_left_out(tmp_path: Path) -> None:
    planned = hand("prune.levels=2", "seeds=3", "branches=[small_dense, one_shot]", ABSENT)
    found = everything(planned) | made(planned, ({"kind": "ticket", "seed": 2, "level": 1}, {"diverged": 7}))
    lost = [j.key for j in planned if j.kind == "ticket" and j.level == 2 and j.seed in (1, 2)]
    found = {key: record for key, record in found.items() if key not in lost}
    masks = {(0, seed, level): mask_of(HALF) for seed, level in product(range(3), (1, 2))}
    study = with_masks(planned, found, masks, tmp_path)
    assert [(row["level"], row["n"]) for row in rows(study, "layers", layer="all")] == [(0, 3), (1, 2), (2, 1)]
    assert [(row["level"], row["pairs"]) for row in rows(study, "overlaps", layer="all")] == [(1, 1)]


def test_an_adaptive_study_has_the_seeds_that_each_level_was_asked_of(tmp_path: Path) -> None:
    recipe = hand("prune.levels=auto", "compare={margin: 1}", "seeds=4", ABSENT).recipe
    planned = plan(recipe, "f" * 64, asked={(0, 0): [3, 2]})
    masks = {(0, seed, level): mask_of(HALF) for seed, level in product(range(3), (1, 2))}
    study = with_masks(planned, everything(planned), masks, tmp_path)
    assert [(row["level"], row["n"]) for row in rows(study, "layers", layer="all")] == [(0, 3), (1, 3), (2, 2)]
    assert [row["pairs"] for row in rows(study, "overlaps", layer="all")] == [3, 1]


def test_of_a_study_of_dense_networks_alone_there_is_nothing_to_tell(tmp_path: Path) -> None:
    planned = hand("prune.levels=0")
    study = Study(planned, everything(planned), Store(tmp_path))
    assert rows(study, "layers") == rows(study, "overlaps") == []


def test_a_study_of_which_nothing_is_finished_has_no_rows(tmp_path: Path) -> None:
    study = Study(hand(), {}, Store(tmp_path))
    assert rows(study, "layers") == rows(study, "overlaps") == []


# survival, and what is known without the data


def test_survival_is_counted_against_the_level_above_even_where_levels_stand_alone(tmp_path: Path) -> None:
    planned = hand("prune={criterion: magnitude, when: init, fraction: 0.5, levels: 3}", "seeds=2", ABSENT)
    levels: list[dict[str, tuple[int, ...]]] = [
        {"fc1.weight": (0, 1, 2), "output.weight": (0, 1, 2)},
        {"fc1.weight": (2, 3)},
        {"fc1.weight": (4,)},
    ]
    masks = {(0, seed, level): mask_of(kept) for seed in (0, 1) for level, kept in enumerate(levels, start=1)}
    found = everything(planned)
    lost = next(job.key for job in planned if (job.kind, job.seed, job.level) == ("ticket", 1, 1))
    study = with_masks(planned, {key: record for key, record in found.items() if key != lost}, masks, tmp_path)
    by_layer = {name: rows(study, "layers", layer=name) for name in ("fc1", "output", "all")}
    assert [row["survival"] for row in by_layer["fc1"]] == [None, 3 / 6, 1 / 3, 0]
    assert [row["survival"] for row in by_layer["output"]] == [None, 3 / 4, 0, None]
    assert [row["survival"] for row in by_layer["all"]] == pytest.approx([None, 6 / 10, 1 / 6, 0])
    assert [row["n"] for row in by_layer["all"]] == [2, 1, 2, 2]
    assert [row["kept"] for row in by_layer["all"]] == [10, 6, 2, 1]
    assert [row["density"] for row in by_layer["output"]] == [1, 3 / 4, 0, 0]


def test_signs_and_magnitudes_of_weights_given_by_hand(tmp_path: Path) -> None:
    """All start at 1, so that their ranks are shared; a weight that ends at exactly 0 has not changed its sign."""
    planned = hand("seeds=1", ABSENT)
    end = {"fc1.weight": torch.tensor([[-1.0, 2, 0], [-5, 6, 7]]), "output.weight": torch.tensor([-1.0, -2, 3, 4])}
    study = with_masks(planned, everything(planned), {(0, 0, 1): mask_of(HALF)}, tmp_path, end)
    dense, ticket = rows(study, "layers", layer="fc1")
    assert (dense["sign_change_share"], ticket["sign_change_share"]) == (2 / 6, 1 / 3)
    assert (dense["end_magnitude"], ticket["end_magnitude"]) == (21 / 6, 3 / 3)
    assert (ticket["start_magnitude"], ticket["start_rank"]) == (1, 0.5)
    (every,) = rows(study, "layers", layer="all", level=1)
    assert (every["sign_change_share"], every["end_magnitude"]) == (3 / 5, 6 / 5)
    assert "init_sign_change_share" not in every  # that is the start


def test_without_the_data_what_needs_the_network_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = hand(ABSENT)
    study = with_masks(planned, everything(planned), {(0, s, 1): mask_of(HALF) for s in (0, 1)}, tmp_path)
    with caplog.at_level(logging.WARNING, "lottery"):
        table = rows(study, "layers")
    unknown = {name for row in table for name, value in row.items() if value is None and row["level"] == 1}
    assert unknown == {"effective_density", "dead_units", "dead_share"}
    assert "what needs the shape of the input is left out" in caplog.text


# a real study

REAL = micro_text(
    "data={name: digits, validation: 100, limit: 300}",
    "model.widths=[6, 4]",
    "train.optimizer.lr=3e-2",
    "train.evaluate_every=6it",
    "prune={scope: layer, fraction: 0.6, rates: {output: 0.5}, levels: 3}",
    "rewind=[init, 4it]",
    "seeds=2",
)


def run(text: str, folder: Path, *overrides: str) -> Study:
    context = prepare(Request(parse_recipe(text, "real.yaml", overrides), folder, folder / "store", device="cpu"))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return Study(context.plan, records(context.plan, context.store), context.store, folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(REAL, tmp_path_factory.mktemp("real"))


LAYERS = ("fc1", "fc2", "output")
Arrays = dict[str, Any]


def stored(study: Study, key: str, name: str) -> Arrays:
    return safetensors.load(study.store.read(key, name))


def point(study: Study, job: Job, rewind: str) -> Arrays:
    """Weights by layer in the state of this job's seed and optimizer that a trunk goes back to."""
    (key,) = [
        each.key
        for each in study.plan
        if (each.kind, each.optimizer_index, each.seed) == ("rewind", job.optimizer_index, job.seed)
        and each.rewind is not None
        and str(each.rewind.to) == rewind
    ]
    state = stored(study, key, "state.safetensors")
    return {layer: state[f"model/{layer}.weight"].ravel() for layer in LAYERS}


def alive(study: Study, job: Job, like: Arrays) -> Arrays:
    if job.kind == "dense":
        return {layer: np.ones(like[layer].size, bool) for layer in LAYERS}
    packed = stored(study, job.key, "mask.safetensors")
    return {n: np.unpackbits(packed[f"{n}.weight"], count=like[n].size).astype(bool) for n in LAYERS}


def chains(study: Study) -> list[list[Job]]:
    deepest = max(job.level for job in study.plan)
    return [study.plan.trunk(job) for job in study.plan if job.kind == "ticket" and job.level == deepest]


def rewind_of(job: Job) -> str:
    assert job.rewind is not None
    return str(job.rewind.to)


def place(study: Study, job: Job) -> dict[str, Any]:
    rewind = rewind_of(job) if job.rewind.to.value else "init"  # type: ignore[union-attr]
    return {"optimizer": study.recipe.train.optimizer[job.optimizer_index].name, "rewind": rewind, "level": job.level}


def expected_of(study: Study, measure: Any) -> dict[tuple[Any, ...], list[float]]:
    """What `measure` makes of a training's arrays, by the place of its row and layer, of all seeds."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for chain in chains(study):
        start, init = point(study, chain[0], rewind_of(chain[0])), point(study, chain[0], "0it")
        above = None
        for job in chain:
            bits = alive(study, job, start)
            end = stored(study, job.key, "weights.safetensors")
            arrays = {"start": start, "init": init, "bits": bits, "above": above}
            arrays["end"] = {layer: end[f"{layer}.weight"].ravel() for layer in LAYERS}  # of a ticket what survives
            for layer, value in measure(arrays).items():
                found.setdefault((*place(study, job).values(), layer), []).append(value)
            above = bits
    return found


def agree(study: Study, column: str, measure: Any) -> list[float]:
    """The column's values, which are the means of those measured, row by row."""
    expected = expected_of(study, measure)
    table = {(r["optimizer"], r["rewind"], r["level"], r["layer"]): r[column] for r in rows(study, "layers")}
    assert expected and all(len(values) == len(study.recipe.seeds) for values in expected.values())
    assert table == {at: pytest.approx(np.mean(values), abs=1e-6) for at, values in expected.items()}
    return [float(np.mean(values)) for values in expected.values()]


def shares(counts: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Part and whole by layer as shares, those of all layers added."""
    parts, wholes = zip(*counts.values(), strict=True)
    return {**{layer: part / whole for layer, (part, whole) in counts.items()}, "all": sum(parts) / sum(wholes)}


@pytest.mark.parametrize(("column", "since"), [("sign_change_share", "start"), ("init_sign_change_share", "init")])
def test_sign_changes_are_those_of_the_stored_weights(real: Study, column: str, since: str) -> None:
    def measure(a: Arrays) -> dict[str, float]:
        before = {layer: a[since][layer][a["bits"][layer]] for layer in LAYERS}
        return shares({n: (int(((before[n] > 0) != (a["end"][n] > 0)).sum()), before[n].size) for n in LAYERS})

    assert max(agree(real, column, measure)) > 0


def test_later_rewind_points_have_a_start_of_their_own(real: Study) -> None:
    late, early = (rows(real, "layers", layer="all", optimizer="adam", rewind=r) for r in ("4it", "init"))
    assert all(row["sign_change_share"] == row["init_sign_change_share"] for row in early)
    assert any(row["sign_change_share"] != row["init_sign_change_share"] for row in late)


@pytest.mark.parametrize("when", ["start", "end"])
def test_magnitudes_are_means_over_the_weights_that_survive(real: Study, when: str) -> None:
    def measure(a: Arrays) -> dict[str, float]:
        own = {n: a["start"][n][a["bits"][n]] if when == "start" else a["end"][n] for n in LAYERS}
        return shares({n: (float(np.abs(own[n], dtype=np.float64).sum()), own[n].size) for n in LAYERS})

    agree(real, f"{when}_magnitude", measure)


def test_the_rank_at_the_start_is_the_share_of_the_layer_that_is_smaller(real: Study) -> None:
    def rank(weights: Any, bits: Any) -> tuple[float, int]:
        size = np.abs(weights)
        beaten = [(size < own).sum() + (size == own).sum() / 2 for own in size[bits]]
        return float(sum(beaten)) / size.size, int(bits.sum())

    values = agree(real, "start_rank", lambda a: shares({n: rank(a["start"][n], a["bits"][n]) for n in LAYERS}))
    assert all(row["start_rank"] == pytest.approx(0.5) for row in rows(real, "layers", level=0))
    assert max(values) > 0.6  # pruning by magnitude after so few steps keeps what was large


def test_survivors_and_densities_are_those_of_the_stored_masks(real: Study) -> None:
    agree(real, "density", lambda a: shares({n: (int(bits.sum()), bits.size) for n, bits in a["bits"].items()}))
    table = [row for row in rows(real, "layers") if row["level"]]
    exact = {(0.6, "fc1"): 154, (0.6, "fc2"): 10, (0.3, "output"): 28}  # nearest whole weights of 384, 24 and 40
    for (fraction, layer), count in exact.items():
        for row in table:
            if (row["layer"], row["level"]) == (layer, 1):
                assert row["kept"] == count and row["survival"] == pytest.approx(1 - fraction, abs=0.02)


def on_paths(a: Arrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights on paths from input to output and the units on them, path by path."""
    one, two, three = (a["bits"][n].reshape(shape) for n, shape in zip(LAYERS, ((6, 64), (4, 6), (10, 4)), strict=True))
    through = {n: np.zeros(shape, bool) for n, shape in zip(LAYERS, ((6, 64), (4, 6), (10, 4)), strict=True)}
    working: dict[str, set[int]] = {n: set() for n in LAYERS}
    for i, h, k, o in product(range(64), range(6), range(4), range(10)):
        if one[h, i] and two[k, h] and three[o, k]:
            for layer, (unit, source) in zip(LAYERS, ((h, i), (k, h), (o, k)), strict=True):
                through[layer][unit, source] = True
                working[layer].add(unit)
    return through, {n: len(through[n]) - len(units) for n, units in working.items()}


def test_effective_density_counts_the_weights_on_enumerated_paths(real: Study) -> None:
    effective = agree(
        real, "effective_density", lambda a: shares({n: (int(w.sum()), w.size) for n, w in on_paths(a)[0].items()})
    )
    direct = [row["density"] for row in rows(real, "layers")]
    assert sum(x < y for x, y in zip(sorted(effective), sorted(direct), strict=True)) > 3


def test_dead_units_are_those_on_no_enumerated_path(real: Study) -> None:
    def dead(a: Arrays) -> dict[str, float]:
        counts = on_paths(a)[1]
        return {**counts, "all": sum(counts.values())}

    assert sum(value > 0 for value in agree(real, "dead_units", dead)) > 3
    for row in rows(real, "layers"):
        units = {"fc1": 6, "fc2": 4, "output": 10, "all": 20}[row["layer"]]
        assert row["dead_share"] == pytest.approx(row["dead_units"] / units)


def test_each_rewind_point_has_rows_of_its_own(real: Study) -> None:
    for view, count in (("layers", 2 * 4 * 4), ("overlaps", 2 * 3 * 4)):  # rewind points, levels, layers
        table = rows(real, view)
        assert len(table) == count and {row["rewind"] for row in table} == {"init", "4it"}


def test_the_table_of_layers_fits_on_a_terminal(real: Study) -> None:
    one = [{name: value for name, value in row.items() if name != "rewind"} for row in rows(real, "layers")]
    without = [{n: v for n, v in row.items() if n != "init_sign_change_share"} for row in one]
    for table in (without, rows(real, "overlaps")):
        assert max(map(len, text(table).splitlines())) <= 120


def test_under_a_weight_normalization_the_weights_are_those_that_layers_compute_with(tmp_path: Path) -> None:
    study = run(REAL, tmp_path, "model.norm=weight", "rewind=init", "prune.levels=1", "seeds=1")
    (chain,) = chains(study)
    ticket = chain[-1]
    state, end = (
        stored(study, ticket.point or "", "state.safetensors"),
        stored(study, ticket.key, "weights.safetensors"),
    )
    packed = stored(study, ticket.key, "mask.safetensors")
    for layer in LAYERS:
        gain, direction = (f"{layer}.parametrizations.weight.original{i}" for i in (0, 1))
        start = state[f"model/{direction}"].astype(np.float64)
        bits = np.unpackbits(packed[direction], count=start.size).astype(bool).reshape(start.shape)
        trained = np.zeros_like(start)
        trained[bits] = end[direction]
        (row,) = rows(study, "layers", layer=layer, level=1)
        for column, v, g in (
            ("start_magnitude", start * bits, state[f"model/{gain}"]),
            ("end_magnitude", trained, end[gain]),
        ):
            length = np.sqrt((v**2).sum(1, keepdims=True))
            weight = np.divide(g * v, length, out=np.zeros_like(v), where=length > 0)
            assert row[column] == pytest.approx(np.abs(weight[bits]).mean(), rel=1e-5)
