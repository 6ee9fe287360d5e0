import h5py
import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mindeye_pl.data import datamodule as datamodule_file
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout import shards
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import check_files
from mindeye_pl.errors import UserError
from mindeye_pl.types import BatchGrowth
from tests.data.small_nsd import NUM_SHARED, TRIALS_PER_SESSION, StubTokens


@pytest.fixture
def make(small_nsd, tmp_path):
    def make(subjects=(1, 2), **settings) -> TrialDataModule:
        defaults = {"batch_size": 8, "trials_per_session": TRIALS_PER_SESSION, "validation_fraction": 0.2}
        return TrialDataModule(
            small_nsd.root,
            subjects,
            cache_dir=tmp_path / "cache",
            targets={"tokens": StubTokens()},
            **(defaults | settings),
        )

    return make


def batches_of(loader):
    return [(batch.stimulus_ids.tolist(), *batch.voxels) for batch in loader]


def test_batches_pair_each_brain_with_its_image(make, small_nsd):
    data = make()
    data.setup()
    assert data.voxel_counts == {1: 7, 2: 5}
    betas = [read_betas(small_nsd, subject, np.arange(60)) for subject in (1, 2)]
    shown = [{t.beta_rows[i]: t.stimulus_ids[i] for i in range(len(t))} for t in data.train_trials]
    loader = data.train_dataloader()
    assert len(loader) == 80 // 8
    for batch in loader:
        assert len(batch) == 8
        assert batch.subject_index == [0, 1]
        for place in (0, 1):
            rows = batch.voxels[place][:, 0].numpy().astype(int)  # voxel 0 tells the row
            assert [shown[place][row] for row in rows] == batch.stimulus_ids[4 * place : 4 * place + 4].tolist()
            assert not (rows < 60).all() or np.array_equal(batch.voxels[place], betas[place][rows])
        assert batch.targets["tokens"][:, 0, 0].tolist() == batch.stimulus_ids.tolist()


def test_validation_images_are_not_trained_on(make):
    data = make()
    data.setup()
    trained = {image for trials in data.train_trials for image in trials.stimulus_ids.tolist()}
    batches = list(data.val_dataloader())
    assert [batch.subject_index for batch in batches] == [[0], [1]]
    for batch in batches:
        images = batch.stimulus_ids.tolist()
        assert len(set(images)) == len(images) > 0
        assert min(images) >= NUM_SHARED
        assert not trained & set(images)
    needed = set(data.stimulus_ids_needed().tolist())
    assert needed == trained | {image for batch in batches for image in batch.stimulus_ids.tolist()}
    assert data.num_train_trials == sum(map(len, data.train_trials)) < sum(map(len, data.trials))


def test_validation_images_do_not_move_with_the_sessions(make):
    few, all_sessions = make((1,), num_sessions=2), make((1,), num_sessions="all")
    trained = set(all_sessions.train_trials[0].stimulus_ids.tolist())
    assert set(few.train_trials[0].stimulus_ids.tolist()) <= trained
    assert not set(few.validation_trials[0].stimulus_ids.tolist()) & trained


def test_validation_pool_and_none(make):
    assert len(make((1,), validation_pool=2).validation_trials[0]) == 2
    none = make((1,), validation_fraction=0)
    none.setup()
    assert none.val_dataloader() == []
    assert len(none.train_trials[0]) == len(none.trials[0])
    little = make(validation_fraction=1e-9)
    little.setup()
    with pytest.warns(UserWarning, match=r"2 subjects have no validation image .*data\.validation_fraction \(1e-09\)"):
        assert little.val_dataloader() == []


def test_images_held_out_at_least(make):
    data = make(validation_fraction=0, validation_images=5)
    assert [len(trials) for trials in data.validation_trials] == [5, 5]
    with pytest.raises(UserError, match=r"data\.validation_images leaves subject \d no training image"):
        _ = make(validation_images=10_000).train_trials


def test_validation_on_the_tested_images(make):
    data = make((1,), validate_on="tested", validation_fraction=0)
    data.setup()
    assert len(data.train_trials[0]) == len(data.trials[0]), "no training image is held out"
    (batch,) = data.val_dataloader()
    tested = data.test_set(1)
    assert sorted(batch.stimulus_ids.tolist()) == tested.stimulus_ids.tolist()
    first = {id_: voxels[0] for id_, voxels in zip(tested.stimulus_ids.tolist(), tested.voxels, strict=True)}
    for id_, voxels in zip(batch.stimulus_ids.tolist(), batch.voxels[0], strict=True):
        assert torch.equal(voxels, first[id_])
    assert set(tested.stimulus_ids.tolist()) <= set(data.stimulus_ids_needed().tolist())


