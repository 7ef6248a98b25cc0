"""Whether faster arithmetic changes results: `python benchmarks/agreement.py`.

The same study with the dense engine, each compiled engine and bf16, ten seeds each: test accuracies of dense networks
and tickets at the early-stop step, paired by seed. They agree where the mean difference is small beside the spread of
the seeds. Needs MNIST in $LOTTERY_DATA; takes a quarter of an hour on two cores."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from logbook import keep

from lottery import api
from lottery.analysis.cells import accuracies
from lottery.recipe.load import parse_recipe
from lottery.results.study import study
from lottery.statistics.paired import t_interval

TEXT = """
name: agreement
data: {%s}
model: {%s}
init: glorot_normal
train: {optimizer: {name: adam, lr: 1.2e-3}, batch_size: 60, length: %dit, evaluate_every: 200it}
prune: {one_shot: [0.2, 0.05]}
rewind: init
seeds: %d
"""
STUDIES = {
    "LeNet, MNIST": ("name: mnist, validation: 5000", "name: lenet", ("sparse", "background", "bf16")),
    "500-500, MNIST-1D": ("name: mnist1d, validation: 500", "name: mlp", ("sparse", "bf16")),  # no images
}
SETTINGS = {
    "dense": "train.engine=dense",
    "sparse": "train.engine=sparse",
    "background": "train.engine=background",
    "bf16": "train.precision=bf16",
}
Accuracies = dict[int, dict[int, float]]  # level -> seed -> test accuracy


def run(text: str, setting: str) -> Accuracies:
    recipe = parse_recipe(text, "agreement", [SETTINGS[setting]])
    with tempfile.TemporaryDirectory() as store:
        outcome = api.run(recipe, store=Path(store), jobs=2)
        assert outcome.exit_code == 0, outcome.messages
        cells = accuracies(study(recipe, store=store))
        return {place[2]: dict(named["ticket" if place[2] else "dense"]) for place, named in cells.items()}


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--steps", type=int, default=3000)
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS)[1:], default=list(SETTINGS)[1:])
    given = options.parse_args()
    results: list[dict[str, object]] = []
    for name, (data, model, settings) in STUDIES.items():
        text = TEXT % (data, model, given.steps, given.seeds)
        chosen = [setting for setting in settings if setting in given.settings]
        dense = run(text, "dense") if chosen else {}
        for setting in chosen:
            for level, seeds in run(text, setting).items():
                plain = dense[level]
                differences = [100 * (seeds[seed] - plain[seed]) for seed in plain]
                interval, spread = t_interval(differences), statistics.stdev(100 * value for value in plain.values())
                print(
                    f"{name}, level {level}, {setting}: {interval.estimate:+.3f} points against dense fp32 "
                    f"({interval.low:+.3f} to {interval.high:+.3f}), seeds spread by {spread:.3f}",
                    flush=True,
                )
                figures = {"points": interval.estimate, "low": interval.low, "high": interval.high, "spread": spread}
                rounded = {key: round(value, 4) for key, value in figures.items()}
                results.append({"case": f"{name}, level {level}, {setting}", "seeds": len(differences), **rounded})
    keep("agreement", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
