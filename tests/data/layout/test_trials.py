import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.trials import (
    Trials,
    assign_trial_slots,
    count_sessions,
    cyclic_slots,
    is_validation,
    load_test_trials,
    load_training_trials,
)
from mindeye_pl.errors import UserError
from tests.data.small_nsd import NUM_SHARED, TRIALS_PER_SESSION, write_shard


def test_trials_from_behaviour_columns():
    behaviour = np.arange(34).reshape(2, 17).astype(float)
    trials = Trials.from_behaviour(3, behaviour)
    assert trials.subject == 3
    np.testing.assert_array_equal(trials.stimulus_ids, behaviour[:, Behaviour.STIMULUS])
    np.testing.assert_array_equal(trials.beta_rows, behaviour[:, Behaviour.BETA_ROW])
    np.testing.assert_array_equal(trials.sessions, behaviour[:, Behaviour.SESSION])
    assert trials.select(np.array([1])).beta_rows == [22]


@pytest.mark.parametrize("num_sessions", [1, 3, "all"])
def test_training_trials_of_the_first_sessions(small_nsd, tmp_path, num_sessions):
    trials = load_training_trials(small_nsd, 1, num_sessions, tmp_path / "cache")
    last = 4 if num_sessions == "all" else num_sessions
    np.testing.assert_array_equal(np.unique(trials.sessions), np.arange(1, last + 1))
    assert trials.stimulus_ids.min() >= NUM_SHARED
    np.testing.assert_array_equal(trials.sessions, 1 + trials.beta_rows // TRIALS_PER_SESSION)
    assert (np.diff(trials.beta_rows) > 0).all()


@pytest.mark.parametrize(("num_sessions", "whole"), [(0.25, 0), (0.5, 0), (1.5, 1), (3.1, 3)])
def test_fraction_of_a_session_is_its_first_trials(small_nsd, tmp_path, num_sessions, whole):
    part = load_training_trials(small_nsd, 1, num_sessions, tmp_path / "cache")
    more = load_training_trials(small_nsd, 1, whole + 1, tmp_path / "cache")
    earlier = int((more.sessions <= whole).sum())
    taken = round((num_sessions - whole) * int((more.sessions == whole + 1).sum()))
    assert len(part) == earlier + taken
    np.testing.assert_array_equal(part.beta_rows, more.beta_rows[: len(part)])


def test_smallest_fraction_is_one_trial(small_nsd, tmp_path):
    assert len(load_training_trials(small_nsd, 1, 1e-6, tmp_path / "cache")) == 1


def test_both_test_splits(small_nsd, tmp_path):
    new, old = (load_test_trials(small_nsd, 1, split, tmp_path / "cache") for split in ("new_test", "test"))
    assert new.stimulus_ids.max() < NUM_SHARED
    assert len(old) < len(new)
    np.testing.assert_array_equal(old.beta_rows, new.beta_rows[new.sessions < 4])
    train = load_training_trials(small_nsd, 1, "all", tmp_path / "cache")
    np.testing.assert_array_equal(np.sort(np.append(train.beta_rows, new.beta_rows)), np.arange(4 * TRIALS_PER_SESSION))


@pytest.mark.parametrize("asked", [0, 5, 40])
def test_num_sessions_out_of_range_is_refused(small_nsd, tmp_path, asked):
    assert count_sessions(small_nsd, 1) == 4
    with pytest.raises(UserError, match=rf"got: {asked}; expected: above 0 to 4, or all\)\. Fix: data\.num_sessions=4"):
        load_training_trials(small_nsd, 1, asked, tmp_path / "cache")


def test_missing_shards_are_refused(small_nsd, tmp_path):
    small_nsd.shard(1, "train", 1).unlink()
    with pytest.raises(UserError, match=r"1\.tar is missing"):
        load_training_trials(small_nsd, 1, "all", tmp_path / "cache")
    for index in (0, 2, 3):
        small_nsd.shard(1, "train", index).unlink()
    with pytest.raises(UserError, match=r"train contains no shards"):
        load_training_trials(small_nsd, 1, "all", tmp_path / "cache")


@pytest.mark.parametrize(
    ("column", "value", "target", "expected"),
    [
        (Behaviour.BETA_ROW, 80, "betas_all_subj01", "0 to 79"),
        (Behaviour.BETA_ROW, -1, "betas_all_subj01", "0 to 79"),
        (Behaviour.STIMULUS, 80, "coco_images", "0 to 79"),
        (Behaviour.STIMULUS, np.nan, "coco_images", "0 to 79"),
    ],
)
def test_rows_outside_their_files_are_refused(small_nsd, tmp_path, column, value, target, expected):
    row = np.full(17, 1.0)
    row[column] = value
    write_shard(small_nsd.shard(1, "train", 2), [(0, row)])
    load_training_trials(small_nsd, 1, 2, tmp_path / "cache")
    with pytest.raises(
        UserError, match=rf"2\.tar refers to a row outside .*{target}.*got: {value:g}; expected: {expected}\)"
    ):
        load_training_trials(small_nsd, 1, 3, tmp_path / "cache")


def test_betas_with_fewer_sessions_than_shards_are_refused(small_nsd, tmp_path):
    with h5py.File(small_nsd.betas(1), "w") as file:
        file["betas"] = np.zeros((TRIALS_PER_SESSION, 7), np.float32)
    with pytest.raises(UserError, match=r"wds/subj01/train/1\.tar refers to a row outside .*expected: 0 to 19\)"):
        load_training_trials(small_nsd, 1, 2, tmp_path / "cache")


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(0, 1000))
def test_validation_images_do_not_depend_on_other_images(seed, fraction, start):
    ids = np.arange(start, start + 50)
    whole = is_validation(ids, fraction, seed)
    np.testing.assert_array_equal(is_validation(ids[::3], fraction, seed), whole[::3])
    np.testing.assert_array_equal(is_validation(np.repeat(ids, 3), fraction, seed), np.repeat(whole, 3))


