"""Hold a mask on a network that Lightning trains, with bf16, accumulation, clipping, AdamW and a one-cycle schedule.

Run it with `python examples/masked/in_lightning.py` (needs `pip install lightning`). The callback is all there is to
it: it works with any LightningModule that keeps its network in `network` and has one optimizer.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import lightning
import torch
from digits import accuracy, batches, mask_of_largest, network, report
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

import lottery


class HoldMask(Callback):
    """Hold a mask on a module's `network` from the first step of `fit` to the last.

    BrokenMask is raised at the end of `fit` where a pruned weight is not zero.
    """

    def __init__(self, mask: lottery.Mask):
        self.mask = mask
        self._held = ExitStack()

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        """Hold the mask from now on."""
        # not earlier: only now is the network on its device, and its optimizer made
        (optimizer,) = trainer.optimizers
        self._held.enter_context(lottery.masked(module.network, self.mask, optimizer))

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        """Let go of the mask; BrokenMask is raised where a pruned weight is not zero."""
        self._held.close()

    def on_exception(self, trainer: lightning.Trainer, module: Any, exception: BaseException) -> None:
        """Let go of the mask of a training that failed."""
        self._held.__exit__(type(exception), exception, exception.__traceback__)


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


def fit(module: Classifier, epochs: int, *callbacks: Callback) -> nn.Sequential:
    """Train, and return the trained network on the CPU."""
    trainer = lightning.Trainer(
        max_epochs=epochs,
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, batches())
    return module.network


def main(epochs: int = 20) -> None:
    """Train the dense network, then its ticket without and with the mask held."""
    dense = fit(Classifier(), epochs)
    mask = mask_of_largest(dense, share=0.1)
    print(f"dense: test accuracy {accuracy(dense):.4f}")

    loose = Classifier()
    loose.network.load_state_dict(mask.apply(loose.network.state_dict()))
    report("not held", fit(loose, epochs), mask)

    report("held", fit(Classifier(), epochs, HoldMask(mask)), mask)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
