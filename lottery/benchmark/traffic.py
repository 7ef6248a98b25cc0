"""Cases of trainings on several ranks: the bytes of gradients that they hand to reductions under a mask."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lottery.benchmark.case import Case, Turn
from lottery.distributed.group import open_group
from lottery.distributed.share import Share
from lottery.errors import MachineError
from lottery.files.read import read_json
from lottery.files.write import write_atomic
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.masking import masked
from lottery.training.shared import SharedObjective
from lottery.values import Component

DENSITY, RANKS, BATCH, JOIN_SECONDS = 0.05, 2, 16, 120.0
SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32)}
