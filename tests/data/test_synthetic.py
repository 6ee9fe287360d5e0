"""Synthetic trials in the batches of one subject."""

import numpy as np
import pytest

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.synthetic import SyntheticTrials
from mindeye_pl.errors import UserError
from tests.data.small_nsd import TRIALS_PER_SESSION, StubTokens

FIRST_ID, MARK = 1000, -5.0


def data(small_nsd: DataLayout, cache: str, fraction: float, count: int = 40, **options: object) -> TrialDataModule:
    made = TrialDataModule(
        small_nsd.root, [1], cache_dir=cache, targets={"tokens": StubTokens()}, sampling="corrected",
        **({"batch_size": 8, "trials_per_session": TRIALS_PER_SESSION, "validation_fraction": 0.2} | options),
    )  # fmt: skip
    made.synthetic = SyntheticTrials(np.arange(FIRST_ID, FIRST_ID + count), np.full((count, 7), MARK), fraction)
    made.setup()
    return made


def test_every_batch_has_its_fraction_and_no_image_twice(small_nsd: DataLayout, tmp_path) -> None:
    made = data(small_nsd, tmp_path, 0.25)
    without = data(small_nsd, tmp_path, 0.25)
    without.synthetic = None
    loader = made.train_dataloader()
    assert len(loader) == len(without.train_dataloader())
    own = set(made.train_trials[0].stimulus_ids.tolist())
    drawn = []
    for batch in loader:
        ids, is_synthetic = batch.stimulus_ids.numpy(), batch.stimulus_ids.numpy() >= FIRST_ID
        assert (len(batch), is_synthetic.sum(), len(set(ids))) == (8, 2, 8)
        assert batch.subject_index == [0]
        assert np.array_equal((batch.voxels[0] == MARK).all(1).numpy(), is_synthetic)
        assert set(ids[~is_synthetic].tolist()) <= own
        assert batch.targets["tokens"][:, 0, 0].tolist() == ids.tolist()
        drawn += ids[is_synthetic].tolist()
    assert len(set(drawn)) == len(drawn), "no image is used twice before all were used"
    assert set(range(FIRST_ID, FIRST_ID + 40)) <= set(made.stimulus_ids_needed().tolist())
    for batch in made.val_dataloader():
        assert (batch.stimulus_ids < FIRST_ID).all()
        assert not (batch.voxels[0] == MARK).any()


def test_epochs_and_ranks_draw_other_trials(small_nsd: DataLayout, tmp_path) -> None:
    made = data(small_nsd, tmp_path, 0.5, count=400, batch_size=4)
    measured = len(made.train_trials[0])

    def drawn(rank: int, epoch: int) -> list[list[int]]:
        sampler = made.train_sampler(rank, 2)
        sampler.set_epoch(epoch)
        return [rows.tolist() for ((_, rows),) in sampler]

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1)
    flat = [{row for batch in drawn(rank, 0) for row in batch if row >= measured} for rank in (0, 1)]
    assert not flat[0] & flat[1]
    sampler = made.train_sampler(0, 2)
    sampler.first = 1
    assert [rows.tolist() for ((_, rows),) in sampler] == drawn(0, 0)[1:]


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_a_batch_of_one_kind_is_refused(small_nsd: DataLayout, tmp_path, fraction: float) -> None:
    with pytest.raises(UserError, match="one kind"):
        data(small_nsd, tmp_path, fraction).train_sampler()
