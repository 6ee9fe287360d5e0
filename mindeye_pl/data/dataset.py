"""Batches of brains with their target tokens.

Legend: B batch, b one subject's share of it, n trials, V voxels, R slots for repetitions, S tokens, D token width, C
captions, K augmented views.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from mindeye_pl.data.nsd.repetitions import slots_of_trials
from mindeye_pl.data.nsd.trials import Trials
from mindeye_pl.data.sampling import BatchIndex
from mindeye_pl.types import BrainBatch


class TokenSource(Protocol):
    """Where target tokens come from: any table of them by stimulus id."""

    def __getitem__(self, ids: np.ndarray) -> np.ndarray:
        """Target tokens `(n, S, D)` of `(n,)` stimulus ids, float16 or float32."""


class BrainDataset(Dataset[BrainBatch]):
    """A table of trials whose items are whole batches.

    Nothing random happens here, so data-loader workers need no seed, and arrays are shared with them as they are.

    Args:
        voxels: betas of each subject, `(n_s, V_s)` float32 or float16.
        trials: their trials, `n_s` of them.
        tokens: target tokens of every stimulus.
        latents: their VAE latents, in the same kind of table.
        maps: their feature maps, in the same kind of table.
        repetition_slots: R, the responses to its image that stand beside each trial, taken from `voxels`; 0 for none.
            In memory they are an index of R numbers a trial.
        captions: embeddings of the images' captions, in the same kind of table.
        views: embeddings of augmented views of the images, in the same kind of table.
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
            self.slots = [slots_of_trials(subject_trials.stimulus_ids, repetition_slots) for subject_trials in trials]

    def __getitem__(self, index: BatchIndex) -> BrainBatch:
        """The batch of the trials that a sampler picked, voxels in float32."""
        stimulus_ids = np.concatenate([self.trials[place].stimulus_ids[taken] for place, taken in index])
        return BrainBatch(
            voxels=[self._betas(place, taken) for place, taken in index],  # (b, V_s)
            subject_index=[place for place, _ in index],
            stimulus_ids=torch.from_numpy(stimulus_ids),  # (B,)
            tokens=_rows(self.tokens, stimulus_ids),  # (B, S, D)
            latents=None if self.latents is None else _rows(self.latents, stimulus_ids),  # (B, C, h * w)
            maps=None if self.maps is None else _rows(self.maps, stimulus_ids),  # (B, K * M, 512)
            repetitions=self._repetitions(index),  # (b, R, V_s)
            captions=None if self.captions is None else _rows(self.captions, stimulus_ids),  # (B, C, D)
            views=None if self.views is None else _rows(self.views, stimulus_ids),  # (B, K, D)
        )

    def _betas(self, place: int, rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.voxels[place][rows]).float()

    def _repetitions(self, index: BatchIndex) -> list[torch.Tensor] | None:
        if self.slots is None:
            return None
        return [self._betas(place, self.slots[place][taken]) for place, taken in index]


def _rows(table: TokenSource, stimulus_ids: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(table[stimulus_ids]))
