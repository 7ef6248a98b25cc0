"""Run `survey-parts` with each row of the survey in turn and write one table of all: table.csv and table.md here."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import lottery
from lottery.formats.render import render

HERE = Path(__file__).parent
MODEL = "{{name: conv2, width: 16, hidden: 64, norm: {norm}, activation: {activation}}}"
INITS = (
    *("naive", "lecun_normal", "lecun_uniform", "glorot_normal", "glorot_uniform", "kaiming_normal", "kaiming_uniform"),
    *("geometric_mean", "lsuv", "orthogonal", "delta_orthogonal", "mean_field", "metainit", "torch"),
)
NORMS = ("none", "batch", "layer", "instance", "group", "switchable", "spectral", "weight")
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "elu", "silu", "gelu")
MODELS = (
    *("lenet", "{name: mlp, widths: [100, 100]}", "highway", "{name: deep_linear, width: 64, depth: 4}"),
    *("{name: plain, depth: 20, width: 8}", "{name: conv4, width: 16, hidden: 64}", "{name: resnet20, width: 8}"),
    *("{name: resnet32, width: 8}", "{name: densenet, depth: 13, growth: 8}"),
)
SCHEDULES = (
    *("constant", "{name: step, every: 100it}", "{name: multi_step, at: [150it, 225it]}"),
    *("{name: exponential, factor: 0.5, every: 100it}", "{name: inverse_time, every: 50it}"),
    *("{name: inverse_sqrt, every: 50it}", "polynomial", "cosine", "{name: triangular, half_cycle: 50it}"),
    *("{name: sgdr, first: 100it}", "one_cycle"),
)


def studies() -> list[tuple[str, str, list[str]]]:
    """Part, row, and what is set in the recipe for it."""
    rows = [("init", init, [f"init={init}"]) for init in INITS]
    fixup = ["model={name: fixup_resnet20, width: 8}", "init=fixup"]
    rows += [("init", "fixup (fixup_resnet20)", fixup)]
    rows += [("norm", norm, [f"model={MODEL.format(norm=norm, activation='relu')}"]) for norm in NORMS]
    rows += [("activation", name, [f"model={MODEL.format(norm='batch', activation=name)}"]) for name in ACTIVATIONS]
    rows += [("model", model, [f"model={model}"]) for model in MODELS]
    factorization = ["data={name: matrix_factorization, size: 60, rank: 4}", "model={name: deep_linear, width: 20}"]
    linear = [*factorization, "train.batch_size=all", "train.optimizer.lr=2e-2", "init=orthogonal"]
    rows += [("model", "deep_linear on matrix_factorization (r2)", linear)]
    rows += [("schedule", name, [f"train.schedule={name}", "train.schedule.warmup=20it"]) for name in SCHEDULES]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="runs")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    frames = []
    for part, row, overrides in studies():
        recipe = lottery.load_recipe("survey-parts", overrides)
        outcome = lottery.run(recipe, store=options.store, jobs=options.jobs, deterministic=True)
        frame = lottery.table(recipe, store=options.store)
        frame.insert(0, "row", row)
        frame.insert(0, "part", part)
        frames.append(frame)
        print(part, row, f"exit code {outcome.exit_code}", *outcome.messages[:1], flush=True)
    table = pd.concat(frames, ignore_index=True)
    table.to_csv(HERE / "table.csv", index=False, lineterminator="\n")
    table = table.astype(object).where(table.notna(), None)
    (HERE / "table.md").write_bytes(render(table.to_dict("records"), "markdown"))


if __name__ == "__main__":
    main()
