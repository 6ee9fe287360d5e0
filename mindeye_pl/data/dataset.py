"""Batches of brain responses with the learning targets of their images.

Legend: B batch, b trials of one subject in it, n trials, V voxels, R slots for repetitions.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from mindeye_pl.data.image_sources import Table
from mindeye_pl.data.nsd.repetitions import assign_trial_slots
from mindeye_pl.data.nsd.trials import Trials
from mindeye_pl.data.sampling import BatchIndex
from mindeye_pl.types import BrainBatch


class BrainDataset(Dataset[BrainBatch]):
    """A table of trials whose items are whole batches.

    Nothing random happens here, so workers need no seed, and arrays are shared with them as they are.

    Args:
        voxels: betas of each subject, `(n_s, V_s)` float32 or float16.
        trials: their trials.
        targets: tables of the images' learning targets by kind, see `BrainBatch.targets`.
        repetition_slots: R responses to each trial's image, taken from `voxels`; 0 omits them. In memory they are an
            index of R numbers per trial.
    """

    def __init__(
        self,
        voxels: Sequence[np.ndarray],
        trials: Sequence[Trials],
        targets: Mapping[str, Table],
        repetition_slots: int = 0,
    ):
        assert list(map(len, voxels)) == list(map(len, trials))
        self.voxels, self.trials, self.targets = voxels, trials, targets
        self.slots: list[np.ndarray] | None = None  # (n_s, R) of each subject, indices into its trials
        if repetition_slots:
            self.slots = [assign_trial_slots(of_subject.stimulus_ids, repetition_slots) for of_subject in trials]

    def __getitem__(self, index: BatchIndex) -> BrainBatch:
        """Return the batch of the sampled trials, voxels in float32."""
        stimulus_ids = np.concatenate([self.trials[subject].stimulus_ids[rows] for subject, rows in index])
        repetitions = None
        if (slots := self.slots) is not None:
            repetitions = [self._betas(subject, slots[subject][rows]) for subject, rows in index]  # (b, R, V_s)
        return BrainBatch(
            voxels=[self._betas(subject, rows) for subject, rows in index],  # (b, V_s)
            subject_index=[subject for subject, _ in index],
            stimulus_ids=torch.from_numpy(stimulus_ids),  # (B,)
            targets={kind: _rows(table, stimulus_ids) for kind, table in self.targets.items()},  # (B, ...)
            repetitions=repetitions,
        )

    def _betas(self, subject: int, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.voxels[subject][rows]).float()


def _rows(table: Table, stimulus_ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(table[stimulus_ids]))
