"""Batches of brains with their target tokens.

Legend: B batch, b one subject's sub-batch, n trials, V voxels, R slots for repetitions, S tokens, D token width, C
captions, K augmented views.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from mindeye_pl.data.nsd.repetitions import assign_trial_slots
from mindeye_pl.data.nsd.trials import Trials
from mindeye_pl.data.sampling import BatchIndex
from mindeye_pl.types import BrainBatch


class TokenSource(Protocol):
    """Table of target tokens by stimulus id."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Return target tokens `(n, S, D)` of `(n,)` stimulus ids, float16 or float32."""


class BrainDataset(Dataset[BrainBatch]):
    """Dataset of trials whose items are whole batches.

    Nothing is random here, so data-loader workers need no seed and share the arrays.

    Args:
        voxels: betas of each subject, `(n_s, V_s)` float32 or float16.
        trials: trials of each subject, `n_s` of them.
        tokens: target tokens of all stimuli.
        latents: VAE latents of all stimuli.
        maps: feature maps of all stimuli.
        repetition_slots: R, number of responses to its image loaded with each trial, taken from `voxels`; 0 for none.
            They are stored as indices, R integers per trial.
        captions: caption embeddings of all stimuli.
        views: embeddings of augmented views of all stimuli.
    """

    def __init__(
        self,
        voxels: Sequence[np.ndarray],
        trials: Sequence[Trials],
        tokens: TokenSource,
        latents: TokenSource | None = None,
        maps: TokenSource | None = None,
        repetition_slots: int = 0,
        captions: TokenSource | None = None,
        views: TokenSource | None = None,
    ):
        assert [len(betas) for betas in voxels] == [len(subject_trials) for subject_trials in trials]
        self.voxels, self.trials = voxels, trials
        self.tokens, self.latents, self.maps, self.captions, self.views = tokens, latents, maps, captions, views
        self.slots: list[np.ndarray] | None = None  # (n_s, R) of each subject, indices into its trials
        if repetition_slots:
            self.slots = [
                assign_trial_slots(subject_trials.stimulus_ids, repetition_slots) for subject_trials in trials
            ]

    def __getitem__(self, index: BatchIndex) -> BrainBatch:
        """Return the batch of the trials that a sampler selected, voxels in float32."""
        stimulus_ids = np.concatenate([self.trials[subject].stimulus_ids[rows] for subject, rows in index])
        return BrainBatch(
            voxels=[self._betas(subject, rows) for subject, rows in index],  # (b, V_s)
            subject_index=[subject for subject, _ in index],
            stimulus_ids=torch.from_numpy(stimulus_ids),  # (B,)
            tokens=_rows(self.tokens, stimulus_ids),  # (B, S, D)
            latents=None if self.latents is None else _rows(self.latents, stimulus_ids),  # (B, C, h * w)
            maps=None if self.maps is None else _rows(self.maps, stimulus_ids),  # (B, K * M, 512)
            repetitions=self._repetitions(index),  # (b, R, V_s)
            captions=None if self.captions is None else _rows(self.captions, stimulus_ids),  # (B, C, D)
            views=None if self.views is None else _rows(self.views, stimulus_ids),  # (B, K, D)
        )

    def _betas(self, subject: int, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.voxels[subject][rows]).float()

    def _repetitions(self, index: BatchIndex) -> list[torch.Tensor] | None:
        if self.slots is None:
            return None
        return [self._betas(subject, self.slots[subject][rows]) for subject, rows in index]


def _rows(table: TokenSource, stimulus_ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(table[stimulus_ids]))
