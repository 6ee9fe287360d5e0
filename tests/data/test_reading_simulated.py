"""NSD reader on simulated files; reader and simulation share only the layout."""

import h5py
import numpy as np
import pytest
import torch

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout, fingerprint_files
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.layout.stimuli import Stimuli
from tests.data.small_nsd import StubTokens


@pytest.fixture
def data(tiny_nsd, tiny_settings, tmp_path) -> TrialDataModule:
    return TrialDataModule(
        tiny_nsd,
        tiny_settings.subjects,
        cache_dir=tmp_path / "cache",
        targets={"tokens": StubTokens()},
        batch_size=12,
        trials_per_session=tiny_settings.trials_per_session,
        validation_fraction=0.1,
    )


def test_every_trial_is_in_one_split(data, tiny_settings):
    assert data.voxel_counts == dict(tiny_settings.voxel_counts)
    for trials in data.trials:
        test_rows = read_behaviour(data.layout.shard(trials.subject, "new_test"))[:, Behaviour.BETA_ROW]
        every_row = np.sort(np.append(trials.beta_rows, test_rows))
        np.testing.assert_array_equal(every_row, np.arange(len(every_row)))
        assert len(every_row) == tiny_settings.sessions_of(trials.subject) * tiny_settings.trials_per_session


def test_splits_have_disjoint_images(data, tiny_settings):
    data.setup()
    for index, subject in enumerate(tiny_settings.subjects):
        splits = [
            set(data.train_trials[index].stimulus_ids.tolist()),
            set(data.validation_trials[index].stimulus_ids.tolist()),
            set(data.test_set(subject).stimulus_ids.tolist()),
        ]
        assert sum(map(len, splits)) == len(set.union(*splits))
        assert len(splits[2]) == tiny_settings.num_shared
    assert data.stimulus_ids_needed().max() < len(Stimuli(data.layout.stimuli))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_betas_and_images_match_the_behaviour(data, num_workers):
    """Compare each batch with the files, read without the reader."""
    data.num_workers = num_workers
    data.setup()
    betas, shown = {}, {}
    for subject in data.subjects:
        with h5py.File(data.layout.betas(subject)) as file:
            betas[subject] = torch.from_numpy(file["betas"][:])
        index = range(len(list(data.layout.shard(subject, "train").parent.iterdir())))
        behaviour = np.concatenate([read_behaviour(data.layout.shard(subject, "train", i)) for i in index])
        shown[subject] = dict(behaviour[:, [Behaviour.BETA_ROW, Behaviour.STIMULUS]].astype(int).tolist())
    for loader in (data.train_dataloader(), data.val_dataloader()):
        for batch in loader:
            ids = iter(batch.stimulus_ids.tolist())
            for index, voxels in zip(batch.subject_index, batch.voxels, strict=True):
                subject = data.subjects[index]
                rows = (betas[subject][None] == voxels[:, None]).all(-1).int().argmax(1).tolist()
                assert torch.equal(betas[subject][rows], voxels)
                assert [shown[subject][row] for row in rows] == [next(ids) for _ in rows]


def test_equal_worlds_have_equal_fingerprints(tiny_nsd, tiny_settings, tmp_path):
    from mindeye_pl.data.simulated.world import simulate_nsd

    (tmp_path / "again").mkdir()
    simulate_nsd(tiny_settings, tmp_path / "again", workers=1, progress=False)
    subjects, splits = tiny_settings.subjects, ("train", "new_test", "test")
    assert fingerprint_files(DataLayout(tmp_path / "again"), subjects, splits) == fingerprint_files(
        DataLayout(tiny_nsd), subjects, splits
    )
