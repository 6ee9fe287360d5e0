import hashlib
import io
import json
import tarfile
import tracemalloc
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mindeye_pl.config import conf_dir
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.data.nsd.constants import Behaviour
from mindeye_pl.data.nsd.design import find_previous_presentations
from mindeye_pl.data.nsd.layout import NSDLayout
from mindeye_pl.data.simulated.design import draw_design
from mindeye_pl.data.simulated.rendering import render
from mindeye_pl.data.simulated.scenes import captions
from mindeye_pl.data.simulated.world import (
    FORMAT_VERSION,
    SimulationSettings,
    simulate_nsd,
    stimulus_ids,
    stimulus_scene,
)
from mindeye_pl.errors import UserError

#: Enough trials for statistics, with subjects of different length as in NSD.
SMALL = SimulationSettings(
    name="small",
    seed=5,
    voxel_counts={1: 60, 4: 40},
    num_sessions={1: 8, 4: 6},
    trials_per_session=150,
    repetitions=3,
    num_shared=80,
    image_size=16,
    figure_gain=1.0,
    noise_level=1.0,
    noise_spread=0.4,
    correlated_noise=0.1,
    session_drift=0.2,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> NSDLayout:
    root = tmp_path_factory.mktemp("world") / "small"
    simulate_nsd(SMALL, root, workers=0, progress=False)
    return NSDLayout(root)


def read_shard(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return arrays by sample and kind, in the shard's order."""
    samples: dict[str, dict[str, np.ndarray]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            sample, kind, suffix = member.name.split(".")
            assert suffix == "npy"
            content = tar.extractfile(member)
            assert content is not None
            samples.setdefault(sample, {})[kind] = np.load(io.BytesIO(content.read()), allow_pickle=False)
    return samples


@cache
def shard(path: Path) -> dict[str, dict[str, np.ndarray]]:
    return read_shard(path)


def behaviour(layout: NSDLayout, subject: int) -> np.ndarray:
    """Return all trials of a subject in temporal order, read from its shards."""
    shards = [shard(layout.shard(subject, "train", index)) for index in range(SMALL.sessions_of(subject))]
    shards.append(shard(layout.shard(subject, "new_test")))
    rows = np.concatenate([sample["behav"] for samples in shards for sample in samples.values()])
    return rows[np.argsort(rows[:, Behaviour.BETA_ROW])]


def betas(layout: NSDLayout, subject: int) -> np.ndarray:
    with h5py.File(layout.betas(subject)) as file:
        return file["betas"][:]


def ncsnr(layout: NSDLayout, subject: int) -> np.ndarray:
    with h5py.File(layout.ncsnr) as file:
        return file[f"subj0{subject}"][:]


def hashes(root: Path) -> dict[str, str]:
    """Return the hashes of all arrays and files below the folder."""
    found = {}

    def add(name: str, content: bytes) -> None:
        found[name] = hashlib.sha256(content).hexdigest()

    for path in sorted(root.rglob("*")):
        if path.suffix == ".hdf5":
            with h5py.File(path) as file:
                arrays: dict[str, h5py.Dataset] = {}
                file.visititems(
                    lambda key, item, into=arrays: into.update({key: item} if isinstance(item, h5py.Dataset) else {})
                )
                for key, item in arrays.items():
                    add(f"{path.name}/{key} {item.shape} {item.dtype}", item[()].tobytes())
        elif path.is_file():
            add(str(path.relative_to(root)), path.read_bytes())
    return found


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
            assert shapes == {
                "behav": (1, 17),
                "past_behav": (15, 17),
                "future_behav": (15, 17),
                "olds_behav": (3, 17),
            }
            assert all(array.dtype == np.float64 for array in sample.values())
        early = [sample for sample in new_test.values() if sample["behav"][0, Behaviour.SESSION] <= sessions - 3]
        np.testing.assert_equal([*old_test.values()], early)
        assert 0 < len(old_test) < len(new_test)


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


@pytest.mark.parametrize("subject", SMALL.subjects)
def test_behaviour_columns_are_consistent(small, subject):
    rows = behaviour(small, subject)
    length = SMALL.trials_per_session
    trial = np.arange(len(rows))
    np.testing.assert_array_equal(rows[:, Behaviour.BETA_ROW], trial)  # each row of the betas once
    assert (rows[:, Behaviour.SUBJECT] == subject).all()
    np.testing.assert_array_equal(rows[:, Behaviour.SESSION], 1 + trial // length)
    for session in range(SMALL.sessions_of(subject)):
        runs = rows[session * length : (session + 1) * length, Behaviour.RUN]
        assert set(runs) == set(range(1, 13))
        assert (np.diff(runs) >= 0).all()
        assert np.ptp(np.unique(runs, return_counts=True)[1]) <= 1
        for run in range(1, 13):
            trials = rows[session * length : (session + 1) * length, Behaviour.TRIAL][runs == run]
            np.testing.assert_array_equal(trials, 1 + np.arange(len(trials)))
    assert (np.diff(rows[:, Behaviour.TIME]) > 0).all()
    seen: dict[float, int] = {}
    for row in rows:  # an observer who remembers everything
        last = seen.get(row[Behaviour.STIMULUS])
        assert row[Behaviour.IS_OLD] == (last is not None)
        assert row[Behaviour.IS_OLD_CURRENT] == (last == row[Behaviour.SESSION])
        seen[row[Behaviour.STIMULUS]] = row[Behaviour.SESSION]
    counts = np.unique(rows[:, Behaviour.STIMULUS], return_counts=True)[1]
    complete = SMALL.sessions_of(subject) == SMALL.designed_sessions
    assert (counts == 3).all() if complete else counts.max() == 3
    answered = rows[rows[:, Behaviour.BUTTON] > 0]
    says_old = answered[:, Behaviour.BUTTON] == 2
    np.testing.assert_array_equal(answered[:, Behaviour.IS_CORRECT], says_old == answered[:, Behaviour.IS_OLD])
    silent = rows[rows[:, Behaviour.BUTTON] < 0]
    missing = [Behaviour.IS_CORRECT, Behaviour.REACTION_TIME, Behaviour.CHANGE_MIND, Behaviour.IS_CORRECT_CURRENT]
    assert (silent[:, missing] == -1).all()
    assert (silent[:, [Behaviour.TOTAL_1, Behaviour.TOTAL_2]] == 0).all()


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


def test_repetitions_occur_within_and_across_sessions(small):
    rows = behaviour(small, 1)
    previous = find_previous_presentations(rows[:, Behaviour.STIMULUS])
    inside = rows[previous >= 0, Behaviour.IS_OLD_CURRENT].mean()
    assert 0.1 < inside < 0.9
    shared_per_session = [rows[rows[:, 2] == session, Behaviour.IS_SHARED1000].mean() for session in range(1, 9)]
    assert max(shared_per_session) < 2 * np.mean(shared_per_session)


def test_runs_of_nsd_have_63_and_62_trials():
    shared, own = np.arange(2), np.arange(2, 250)
    design = draw_design(
        np.random.default_rng(0), 1, shared, own, repetitions=3, trials_per_session=750, num_sessions=1
    )
    counts = np.unique(design.behaviour[:, Behaviour.RUN], return_counts=True)[1]
    np.testing.assert_array_equal(counts, [63, 62] * 6)


def test_betas_are_zscored_by_each_sessions_training_trials(small):
    for subject in SMALL.subjects:
        values, rows = betas(small, subject), behaviour(small, subject)
        for session in range(1, SMALL.sessions_of(subject) + 1):
            training = (rows[:, Behaviour.SESSION] == session) & (rows[:, Behaviour.IS_SHARED1000] == 0)
            np.testing.assert_allclose(values[training].mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(values[training].std(0), 1, atol=1e-5)  # population


def test_ncsnr_equals_the_estimate_from_repetitions(small):
    """Estimate ncsnr as NSD does: noise from the variance within images, signal from the rest."""
    for subject in SMALL.subjects:
        values, ids = betas(small, subject), behaviour(small, subject)[:, Behaviour.STIMULUS]
        within, freedom = np.zeros(values.shape[1]), 0
        for id_ in np.unique(ids):
            repetitions = values[ids == id_].astype(float)
            within += ((repetitions - repetitions.mean(0)) ** 2).sum(0)
            freedom += len(repetitions) - 1
        noise = within / freedom
        estimate = np.sqrt(np.maximum(values.var(0) - noise, 0) / noise)
        known = ncsnr(small, subject)
        assert np.corrcoef(estimate, known)[0, 1] > 0.95
        assert abs(np.median(estimate / known) - 1) < 0.08


def test_noise_free_responses_reach_the_noise_ceiling(small):
    for subject in SMALL.subjects:
        values, ids = betas(small, subject), behaviour(small, subject)[:, Behaviour.STIMULUS]
        with h5py.File(small.noise_free(subject)) as file:
            seen, responses = file["stimulus_ids"][:], file["responses"][:]
        np.testing.assert_array_equal(seen, np.unique(ids))
        known = ncsnr(small, subject)
        np.testing.assert_allclose(responses.std(0), known / np.sqrt(1 + known**2), rtol=1e-3)  # the betas' units
        np.testing.assert_allclose(responses.mean(0), 0, atol=1e-4)
        three = [id_ for id_ in seen if (ids == id_).sum() == 3]
        mean = np.stack([values[ids == id_].mean(0) for id_ in three])
        signal = responses[np.searchsorted(seen, three)]
        correlation = ((mean - mean.mean(0)) * (signal - signal.mean(0))).mean(0) / (mean.std(0) * signal.std(0))
        expected = known / np.sqrt(known**2 + 1 / 3)
        assert np.abs(correlation - expected).max() < 0.12
        assert abs((correlation - expected).mean()) < 0.02
        factor = ((mean - mean.mean(0)) * signal).mean(0) / signal.var(0)
        assert abs(np.median(factor) - 1) < 0.05  # the units are equal too


def test_images_and_captions_match_the_scene(small):
    described = json.loads(small.captions.read_text())
    assert len(described) == SMALL.num_stimuli
    with h5py.File(small.stimuli) as file:
        for id_ in (0, 1, 200, SMALL.num_stimuli - 1):
            scene = stimulus_scene(SMALL.seed, id_)
            np.testing.assert_array_equal(file["images"][id_], render(scene, 16).astype(np.float16))
            assert described[id_] == captions(scene)
            assert all(
                f"{scene_object.colour} {scene_object.shape}" in described[id_][0] for scene_object in scene.objects
            )


def test_number_of_workers_changes_nothing(tiny_settings, tiny_nsd, tmp_path):
    simulate_nsd(tiny_settings, tmp_path / "two", workers=2, progress=False)
    assert hashes(tmp_path / "two") == hashes(Path(tiny_nsd))


def test_seed_changes_the_world(tiny_settings, tiny_nsd, tmp_path):
    simulate_nsd(replace(tiny_settings, seed=1), tmp_path / "other", workers=0, progress=False)
    other, same = hashes(tmp_path / "other"), hashes(Path(tiny_nsd))
    assert other.keys() == same.keys()
    equal = {name for name in same if same[name] == other[name]}
    assert {name for name in equal if "nsd_general" not in name} == set()


def test_world_without_noise(tiny_settings, tmp_path):
    simulate_nsd(replace(tiny_settings, noise_level=0.0), tmp_path, workers=0, progress=False)
    layout = NSDLayout(tmp_path)
    assert np.isinf(ncsnr(layout, 1)).all()
    values = betas(layout, 1)
    rows = np.concatenate(
        [sample["behav"] for sample in read_shard(layout.shard(1, "train", 0)).values()],
    )
    repeated = rows[rows[:, Behaviour.IS_OLD_CURRENT] == 1]
    for row in repeated:
        first = rows[rows[:, Behaviour.STIMULUS] == row[Behaviour.STIMULUS]][0]
        rows_of_both = [int(one[Behaviour.BETA_ROW]) for one in (first, row)]
        np.testing.assert_array_equal(*values[rows_of_both])


@pytest.mark.slow
def test_memory_does_not_grow_with_sessions(tmp_path):
    """Twice the sessions need no more memory; the whole betas matrix is never in memory."""

    # More images than one block of responses, so that only memory per session could grow.
    settings = replace(SMALL, voxel_counts={1: 1500}, num_sessions=3, trials_per_session=300, num_shared=20)

    def peak(num_sessions: int) -> int:
        tracemalloc.start()
        simulate_nsd(
            replace(settings, num_sessions=num_sessions), tmp_path / str(num_sessions), workers=0, progress=False
        )
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(1)  # warm up the caches: filters, reference scenes
    short, long = peak(3), peak(6)
    betas_growth = 3 * 300 * 1500 * 4
    assert long - short < betas_growth / 3


@pytest.mark.parametrize("name", ["laptop", "tiny", "fullsize"])
def test_simulation_configs_are_valid(name):
    config = OmegaConf.load(conf_dir() / "simulation" / f"{name}.yaml")
    plain: SimulationSettings = instantiate(config)
    assert plain == instantiate(config, _convert_="all")
    assert plain.name == name
    assert type(plain.voxel_counts) is dict
    assert all(type(subject) is int for subject in plain.voxel_counts)
    json.dumps(asdict(plain))


def test_fullsize_has_nsds_numbers():
    settings: SimulationSettings = instantiate(OmegaConf.load(conf_dir() / "simulation" / "fullsize.yaml"))
    assert isinstance(settings.num_sessions, Mapping)
    assert dict(settings.voxel_counts) == nsd.VOXEL_COUNTS
    assert dict(settings.num_sessions) == nsd.SESSION_COUNTS
    assert settings.num_stimuli == nsd.NUM_STIMULI
    assert settings.stimuli_per_subject == nsd.STIMULI_PER_SUBJECT
    assert settings.image_size == nsd.IMAGE_SIZE
    assert settings.num_shared == nsd.NUM_SHARED_STIMULI


@pytest.mark.parametrize(
    "wrong",
    [
        {"voxel_counts": {}},
        {"voxel_counts": {9: 10}, "num_sessions": 3},
        {"num_sessions": {1: 8}},
        {"trials_per_session": 151},
        {"num_shared": 0},
        {"num_shared": 399},
    ],
    ids=str,
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(UserError, match=r"simulation\."):
        replace(SMALL, **wrong)
