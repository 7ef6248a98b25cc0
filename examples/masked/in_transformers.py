"""Hold a mask on a network that the Trainer of Hugging Face trains, through bf16, accumulation, clipping and resuming.

Run it with `python examples/masked/in_transformers.py` (needs `pip install transformers accelerate`). The callback
`HoldMask` works with any model; each checkpoint gets a ticket file with the mask beside it. `find_ticket` is iterative
pruning with rewinding.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

from digits import TRAINED_ON, accuracy, images, network, report
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

import lottery

TICKET = "mask.ticket"  # in the folder of each checkpoint


class HoldMask(TrainerCallback):
    """Hold a mask on the model from the first step of `train` to the last, and keep it in each checkpoint.

    Leave it with `release` where `train` fails: the Trainer tells callbacks nothing then.
    """

    def __init__(self, mask: lottery.Mask, start: dict[str, Tensor]):
        self.mask, self.start = mask, start
        self._held = ExitStack()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Hold the mask from now on: the model and its optimizer are as the checkpoint has them that is resumed."""
        self._held.enter_context(lottery.masked(given["model"], self.mask, given["optimizer"]))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Let go of the mask; BrokenMask is raised where a pruned weight is not zero."""
        self._held.close()

    def on_save(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Write the mask, and where its training started, beside the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        lottery.save_ticket(folder / TICKET, self.mask, self.start)

    def release(self) -> None:
        """Let go of the mask of a training that failed."""
        self._held.pop_all().__exit__(*sys.exc_info())


class Classifier(nn.Module):
    """A model as the Trainer takes them; nothing here knows of masks."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        """Return the outputs of a batch, and the loss where labels are given."""
        outputs = self.network(x)
        return outputs if labels is None else {"loss": nn.functional.cross_entropy(outputs, labels), "logits": outputs}


def train(
    model: Classifier, epochs: int, mask: lottery.Mask | None = None, *, folder: Path | None = None, **settings: Any
) -> Classifier:
    """Train, with the mask held where there is one; go on from the last checkpoint in the folder, if there is one."""
    x, y = images()
    data = [{"x": image, "labels": label} for image, label in zip(x[:TRAINED_ON], y[:TRAINED_ON], strict=True)]
    resume = folder is not None and any(folder.glob("checkpoint-*"))
    with tempfile.TemporaryDirectory() as temporary:
        arguments = TrainingArguments(
            output_dir=str(folder or temporary),
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=2,
            max_grad_norm=1.0,
            learning_rate=5e-3,
            weight_decay=0.01,
            bf16=True,
            use_cpu=True,
            seed=0,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            **{"save_strategy": "no", "logging_strategy": "no", **settings},
        )
        hold = [] if mask is None else [HoldMask(mask, deepcopy(model.state_dict()))]
        trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=list(hold))
        try:
            trainer.train(resume_from_checkpoint=resume)
        finally:
            for each in hold:
                each.release()
    return model


def find_ticket(epochs: int, levels: int, amount: float) -> tuple[lottery.Mask, dict[str, Tensor]]:
    """Return the mask of iterative magnitude pruning with rewinding to initialization, and the initial weights."""
    model, mask = Classifier(), None
    start = deepcopy(model.state_dict())
    for _ in range(levels):
        model.load_state_dict(start)
        train(model, epochs, mask)
        mask = lottery.prune(model, amount, "global", mask=mask)
    assert mask is not None
    return mask, start


def main(epochs: int = 20) -> None:
    """Train the dense network, then its ticket without and with the mask held."""
    dense = train(Classifier(), epochs)
    mask = lottery.prune(dense, 0.9)
    print(f"dense: test accuracy {accuracy(dense):.4f}")

    loose = Classifier()
    loose.load_state_dict(mask.apply(loose.state_dict()))
    report("not held", train(loose, epochs), mask)

    report("held", train(Classifier(), epochs, mask), mask)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
