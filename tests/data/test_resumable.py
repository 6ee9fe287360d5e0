"""Samplers and loaders that resume behind the batches that were done."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import Dataset

from mindeye_pl.data.image_datamodule import ShuffledBatches
from mindeye_pl.data.resumable import FixedBatches, ResumableLoader, ResumableSampler
from mindeye_pl.data.sampling import SAMPLERS
from tests.data.small_nsd import make_trials


class Same(Dataset):
    """Items are the indices."""

    def __getitem__(self, index: int) -> int:
        return index


class Epochs(ResumableSampler[int]):
    """Five batches with the number of the epoch."""

    epoch = 0

    def batches(self) -> Iterator[int]:
        return iter(range(10 * self.epoch, 10 * self.epoch + 5))

    def __len__(self) -> int:
        return 5


def loader(**more: int) -> ResumableLoader:
    return ResumableLoader(Same(), sampler=Epochs(), batch_size=None, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_resumes_after_the_batches_that_are_done(workers: int) -> None:
    stopped, resumed = loader(num_workers=workers), loader(num_workers=workers)
    assert list(islice(stopped, 3)) == [0, 1, 2]
    resumed.load_state_dict(stopped.state_dict())
    assert len(resumed) == 5
    assert list(islice(resumed, 1)) == [3]
    assert resumed.state_dict() == {"batches_taken": 4}, "stopped a second time"
    assert list(resumed) == [0, 1, 2, 3, 4], "the next pass is whole"
    assert resumed.state_dict() == {"batches_taken": 0}


@pytest.mark.parametrize("workers", [0, 1])
def test_an_iterator_made_early_reads_the_epoch_that_is_set_later(workers: int) -> None:
    early = loader(num_workers=workers, persistent_workers=workers > 0)
    iterator = iter(early)
    early.sampler.epoch = 2  # type: ignore[attr-defined]
    assert list(iterator) == [20, 21, 22, 23, 24]


def test_fixed_batches_never_change() -> None:
    sampler = FixedBatches(["a", "b"])
    assert list(sampler) == list(sampler) == ["a", "b"]
    assert len(sampler) == 2
    sampler.first = 1
    assert list(sampler) == ["b"]


@pytest.mark.parametrize("rule", list(SAMPLERS))
def test_the_samplers_of_trials(rule: str) -> None:
    trials = [make_trials(np.repeat(np.arange(20), 3), 60)]
    whole, resumed = (SAMPLERS[rule](trials, batch_size=4, trials_per_session=60, seed=0) for _ in range(2))
    for sampler in (whole, resumed):
        sampler.set_epoch(3)
    resumed.first = 2
    for (_, trial), (_, other) in zip([b[0] for b in whole][2:], [b[0] for b in resumed], strict=True):
        np.testing.assert_array_equal(trial, other)


def test_the_sampler_of_images() -> None:
    whole, resumed = (ShuffledBatches(np.arange(20), 3, seed=0, steps_per_epoch=9) for _ in range(2))
    for sampler in (whole, resumed):
        sampler.set_epoch(1)
    resumed.first = 4
    np.testing.assert_array_equal(list(whole)[4:], list(resumed))