@pytest.mark.parametrize("sampling", ["published", "corrected", "by_trial", "by_image"])
def test_workers_change_nothing(make, sampling):
    alone, with_workers = make(sampling=sampling), make(sampling=sampling, num_workers=2)
    for data in (alone, with_workers):
        data.setup()
    for loaders in (
        (data.train_dataloader() for data in (alone, with_workers)),
        (data.val_dataloader() for data in (alone, with_workers)),
    ):
        for batch, other in zip(*map(batches_of, loaders), strict=True):
            assert batch[0] == other[0]
            assert all(torch.equal(a, b) for a, b in zip(batch[1:], other[1:], strict=True))


def test_only_the_wanted_sessions_are_read(make, monkeypatch):
    read: list[int] = []

    def spy(layout, subject, rows):
        read.extend(rows.tolist())
        return read_betas(layout, subject, rows)

    monkeypatch.setattr(datamodule_file, "read_betas", spy)
    data = make((1,), num_sessions=2)
    assert len(data.stimulus_ids_needed())
    assert read == []
    data.setup()
    assert set(read) == set(data.train_trials[0].beta_rows) | set(data.validation_trials[0].beta_rows)
    assert max(read) < 2 * TRIALS_PER_SESSION
    assert len(read) == len(set(read))
    data.setup("fit")
    assert len(read) == len(set(read))


def test_second_module_opens_no_tar(make, monkeypatch):
    first = make().trials
    monkeypatch.setattr(shards, "read_behaviour", lambda shard: pytest.fail("a tar was read again"))
    np.testing.assert_array_equal(make().trials[1].beta_rows, first[1].beta_rows)


def test_zscore_by_the_training_trials_in_use(make, small_nsd):
    data = make(betas="zscore_train_sessions", num_sessions=2)
    data.setup()
    for place, subject in enumerate((1, 2)):
        train = read_betas(small_nsd, subject, data.train_trials[place].beta_rows)
        mean, std = train.mean(0), train.std(0)
        np.testing.assert_allclose(data._train_betas[place], (train - mean) / std, atol=1e-5)
        validation = read_betas(small_nsd, subject, data.validation_trials[place].beta_rows)
        np.testing.assert_allclose(data._validation_betas[place], (validation - mean) / std, atol=1e-5)
        published = make(num_sessions=2).test_set(subject)
        torch.testing.assert_close(
            make(betas="zscore_train_sessions", num_sessions=2).test_set(subject).voxels,
            (published.voxels - mean) / std,
            atol=1e-5,
            rtol=0,
        )


def test_half_precision_is_in_memory_alone(make):
    half, full = make(beta_dtype="float16"), make()
    for data in (half, full):
        data.setup()
    assert half._train_betas[0].dtype == np.float16
    batch, exact = next(iter(half.train_dataloader())), next(iter(full.train_dataloader()))
    assert batch.voxels[0].dtype == torch.float32
    assert torch.equal(batch.voxels[0], exact.voxels[0].half().float())


def test_user_mistakes(make):
    with pytest.raises(UserError, match=r"betas of subjects \[1, 2\].*Fix: data\.subjects=\[1, 2\]"):
        make((1, 5)).voxel_counts  # noqa: B018
    with pytest.raises(UserError, match=r"got: 4; expected: above 0 to 3, or all\)\. Fix: data\.num_sessions=3"):
        make(num_sessions=4).setup()
    with pytest.raises(UserError, match=r"too few distinct training images"):
        make((1,), num_sessions=1, batch_size=19).train_sampler()


