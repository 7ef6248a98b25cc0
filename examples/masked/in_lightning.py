"""Hold a mask on a network that Lightning trains, through bf16, accumulation, clipping, checkpoints and resuming.

Run it with `python examples/masked/in_lightning.py` (needs `pip install lightning`). The callbacks work with any
LightningModule that keeps its network in `network` and has one optimizer: `HoldMask` holds a mask, `Remember` keeps the
weights of a step to rewind to. `find_ticket` is iterative pruning with them.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning
import torch
from digits import accuracy, batches, network, report
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import lottery


class HoldMask(Callback):
    """Hold a mask on a module's `network` from the first step of `fit` to the last.

    The mask is kept in the checkpoints of `fit`. One that goes on from a checkpoint holds the mask that stands there,
    and needs none; another one is refused. BrokenMask is raised at the end of `fit` where a pruned weight is not zero.
    """

    def __init__(self, mask: lottery.Mask | None = None):
        self.mask = mask
        self._held = ExitStack()

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Hold the mask from now on."""
        # not earlier: only now is the network on its device, its optimizer made, and both as a checkpoint has them
        assert self.mask is not None, "a mask, or a checkpoint to resume that has one"
        (optimizer,) = trainer.optimizers
        self._held.enter_context(lottery.masked(module.network, self.mask, optimizer))

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Let go of the mask; BrokenMask is raised where a pruned weight is not zero."""
        self._held.close()

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        """Let go of the mask of a training that failed."""
        self._held.__exit__(type(exception), exception, exception.__traceback__)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the callback: the mask, one bit for each weight."""
        assert self.mask is not None
        bits, shapes = self.mask.pack()
        return {"bits": bits, "shapes": shapes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the mask of a checkpoint that is resumed."""
        found = lottery.Mask.unpack(state["bits"], state["shapes"])
        if self.mask not in (None, found):
            raise ValueError("the checkpoint was trained under another mask")
        self.mask = found


class Remember(Callback):
    """Keep a copy of the state of a module's `network` after so many steps, to rewind to."""

    def __init__(self, step: int):
        self.step, self.state = step, dict[str, Tensor]()

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Keep the state before the first step, if that is meant."""
        self._look(trainer, module)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *what: Any) -> None:
        """Keep the state after the step."""
        self._look(trainer, module)

    def _look(self, trainer: lightning.Trainer, module: Any) -> None:
        if trainer.global_step == self.step and not self.state:
            self.state = {name: value.detach().cpu().clone() for name, value in module.network.state_dict().items()}


class Classifier(lightning.LightningModule):
    """A module as any other; nothing here knows of masks."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> Any:
        """Return AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(self.parameters(), weight_decay=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    module: Classifier, epochs: int, *callbacks: Callback, resume: Path | None = None, **settings: Any
) -> nn.Sequential:
    """Train, going on from a checkpoint where one is named, and return the trained network on the CPU."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_epochs=epochs,
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        accelerator="cpu",
        **{"enable_checkpointing": False, **quiet, **settings},
    )
    trainer.fit(module, batches(), ckpt_path=resume)
    return module.network


def find_ticket(epochs: int, levels: int, amount: float, rewind: int = 0) -> tuple[lottery.Mask, dict[str, Tensor]]:
    """Return the mask of iterative magnitude pruning with rewinding, and the weights where its training starts.

    Each level trains, prunes a share of the surviving weights, and goes back to the dense network after `rewind` steps.
    """
    module, start = Classifier(), Remember(rewind)
    fit(module, epochs, start)
    mask = lottery.prune(module.network, amount, "global")
    for _ in range(1, levels):
        module.network.load_state_dict(start.state)
        fit(module, epochs, HoldMask(mask))
        mask = lottery.prune(module.network, amount, "global", mask=mask)
    return mask, start.state


def main(epochs: int = 20) -> None:
    """Train the dense network, then its ticket without and with the mask held."""
    dense = fit(Classifier(), epochs)
    mask = lottery.prune(dense, 0.9)
    print(f"dense: test accuracy {accuracy(dense):.4f}")

    loose = Classifier()
    loose.network.load_state_dict(mask.apply(loose.network.state_dict()))
    report("not held", fit(loose, epochs), mask)

    report("held", fit(Classifier(), epochs, HoldMask(mask)), mask)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
