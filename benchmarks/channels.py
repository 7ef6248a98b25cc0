"""How much smaller and faster a network becomes whose channels are pruned: masked and compact, in turns.

`python benchmarks/channels.py` prunes filters by their norm (`filter_norm`), makes the network compact, compares the
outputs of both, and prints seconds of the processor of a forward pass and of a training step, one thread, medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from fnmatch import fnmatch

import torch
from torch import nn
from torch.nn import functional

from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Context
from lottery.registry import criteria
from lottery.structure.compact import compact, pruned
from lottery.values import Component

BATCH, TURNS, SHAPE = 128, 9, (3, 32, 32)
CASES = [  # model, layers that lose filters, share of the filters that is kept, and how many fewer
    ("vgg13", "conv*", 0.5, 0),
    ("vgg13", "conv*", 0.5, 1),
    ("vgg13", "conv*", 0.25, 0),
    ("resnet20", "blocks.*.conv1.weight", 0.5, 0),
    ("resnet20", "blocks.*.conv1.weight", 0.5, 1),
    ("resnet20", "blocks.*.conv1.weight", 0.25, 0),
]


def main() -> None:
    """Print a line for each case."""
    torch.set_num_threads(1)
    for name, pattern, share, fewer in CASES:
        model = build_model(Component(name), SHAPE, 10, init=Component("kaiming_normal"), seed=0)
        _trained_statistics(model)
        weights = {layer: weight.detach() for layer, weight in prunable(model).items()}
        chosen = {layer: weight for layer, weight in weights.items() if fnmatch(layer, pattern)}
        keep = {layer: (int(share * len(w)) - fewer) * w[0].numel() for layer, w in chosen.items()}
        scores = criteria["filter_norm"].make(chosen, Context(torch.Generator()))
        mask = keep_top(scores, Mask.dense(weights), keep)
        made = compact(model, mask, SHAPE)
        networks = [each.to(memory_format=torch.channels_last) for each in (pruned(model, mask).eval(), made.model)]
        x = torch.randn(BATCH, *SHAPE).to(memory_format=torch.channels_last)
        with torch.no_grad():
            masked, small = (network(x) for network in networks)
        away = float((masked - small).abs().max() / masked.abs().max())
        widths = sorted({row.after for row in made.rows if f"{row.layer}.weight" in chosen})
        print(
            f"{name}, {share:.0%} of the filters less {fewer}: channels {widths}, parameters {made.parameters},"
            f" outputs differ by {away:.1e}",
            f"  forward {_ratio(networks, _forward, x)}, step {_ratio(networks, _step, x)}",
            sep="\n",
            flush=True,
        )


def _trained_statistics(model: nn.Module) -> None:
    """Draw what normalizations learn: those of initialization would leave channels without input at exactly 0."""
    draws = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                assert values is not None
                values.uniform_(low, high, generator=draws)


def _forward(network: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        network(x)


def _step(network: nn.Module, x: torch.Tensor) -> None:
    network.train()
    network.zero_grad()
    functional.cross_entropy(network(x), torch.arange(len(x)) % 10).backward()  # type: ignore[no-untyped-call]
    network.eval()


def _ratio(networks: list[nn.Module], task: Callable[[nn.Module, torch.Tensor], None], x: torch.Tensor) -> str:
    """Return milliseconds of both networks and the median ratio of turns."""
    seconds: list[list[float]] = [[], []]
    for turn in range(TURNS + 1):
        for which in (0, 1) if turn % 2 else (1, 0):
            began = time.process_time()
            task(networks[which], x)
            seconds[which].append(time.process_time() - began)
    one, two = (statistics.median(each[1:]) for each in seconds)
    ratio = statistics.median(a / b for a, b in zip(seconds[0][1:], seconds[1][1:], strict=True))
    return f"{1e3 * one:.0f} and {1e3 * two:.0f} ms, {ratio:.2f}x"


if __name__ == "__main__":
    main()