def test_nan_in_any_used_row_stops(make, small_nsd):
    data = make((1,), num_sessions=1)
    with h5py.File(small_nsd.betas(1), "r+") as file:
        file["betas"][data.train_trials[0].beta_rows[3], 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        data.setup()


class Recorder(pl.LightningModule):
    """A module that notes the images of each epoch and trains nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: dict[int, list[int]] = {}
        self.validated: list[int] = []

    def training_step(self, batch, index):
        self.epochs.setdefault(self.current_epoch, []).extend(batch.stimulus_ids.tolist())
        return self.weight * batch.voxels[0].mean()

    def validation_step(self, batch, index):
        self.validated.extend(batch.subject_index)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_trainer_tells_the_sampler_its_epoch(make, tmp_path):
    data, model = make(), Recorder()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=data)
    for epoch in (0, 1):
        sampler = data.train_sampler()
        sampler.set_epoch(epoch)
        assert model.epochs[epoch] == [
            data.train_trials[place].stimulus_ids[trial]
            for batch in sampler
            for place, taken in batch
            for trial in taken
        ]
    assert model.epochs[0] != model.epochs[1]
    assert model.validated == [0, 1, 0, 1]


def test_overfitting_repeats_the_first_batches_in_every_epoch(make, tmp_path):
    data, model = make(), Recorder()
    trainer = pl.Trainer(
        max_epochs=3,
        overfit_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=data)
    first = [
        data.train_trials[place].stimulus_ids[trial]
        for batch in list(data.train_sampler())[:2]
        for place, taken in batch
        for trial in taken
    ]
    assert [model.epochs[epoch] for epoch in range(3)] == [first] * 3


def test_files_are_looked_for_before_anything_is_read(make, small_nsd):
    check_files(small_nsd, [1, 2])
    small_nsd.stimuli.unlink()
    with pytest.raises(UserError, match="is missing"):
        make().trials  # noqa: B018


@pytest.mark.parametrize("num_sessions", [2, "all"])
def test_slots_are_filled_by_the_sessions_in_use_alone(make, small_nsd, num_sessions):
    settings = {"num_sessions": num_sessions, "validation_fraction": 0.4}
    plain, data = make(**settings), make(repetition_slots=3, **settings)
    for module in (plain, data):
        module.setup()
    for loaders in ((m.train_dataloader() for m in (plain, data)), (m.val_dataloader() for m in (plain, data))):
        for batch, filled in zip(*loaders, strict=True):
            assert batch.repetitions is None
            assert all(map(torch.equal, batch.voxels, filled.voxels))
            assert torch.equal(batch.stimulus_ids, filled.stimulus_ids)
            images = iter(filled.stimulus_ids.tolist())
            for place, slots in zip(filled.subject_index, filled.repetitions, strict=True):
                known = data.trials[place]  # of the sessions in use
                betas = read_betas(small_nsd, known.subject, known.beta_rows)
                for filled_slots in slots:
                    repetitions = betas[known.stimulus_ids == next(images)]
                    np.testing.assert_array_equal(filled_slots, repetitions[np.arange(3) % len(repetitions)])


def test_slots_change_no_image_that_is_validated(make):
    few = make((1,), repetition_slots=3, validation_pool=2)
    few.setup()
    (batch,) = few.val_dataloader()
    assert len(batch) == len(few.validation_trials[0]) == 2
    assert len(few._validation_betas[0]) <= 2 * 3


class Epoch:
    """The attributes of a trainer that a data module reads."""

    global_rank, world_size, overfit_batches = 0, 1, 0

    def __init__(self, epoch: int):
        self.current_epoch = epoch


def test_batches_grow_from_an_epoch_on(make):
    data = make((1,), batch_size=4, sampling="corrected")
    data.setup()
    data.growth = BatchGrowth(2, 3)
    assert data.batches_of_epochs(4) == [20, 20, 6, 6]  # of the 80 trials of four sessions, nominally
    for epoch, (size, count) in enumerate([(4, 20), (4, 20), (12, 6)]):
        data.trainer = Epoch(epoch)
        assert [len(batch) for batch in data.train_dataloader()] == [size] * count


def test_batches_grow_no_larger_than_there_are_trials(make):
    data = make(batch_size=4, sampling="corrected")  # of two subjects
    data.growth = BatchGrowth(0, 1000)
    images = min(len(np.unique(trials.stimulus_ids)) for trials in data.train_trials)
    sampler = data.train_sampler()
    assert sampler.share == min(images, 40)
    assert data.batches_of_epochs(2) == [len(sampler)] * 2 == [80 // (2 * sampler.share)] * 2
    assert make(batch_size=4).batches_of_epochs(2) == [20, 20]


def test_ranks_split_the_larger_batches(make):
    data = make((1,), batch_size=4, sampling="corrected")
    data.growth = BatchGrowth(1, 3)
    assert data.batches_of_epochs(2, world_size=2) == [10, 3]
    drawn = [[index for _, index in batch] for rank in (0, 1) for batch in data.train_sampler(rank, 2, epoch=1)]
    rows = np.concatenate([index for batch in drawn for index in batch])
    assert len(rows) == 2 * 3 * 12
