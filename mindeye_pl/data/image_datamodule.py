"""Batches of data of images without brains: pixels, captions, tokens, latents.

Legend: N images, B batch.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import Dataset, Sampler

from mindeye_pl.data.image_sources import Table, read_table
from mindeye_pl.data.resumable import FixedBatches, ResumableLoader, ResumableSampler, on_gpu
from mindeye_pl.types import ImageBatch


class ImageDataset(Dataset[ImageBatch]):
    """Tables with one row for each image; items are whole batches."""

    def __init__(self, tables: Mapping[str, Table]):
        self.tables = dict(tables)

    def __getitem__(self, ids: np.ndarray) -> ImageBatch:
        """Return the rows of the sampled images, floats in float32."""
        rows = {name: read_table(table, ids) for name, table in self.tables.items()}
        return ImageBatch({name: row.float() if row.is_floating_point() else row for name, row in rows.items()})


class ShuffledBatches(ResumableSampler[np.ndarray], Sampler[np.ndarray]):
    """Passes over the ids `(N,)`, each in an order that depends on the seed and the pass only; None keeps their order.

    The last incomplete batch of a pass is dropped. An epoch has `steps_per_epoch` batches over all ranks, a part of a
    pass or several; None is one pass. A rank takes every `world_size`-th batch of a pass.
    """

    def __init__(
        self,
        ids: np.ndarray,
        batch_size: int,
        seed: int | None,
        steps_per_epoch: int | None = None,
        *,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.ids, self.batch_size, self.seed, self.epoch = ids, batch_size, seed, 0
        self.rank, self.world_size = rank, world_size
        self._steps_per_pass = max(len(ids) // batch_size // world_size, 1)
        self._steps_per_epoch = max(steps_per_epoch // world_size, 1) if steps_per_epoch else self._steps_per_pass

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch, which Lightning calls before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._steps_per_epoch

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the ids of this rank's batches of the epoch, `(B,)` each."""
        first = self.epoch * len(self)
        ids = self._order(first // self._steps_per_pass)
        for step in range(first, first + len(self)):
            number, index = divmod(step, self._steps_per_pass)
            if index == 0 and step > first:
                ids = self._order(number)
            index = index * self.world_size + self.rank
            yield ids[index * self.batch_size : (index + 1) * self.batch_size]

    def _order(self, number: int) -> np.ndarray:
        """Return the ids in the order of a pass."""
        return self.ids if self.seed is None else np.random.default_rng((self.seed, number)).permutation(self.ids)


class ImageDataModule(LightningDataModule):
    """Training and validation batches of images: B images on one rank, with a column for each table.

    The last `num_validation` images, which may be 0, are for validation; `steps_per_epoch` is as in `ShuffledBatches`.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        num_images: int,
        batch_size: int,
        num_validation: int,
        *,
        seed: int,
        steps_per_epoch: int | None = None,
    ):
        super().__init__()
        self._seed, self._steps_per_epoch = seed, steps_per_epoch
        assert 0 <= num_validation < num_images, (num_validation, num_images)
        self._dataset, self._batch_size = ImageDataset(tables), batch_size
        self._train, self._held_out = np.split(np.arange(num_images), [num_images - num_validation])

    def train_dataloader(self) -> "ResumableLoader[ImageBatch]":
        """Return a loader of shuffled batches."""
        trainer = self.trainer
        ranks = {"rank": trainer.global_rank, "world_size": trainer.world_size} if trainer else {}
        sampler = ShuffledBatches(self._train, self._batch_size, self._seed, self._steps_per_epoch, **ranks)
        return self._loader(FixedBatches(list(sampler)) if getattr(trainer, "overfit_batches", 0) else sampler)

    def val_dataloader(self) -> "ResumableLoader[ImageBatch] | list":
        """Return a loader of the validation images, the same on every rank."""
        if not len(self._held_out):
            return []
        return self._loader(FixedBatches(list(ShuffledBatches(self._held_out, self._batch_size, None))))

    def _loader(self, sampler: ResumableSampler[np.ndarray]) -> "ResumableLoader[ImageBatch]":
        return ResumableLoader(self._dataset, sampler=sampler, batch_size=None, pin_memory=on_gpu(self.trainer))
