"""File layout of a simulated world, and the content that other files repeat."""

import json
from dataclasses import asdict

import h5py
import numpy as np

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scenes import captions
from mindeye_pl.data.simulated.world import FORMAT_VERSION, stimulus_ids, stimulus_scene
from tests.data.simulated.small_world import SMALL, behaviour, betas, ncsnr, shard


def test_simulated_files_have_the_nsd_layout(small):
    with h5py.File(small.stimuli) as file:
        assert file["images"].shape == (SMALL.num_stimuli, 3, 16, 16)
        assert file["images"].dtype == np.float16
    with h5py.File(small.region_masks) as masks:
        for subject, count in SMALL.voxel_counts.items():
            group = masks[f"subj0{subject}"]
            assert set(group) == set(nsd.ROIS)
            assert all(mask.shape == (count,) and mask.dtype == bool for mask in group.values())
            assert group["nsd_general"][:].all()
    for subject, count in SMALL.voxel_counts.items():
        values = betas(small, subject)
        assert values.shape == (SMALL.sessions_of(subject) * SMALL.trials_per_session, count)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert ncsnr(small, subject).shape == (count,)
        with h5py.File(small.noise_free(subject)) as file:
            assert file["responses"].dtype == np.float32
            assert file["stimulus_ids"].dtype == np.int64
            assert file["responses"].shape == (len(file["stimulus_ids"]), count)
            assert (np.diff(file["stimulus_ids"]) > 0).all()
    facts = json.loads(small.simulation.read_text())
    assert facts["simulated"] is True
    assert facts["format_version"] == FORMAT_VERSION
    assert facts["settings"] == json.loads(json.dumps(asdict(SMALL)))


def test_simulated_shards_have_the_published_format(small):
    for subject in SMALL.subjects:
        sessions = SMALL.sessions_of(subject)
        train = [shard(small.shard(subject, "train", index)) for index in range(sessions)]
        assert not small.shard(subject, "train", sessions).exists()
        names = [name for samples in train for name in samples]
        assert names == [f"sample{number:09d}" for number in range(len(names))]  # numbered over the whole split
        new_test, old_test = shard(small.shard(subject, "new_test")), shard(small.shard(subject, "test"))
        for split in (new_test, old_test):
            assert list(split) == [f"sample{number:09d}" for number in range(len(split))]
        for sample in [*train[0].values(), *new_test.values()]:
            shapes = {kind: array.shape for kind, array in sample.items()}
            assert shapes == {"behav": (1, 17), "past_behav": (15, 17), "future_behav": (15, 17), "olds_behav": (3, 17)}
            assert all(array.dtype == np.float64 for array in sample.values())
        early = [sample for sample in new_test.values() if sample["behav"][0, Behaviour.SESSION] <= sessions - 3]
        np.testing.assert_equal([*old_test.values()], early)
        assert 0 < len(old_test) < len(new_test)


def test_neighbours_and_old_trials_equal_loops(small):
    subject = 4
    rows, length = behaviour(small, subject), SMALL.trials_per_session
    missing = np.full(17, -1.0)
    for sample in [
        *shard(small.shard(subject, "train", 0)).values(),
        *list(shard(small.shard(subject, "new_test")).values())[:60],
    ]:
        trial = int(sample["behav"][0, Behaviour.BETA_ROW])
        np.testing.assert_array_equal(sample["behav"][0], rows[trial])
        first = trial // length * length
        for offset in range(15):
            before, after = trial - 1 - offset, trial + 1 + offset
            np.testing.assert_array_equal(sample["past_behav"][offset], rows[before] if before >= first else missing)
            expected = rows[after] if after < first + length else missing
            np.testing.assert_array_equal(sample["future_behav"][offset], expected)
        others = [row for row in rows if row[0] == rows[trial, Behaviour.STIMULUS] and row[Behaviour.BETA_ROW] != trial]
        expected = np.stack([*others, *[missing] * (3 - len(others))])
        np.testing.assert_array_equal(sample["olds_behav"], expected)


def test_shared_images_are_in_the_test_split_only(small):
    for subject in SMALL.subjects:
        shared, own = stimulus_ids(SMALL, subject)
        for index in range(SMALL.sessions_of(subject)):
            for sample in shard(small.shard(subject, "train", index)).values():
                row = sample["behav"][0]
                assert row[Behaviour.SESSION] == index + 1
                assert row[Behaviour.IS_SHARED1000] == 0
                assert row[Behaviour.STIMULUS] in own
        for sample in shard(small.shard(subject, "new_test")).values():
            assert sample["behav"][0, Behaviour.IS_SHARED1000] == 1
            assert sample["behav"][0, Behaviour.STIMULUS] in shared


def test_every_image_belongs_to_a_subject():
    shared = [stimulus_ids(SMALL, subject)[0] for subject in SMALL.subjects]
    own = [stimulus_ids(SMALL, subject)[1] for subject in SMALL.subjects]
    np.testing.assert_array_equal(shared[0], shared[1])
    every = np.sort(np.concatenate([shared[0], *own]))
    np.testing.assert_array_equal(every, np.arange(SMALL.num_stimuli))


def test_images_and_captions_match_the_scene(small):
    described = json.loads(small.captions.read_text())
    assert len(described) == SMALL.num_stimuli
    with h5py.File(small.stimuli) as file:
        for id_ in (0, 1, 200, SMALL.num_stimuli - 1):
            scene = stimulus_scene(SMALL.seed, id_)
            np.testing.assert_array_equal(file["images"][id_], render(scene, 16).astype(np.float16))
            assert described[id_] == captions(scene)
            assert all(f"{each.colour} {each.category}" in described[id_][0] for each in scene.objects)
