"""Synthetic trials of a subject: images that it never saw, with the responses that an encoder predicts.

Legend: m synthetic trials, V voxels, b trials of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DistributedSampler

from mindeye_pl.data.layout.trials import Trials
from mindeye_pl.data.resumable import ResumableSampler
from mindeye_pl.data.sampling import BatchIndex, EqualShareSampler
from mindeye_pl.errors import UserError


@dataclass(frozen=True, eq=False)
class SyntheticTrials:
    """Trials that nobody has measured.

    Attributes:
        stimulus_ids: `(m,)` int64, distinct images that are neither trained on, nor validated, nor tested.
        betas: `(m, V)` float16 or float32, normalised as the measured betas are; memory-mapped is fine.
        fraction: of every training batch.
    """

    stimulus_ids: np.ndarray
    betas: np.ndarray
    fraction: float

    def trials(self, subject: int) -> Trials:
        """Return the trials of the first session, with rows that no file of betas has."""
        count = len(self.stimulus_ids)
        return Trials(subject, self.stimulus_ids, np.full(count, -1), np.ones(count, np.int64))

    def share(self, batch_size: int) -> int:
        """Return how many of a batch's trials are synthetic.

        Raises:
            UserError: if it would be none or all of them.
        """
        share = round(self.fraction * batch_size)
        if not 0 < share < batch_size:
            got = f"{self.fraction} of a batch of {batch_size}"
            raise UserError(
                "finetune.synthetic_fraction leaves a batch of one kind of trials", got=got, fix="0 for none"
            )
        return share


class WithSynthetic(ResumableSampler[BatchIndex], DistributedSampler[BatchIndex]):
    """Batches of one subject's measured trials, each followed by a batch of its synthetic ones.

    Synthetic trials are numbered after the measured ones. Both samplers have equally many batches.
    """

    def __init__(self, measured: EqualShareSampler, synthetic: EqualShareSampler):
        assert len(measured) == len(synthetic), (len(measured), len(synthetic))
        super().__init__(range(len(measured)), num_replicas=measured.num_replicas, rank=measured.rank)  # type: ignore[arg-type]
        self.measured, self.synthetic = measured, synthetic
        self.share = measured.share + synthetic.share

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of both samplers."""
        super().set_epoch(epoch)
        self.measured.set_epoch(epoch)
        self.synthetic.set_epoch(epoch)

    def batches(self) -> Iterator[BatchIndex]:
        """Yield the batches of this epoch on this rank."""
        first = len(self.measured.trials[0])
        for ((_, measured),), ((_, synthetic),) in zip(self.measured.batches(), self.synthetic.batches(), strict=True):
            yield [(0, np.concatenate([measured, first + synthetic]))]

    def __len__(self) -> int:
        return len(self.measured)
