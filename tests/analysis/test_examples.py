"""Test examples one by one: intervals for other seeds and examples, disagreement, classes lost."""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.analysis.views import rows_of
from lottery.errors import UsageError
from lottery.recipe.load import parse_recipe
from lottery.results.artifacts import read_correct
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.events import Request
from lottery.runner.finished_study import context_of
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.statistics.crossed import between_seeds, by_class, crossed
from tests.support.micro import micro_text
from tests.support.studies import everything, hand, view_of

TEXT = micro_text(
    "data={name: digits, validation: 100, limit: 300}",
    "train.optimizer.lr=1e-2",
    "train.length=16it",
    "prune.fraction=0.7",
    "seeds=3",
    "branches=[{name: random, samples: 2, levels: [1]}, {name: learned_supermask, draws: 3, levels: [1]}]",
    "compare={margin: 1}",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("bits")
    recipe = parse_recipe(TEXT, "bits.yaml")
    context = prepare(Request(recipe, folder, folder, device="cpu", deterministic=True, checkpoint_seconds=60))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done"}
    return Study(context.plan, records(context.plan, context.store), context.store, folder)


def right(study: Study, kind: str, level: int, seed: int) -> np.ndarray:
    """Bools of one training's test examples, a mean over samples, at the recipe's reading."""
    jobs = [
        job
        for job in study.plan
        if (job.branch.label if job.branch else job.kind, job.level, job.seed) == (kind, level, seed)
    ]
    return np.mean([read_correct(study.store, job.key)["best_accuracy"] for job in jobs], axis=0)


def test_rows_are_those_of_loops_over_the_bits(trained: Study) -> None:
    table, labels = rows_of(trained, "examples"), context_of(trained).splits.test_y.numpy()
    means = {row["density"]: row for row in rows_of(trained, "means")}
    shown = [(row["optimizer"], row["level"], row["network"]) for row in table]
    assert shown == [("adam", 1, "ticket"), ("adam", 1, "random"), ("adam", 2, "ticket")]
    for row in table:
        dense = [right(trained, "dense", 0, seed) for seed in range(3)]
        ours = [right(trained, row["network"], row["level"], seed) for seed in range(3)]
        pairs = list(zip(ours, dense, strict=True))
        assert (row["n"], row["examples"]) == (3, len(labels))
        assert row["difference"] == pytest.approx(np.mean([a.mean() - b.mean() for a, b in pairs]), abs=1e-7)
        assert row["difference"] == pytest.approx(means[row["density"]][f"{row['network']}_diff"])
        assert row["disagreement"] == pytest.approx(np.mean([np.abs(a - b).mean() for a, b in pairs]), abs=1e-7)
        apart = [(one != other).mean() for one, other in combinations(dense, 2)]
        assert row["dense_disagreement"] == pytest.approx(np.mean(apart))
        drops = np.array([[(a - b)[labels == label].mean() for label in range(10)] for a, b in pairs])
        assert row["worst_class"] == drops.mean(axis=0).argmin()
        assert row["worst_class_diff"] == pytest.approx(drops.mean(axis=0).min(), abs=1e-6)
        p = [oracle.ttest_1samp(column, 0, alternative="less").pvalue if np.ptp(column) else 1.0 for column in drops.T]
        order = np.argsort(p)
        adjusted = np.maximum.accumulate([(10 - rank) * p[label] for rank, label in enumerate(order)])
        assert row["classes_lost"] == (adjusted <= 0.05).sum()


def test_a_control_that_is_the_mean_of_several_networks_has_no_row_and_samples_are_averaged(trained: Study) -> None:
    assert not [row for row in rows_of(trained, "examples") if row["network"] == "learned_supermask"]
    assert [len(row.made_from) for row in rows_of(trained, "examples")] == [
        6,
        9,
        6,
    ]  # three dense networks beside three tickets, or six samples


def test_without_the_data_there_are_no_classes_and_the_rest_stands(
    trained: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lottery.errors import DataError

    def lost(_: Study) -> None:
        raise DataError("digits: not there")

    study = Study(trained.plan, trained.found, trained.store, trained.data)
    monkeypatch.setattr("lottery.analysis.examples.context_of", lost)
    table = rows_of(study, "examples")
    assert {(row["worst_class"], row["worst_class_diff"], row["classes_lost"]) for row in table} == {(None,) * 3}
    assert all(row["disagreement"] > 0 for row in table)
    assert "digits: not there; what single classes lose is left out" in caplog.text


def test_a_study_that_kept_no_examples_is_told_so() -> None:
    planned = hand("seeds=2")
    with pytest.raises(UsageError, match="hand: no finished pair of networks says which test examples it recognizes"):
        view_of("examples", planned, everything(planned))


# the interval


def components(values: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of seeds, of examples and of what is left, by loops."""
    n, examples = values.shape
    mean = values.mean()
    rows = sum(examples * (values[s].mean() - mean) ** 2 for s in range(n)) / (n - 1)
    columns = sum(n * (values[:, i].mean() - mean) ** 2 for i in range(examples)) / (examples - 1)
    left = sum(
        (values[s, i] - values[s].mean() - values[:, i].mean() + mean) ** 2 for s in range(n) for i in range(examples)
    )
    return rows, columns, left / ((n - 1) * (examples - 1))


def test_the_interval_is_satterthwaites_of_the_mean_squares() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(4, 30)) + rng.normal(size=(4, 1)) + rng.normal(size=30)
    seeds, examples, both = components(values)
    assert min(seeds, examples) > both
    summed = seeds + examples - both
    degrees = summed**2 / (seeds**2 / 3 + examples**2 / 29 + both**2 / 87)
    reach = oracle.t.ppf(0.95, degrees) * (summed / 120) ** 0.5
    found = crossed(values, 0.9)
    assert (found.estimate, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - reach, values.mean() + reach)
    )
    # components of the variance: of seeds over 4, of examples over 30, of both over 120
    total = (seeds - both) / 30 / 4 + (examples - both) / 4 / 30 + both / 120
    assert found.seeds_share == pytest.approx((seeds - both) / 120 / total)
    assert found.examples_share == pytest.approx((examples - both) / 120 / total)


def test_what_is_below_nothing_is_nothing_and_equal_values_have_no_interval() -> None:
    opposed = np.array([[1.0, -1.0, 0.5, -0.5], [-1.0, 1.0, -0.5, 0.5]])  # all of it is chance of both
    found = crossed(opposed)
    assert (found.seeds_share, found.examples_share) == (0, 0)
    both = components(opposed)[2]
    assert found.high == pytest.approx(oracle.t.isf(0.025, 1 / (1 / 1 + 1 / 3 + 1 / 3)) * (both / 8) ** 0.5)
    equal = crossed(np.zeros((3, 5)))
    assert (equal.estimate, equal.low, equal.high, equal.seeds_share) == (0, None, None, None)
    alone = crossed(np.array([[0.0, 1.0, 1.0]]))
    assert (alone.estimate, alone.low) == (pytest.approx(2 / 3), None)


def test_the_variance_is_that_of_the_crossed_bootstrap_without_its_bias() -> None:
    """In expectation over tables with known components: the bootstrap, drawn, counts that of both about three times."""
    rng = np.random.default_rng(5)
    n, examples, of_seed, of_example, of_both = 5, 60, 0.3, 0.8, 1.5
    truth = of_seed**2 / n + of_example**2 / examples + of_both**2 / (n * examples)
    ours, drawn = [], []
    for _ in range(400):
        values = of_both * rng.normal(size=(n, examples)) + of_seed * rng.normal(size=(n, 1))
        values += of_example * rng.normal(size=examples)
        seeds, across, both = components_fast(values)
        ours.append((max(seeds, both) + max(across, both) - both) / values.size)
        w, v = rng.multinomial(n, np.ones(n) / n, 100), rng.multinomial(examples, np.ones(examples) / examples, 100)
        drawn.append(np.einsum("bs,si,bi->b", w, values, v).var() / values.size**2)
    assert np.mean(ours) == pytest.approx(truth, rel=0.06)
    expected = (n - 1) / n * of_seed**2 / n + of_example**2 / examples + 3 * of_both**2 / (n * examples)
    assert np.mean(drawn) == pytest.approx(expected, rel=0.12) and np.mean(drawn) > 1.15 * truth


def components_fast(values: np.ndarray) -> tuple[float, float, float]:
    n, examples = values.shape
    rows, columns = values.mean(1), values.mean(0)
    left = values - rows[:, None] - columns + values.mean()
    return (
        examples * rows.var(ddof=1),
        n * columns.var(ddof=1),
        (left**2).sum() / ((n - 1) * (examples - 1)),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("of_seeds", "of_examples"), [(0.15, 0.0), (0.0, 0.5), (0.1, 0.3)])
def test_it_holds_the_true_difference_in_95_percent_of_studies(of_seeds: float, of_examples: float) -> None:
    """2,000 studies of five seeds and 200 test examples, right where a normal score is above 0: some differ in how
    hard they are, for both networks and for tickets alone."""
    rng = np.random.default_rng(7)
    spread = (0.8**2 + of_seeds**2 + 0.4**2) ** 0.5
    truth = oracle.norm.cdf(1 / np.hypot(spread, of_examples)) - oracle.norm.cdf(1 / spread)
    held, of_seeds_alone, reach = 0, 0, oracle.t.isf(0.025, 4) / 5**0.5
    for _ in range(2_000):
        hard, own = 1 + 0.8 * rng.normal(size=200), of_examples * rng.normal(size=200)
        scores = [of_seeds * rng.normal(size=(5, 1)) + 0.4 * rng.normal(size=(5, 200)) for _ in range(2)]
        values = 1.0 * (hard + own + scores[0] > 0) - 1.0 * (hard + scores[1] > 0)
        found = crossed(values)
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
        each = values.mean(1)
        of_seeds_alone += abs(each.mean() - truth) <= reach * each.std(ddof=1)
    assert 0.935 < held / 2_000 < 0.985
    assert not of_examples >= 0.5 or of_seeds_alone / 2_000 < 0.85  # seeds alone know nothing of other examples


def test_disagreement_of_dense_networks_is_counted_pair_by_pair() -> None:
    bits = np.random.default_rng(1).random((6, 40)) < 0.7
    expected = np.mean([(bits[a] != bits[b]).mean() for a, b in combinations(range(6), 2)])
    assert between_seeds(bits) == pytest.approx(expected)
    assert between_seeds(bits[:1]) is None


def test_a_class_without_test_examples_has_no_mean() -> None:
    found = by_class(np.array([[1.0, 0.0, -1.0]]), np.array([0, 0, 2]), 4)
    assert found[0, :3].tolist()[::2] == [0.5, -1] and np.isnan(found[0, [1, 3]]).all()


@pytest.mark.slow
def test_twenty_levels_of_ten_seeds_on_ten_thousand_examples_take_a_moment() -> None:
    values = np.random.default_rng(0).integers(-1, 2, (10, 10_000)).astype(np.float32)
    labels = np.arange(10_000) % 10
    began = time.process_time()
    for _ in range(20):
        crossed(values)
        by_class(values, labels, 10)
    assert time.process_time() - began < 2


def test_bits_are_read_at_the_recipes_reading(trained: Study, tmp_path: Path) -> None:
    recipe = trained.recipe.model_copy(update={"report": "end"})
    plan = type(trained.plan)(recipe, trained.plan.fingerprint, trained.plan.jobs, trained.plan.others)
    table = rows_of(Study(plan, trained.found, trained.store, trained.data), "examples")
    means = rows_of(Study(plan, trained.found, trained.store, trained.data), "means")
    tickets = [row["difference"] for row in table if row["network"] == "ticket"]
    assert tickets == pytest.approx([row["ticket_diff"] for row in means])
