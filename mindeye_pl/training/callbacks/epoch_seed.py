"""Random numbers that depend on the seed, the epoch and the rank alone."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class EpochSeed(Callback):
    """Seeds the global generators at the start of each training epoch.

    Dropout, mixing and noise of an epoch then depend on (seed, epoch, rank) and not on earlier epochs, so a training
    that resumes at an epoch's checkpoint draws the same numbers. `MidEpochState` resumes inside an epoch.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed before the epoch's first step, after the data iterator was made, which draws a number too."""
        if batch_idx > 0:
            return
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        torch_seed, numpy_seed, python_seed = entropy.generate_state(3).tolist()
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)  # libraries that still use the global generator
        random.seed(python_seed)
