"""Mind Reader's split against a walk through the trials, one by one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.betas import AsPublished, read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.layout.splits import ImageWiseName, LeftOutLast, by_first_appearance, read_split
from mindeye_pl.data.layout.test_set import REPETITION_WEIGHTS, load_test_set
from mindeye_pl.data.layout.trials import count_sessions, load_all_trials
from mindeye_pl.errors import UserError
from tests.data.small_nsd import NUM_SHARED, TRIALS_PER_SESSION, StubTokens


@pytest.mark.parametrize("percent", [1, 50, 85, 99])
def test_names(percent: int) -> None:
    name = f"image_wise_{percent}"
    assert read_split(name) == ImageWiseName(percent)
    assert str(read_split(name)) == name


@pytest.mark.parametrize("name", ["image_wise", "image_wise_0", "image_wise_100", "image_wise_085", "image_wise_8.5"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match=rf"no such split .got: {name}; .*or image_wise_\{{percent\}} with 1 to 99"):
        read_split(name)


def every_trial(layout: DataLayout, subject: int) -> list[tuple[int, int, int]]:
    """(beta row, stimulus id, session) of all trials in order of time, read without the reader of trials."""
    shards = [layout.shard(subject, "train", index) for index in range(count_sessions(layout, subject))]
    rows = np.concatenate([read_behaviour(shard) for shard in [*shards, layout.shard(subject, "new_test")]])
    columns = [Behaviour.BETA_ROW, Behaviour.STIMULUS, Behaviour.SESSION]
    return sorted(tuple(row) for row in rows[:, columns].astype(int).tolist())


def split_of(layout: DataLayout, cache: Path, percent: int, sessions: int | float | str, subject: int = 1):
    name = ImageWiseName(percent)
    return LeftOutLast.of_subject(name, layout, subject, sessions, test_split="new_test", cache_dir=cache)


def module(layout: DataLayout, cache: Path, left_out: LeftOutLast, **more) -> TrialDataModule:
    options = {"batch_size": 4, "trials_per_session": TRIALS_PER_SESSION, "validation_fraction": 0.2} | more
    return TrialDataModule(
        layout.root, (1, 2), cache_dir=cache, targets={"tokens": StubTokens()}, left_out=left_out, **options
    )


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(percent=st.integers(20, 95), num_sessions=st.sampled_from([0.5, 1, 1.25, 2, "all"]))
def test_images_in_order_of_first_appearance(small_nsd, tmp_path, percent: int, num_sessions) -> None:
    everything = every_trial(small_nsd, 1)
    in_use = everything if num_sessions == "all" else everything[: round(num_sessions * TRIALS_PER_SESSION)]
    order = list(dict.fromkeys(stimulus for _, stimulus, _ in in_use))
    trained = set(order[: len(order) * percent // 100])
    tested = set(order) - trained

    left_out = split_of(small_nsd, tmp_path / "cache", percent, num_sessions)
    data = module(small_nsd, tmp_path / "cache", left_out, num_sessions=num_sessions)
    trials, others = data.trials
    assert trials.beta_rows.tolist() == [row for row, stimulus, _ in in_use if stimulus in trained]
    assert trials.stimulus_ids.tolist() == [stimulus for _, stimulus, _ in in_use if stimulus in trained]
    test_set = data.test_set(1)
    assert test_set.stimulus_ids.tolist() == sorted(tested)
    assert not trained & set(test_set.stimulus_ids.tolist())
    counts = [sum(stimulus == one for _, stimulus, _ in in_use) for one in sorted(tested)]
    assert test_set.num_repetitions.tolist() == counts
    assert not tested & set(others.stimulus_ids.tolist()), "nobody is trained on them"
    assert others.subject == 2
    for kind in (data.train_trials, data.validation_trials):
        assert all(not tested & set(one.stimulus_ids.tolist()) for one in kind)


def test_shared_images_are_not_special_and_other_subjects_unchanged(small_nsd, tmp_path) -> None:
    left_out = split_of(small_nsd, tmp_path / "cache", 85, "all")
    data = module(small_nsd, tmp_path / "cache", left_out)
    own, others = data.trials
    shared = set(range(NUM_SHARED))
    assert shared & set(own.stimulus_ids.tolist())
    assert not shared & set(others.stimulus_ids.tolist()), "of another subject those of its training split"
    standard = TrialDataModule(small_nsd.root, (2,), cache_dir=tmp_path / "cache", targets={"tokens": StubTokens()})
    before = standard.trials[0].beta_rows[~left_out.holds(standard.trials[0].stimulus_ids)]
    assert others.beta_rows.tolist() == before.tolist()


@pytest.mark.parametrize("repetitions", ["published", "corrected"])
def test_responses_are_those_of_the_tested_images(small_nsd, tmp_path, repetitions: str) -> None:
    left_out = split_of(small_nsd, tmp_path / "cache", 60, 2)
    how = {
        "normalisation": AsPublished(),
        "cache_dir": tmp_path / "cache",
        "repetitions": repetitions,
        "max_repetitions": 3,
    }
    test_set = load_test_set(small_nsd, 1, left_out=left_out, **how)
    betas = read_betas(small_nsd, 1, np.arange(3 * TRIALS_PER_SESSION))
    for place, id_ in enumerate(test_set.stimulus_ids.tolist()):
        rows = [row for row, stimulus, session in every_trial(small_nsd, 1) if stimulus == id_ and session <= 2]
        assert set(test_set.voxels[place, :, 0].int().tolist()) == set(rows), "voxel 0 tells the row"
        np.testing.assert_array_equal(test_set.voxels[place, 0], betas[rows[0]])
        np.testing.assert_array_equal(test_set.weights[place], REPETITION_WEIGHTS[repetitions](3)[len(rows)])
    with pytest.raises(AssertionError, match="subject 1 is tested"):
        load_test_set(small_nsd, 2, left_out=left_out, **how)


def test_more_sessions_of_the_same_subject_leave_out_the_same_images(small_nsd, tmp_path) -> None:
    """As the ridge encoder and the ceiling are fitted on all sessions, whatever the decoder had."""
    left_out = split_of(small_nsd, tmp_path / "cache", 85, 1)
    data = module(small_nsd, tmp_path / "cache", left_out, num_sessions="all")
    seen = set(data.trials[0].stimulus_ids.tolist())
    assert not seen & set(left_out.stimulus_ids.tolist())
    assert seen | set(left_out.stimulus_ids.tolist()) == {stimulus for _, stimulus, _ in every_trial(small_nsd, 1)}


def test_too_few_images_for_two_sides(small_nsd, tmp_path) -> None:
    with pytest.raises(UserError, match=r"nothing to train on, or nothing to test .got: image_wise_1 of \d+ images"):
        split_of(small_nsd, tmp_path / "cache", 1, 1)


def test_order_of_first_appearance() -> None:
    assert by_first_appearance(np.array([7, 3, 7, 9, 3, 1])).tolist() == [7, 3, 9, 1]


def test_all_trials_of_the_sessions_in_use(small_nsd, tmp_path) -> None:
    everything = every_trial(small_nsd, 2)
    for sessions, count in ((1, TRIALS_PER_SESSION), (1.5, 1.5 * TRIALS_PER_SESSION), ("all", len(everything))):
        trials = load_all_trials(small_nsd, 2, sessions, "new_test", tmp_path / "cache")
        found = zip(trials.beta_rows.tolist(), trials.stimulus_ids.tolist(), trials.sessions.tolist(), strict=True)
        assert list(found) == everything[: int(count)]
    with pytest.raises(UserError, match=r"data\.num_sessions is out of range for subject 2 .*got: 9"):
        load_all_trials(small_nsd, 2, 9, "new_test", tmp_path / "cache")
