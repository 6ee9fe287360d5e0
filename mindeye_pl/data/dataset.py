"""Batches of brain responses with the learning targets of their images.

Legend: B batch, b trials of one subject in it, n trials, V voxels, R slots for repetitions.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from mindeye_pl.data.nsd.repetitions import assign_trial_slots
from mindeye_pl.data.nsd.trials import Trials
from mindeye_pl.data.sampling import BatchIndex
from mindeye_pl.types import BrainBatch


class TargetTable(Protocol):
    """A table of learning targets of one kind, with a row per stimulus."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return the targets `(n, ...)`, float16 or float32, of stimulus ids `(n,)`."""


class BrainDataset(Dataset[BrainBatch]):
    """A table of trials whose items are whole batches.

    Nothing random happens here, so data-loader workers need no seed, and arrays are shared with them as they are.

    Args:
        voxels: betas of each subject, `(n_s, V_s)` float32 or float16.
        trials: their trials, `n_s` of them.
        targets: tables of the images' learning targets by kind, see `BrainBatch.targets`.
        repetition_slots: R responses to each trial's image, taken from `voxels`; 0 omits them. In memory they are an
            index of R numbers per trial.
    """

    def __init__(
        self,
        voxels: Sequence[np.ndarray],
        trials: Sequence[Trials],
        targets: Mapping[str, TargetTable],
        repetition_slots: int = 0,
    ):
        assert [len(betas) for betas in voxels] == [len(subject_trials) for subject_trials in trials]
        self.voxels, self.trials, self.targets = voxels, trials, targets
        self.slots: list[np.ndarray] | None = None  # (n_s, R) of each subject, indices into its trials
        if repetition_slots:
            self.slots = [
                assign_trial_slots(subject_trials.stimulus_ids, repetition_slots) for subject_trials in trials
            ]

    def __getitem__(self, index: BatchIndex) -> BrainBatch:
        """The batch of the trials that a sampler picked, voxels in float32."""
        stimulus_ids = np.concatenate([self.trials[place].stimulus_ids[taken] for place, taken in index])
        return BrainBatch(
            voxels=[self._betas(place, taken) for place, taken in index],  # (b, V_s)
            subject_index=[place for place, _ in index],
            stimulus_ids=torch.from_numpy(stimulus_ids),  # (B,)
            targets={kind: _rows(table, stimulus_ids) for kind, table in self.targets.items()},  # (B, ...)
            repetitions=self._repetitions(index),  # (b, R, V_s)
        )

    def _betas(self, place: int, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.voxels[place][rows]).float()

    def _repetitions(self, index: BatchIndex) -> list[torch.Tensor] | None:
        if self.slots is None:
            return None
        return [self._betas(place, self.slots[place][taken]) for place, taken in index]


def _rows(table: TargetTable, stimulus_ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(table[stimulus_ids]))
