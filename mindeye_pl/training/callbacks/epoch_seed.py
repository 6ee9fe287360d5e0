"""Randomness that depends on the seed and the epoch alone."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Seeds every generator anew at the start of each training epoch.

    An epoch's dropout, mixing and noise then depend on (seed, epoch, rank) and on nothing that came before, so a run
    that goes on from an epoch's checkpoint draws what the undisturbed run drew.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draws the epoch's seeds before its first step: making the data iterator, which draws too, comes before it."""
        if batch_idx > 0:
            return
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        torch_seed, numpy_seed, python_seed = (int(word) for word in entropy.generate_state(3))
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)  # libraries that still use the global generator
        random.seed(python_seed)