def test_fraction_of_validation_images():
    ids = np.arange(73_000)
    held_out = is_validation(ids, 0.05, seed=42)
    assert abs(held_out.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / len(ids))
    assert abs(held_out[1:][held_out[:-1]].mean() - 0.05) < 0.02  # neighbouring ids are independent
    assert (held_out & is_validation(ids, 0.05, seed=43)).mean() < 0.01
    assert not is_validation(ids, 0, seed=42).any()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 4))
def test_slots_equal_a_loop(stimulus_ids, num_slots):
    by_hand = []
    for image in sorted(set(stimulus_ids)):
        seen = [trial for trial, shown in enumerate(stimulus_ids) if shown == image]
        by_hand.append([seen[slot % len(seen)] for slot in range(num_slots)])
    assert cyclic_slots(np.array(stimulus_ids), num_slots).tolist() == by_hand
    images = sorted(set(stimulus_ids))
    trial_slots = assign_trial_slots(np.array(stimulus_ids), num_slots)
    assert trial_slots.tolist() == [by_hand[images.index(shown)] for shown in stimulus_ids]


def test_three_slots_contain_every_trial():
    stimulus_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    assert (assign_trial_slots(stimulus_ids, 3) == np.arange(150)[:, None]).any(1).all()


def test_at_least_so_many_images_are_held_out() -> None:
    ids = np.repeat(np.arange(178), 2)
    few, more = is_validation(ids, 0.05, 42), is_validation(ids, 0.05, 42, at_least=30)
    assert len(np.unique(ids[few])) < 30 == len(np.unique(ids[more]))
    assert not (few & ~more).any()
    np.testing.assert_array_equal(more[::2], more[1::2])
    np.testing.assert_array_equal(is_validation(ids, 0.5, 42, at_least=30), is_validation(ids, 0.5, 42))
    assert is_validation(ids, 0, 42, at_least=500).all()
