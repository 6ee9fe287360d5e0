import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mindeye_pl.data.layout.betas import AsPublished, ZScoreTrainSessions, read_betas
from mindeye_pl.data.layout.test_set import (
    REPETITION_WEIGHTS,
    average_repetitions,
    fill_repetitions,
    first_repetitions,
    load_test_set,
)
from mindeye_pl.errors import UserError


def naive_published_rows(stimulus_ids: list[int]) -> list[list[int]]:
    """Fill each image's slots: a, a, a from one repetition, a, a, b from two, a, b, c from three."""
    rows = []
    for image in sorted(set(stimulus_ids)):
        found = [trial for trial, stimulus in enumerate(stimulus_ids) if stimulus == image]
        rows.append({1: found * 3, 2: [found[0], *found], 3: found}[len(found)])
    return rows


@given(st.permutations([5, 5, 5, 2, 2, 9, 0, 0, 0, 7, 7, 7, 1]))
def test_fill_repetitions_equals_a_loop(stimulus_ids):
    assert fill_repetitions(np.array(stimulus_ids), 3).tolist() == naive_published_rows(stimulus_ids)


# Shared images 0 (three times), 1 (twice), 2 (once), 4 (twice, once in the last session); 3 and 5 do not occur.
DESIGN = np.array([[1, 10, 0, 4, 11], [12, 0, 2, 1, 12], [4, 13, 10, 0, 14]])


@pytest.mark.parametrize("repetitions", ["published", "corrected"])
def test_average_repetitions_equals_a_loop(write_nsd, tmp_path, repetitions):
    layout = write_nsd(DESIGN)
    test_set = load_test_set(
        layout, 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache", repetitions=repetitions
    )
    assert test_set.stimulus_ids.tolist() == [0, 1, 2, 4]
    assert test_set.num_repetitions.tolist() == [3, 2, 1, 2]
    assert test_set.voxels.shape == (4, 3, 4)
    assert test_set.voxels.dtype == torch.float32
    torch.testing.assert_close(test_set.weights.sum(1), torch.ones(4))

    outputs = test_set.voxels.square()[..., None].expand(
        -1, -1, -1, 2
    )  # a model that is not affine, with two outputs per voxel
    answers = average_repetitions(outputs, test_set.weights)
    betas = torch.from_numpy(read_betas(layout, 1, np.arange(15))).square()
    shown = DESIGN.ravel()
    for answer, image in zip(answers, [0, 1, 2, 4], strict=True):
        rows = list(np.flatnonzero(shown == image))
        if repetitions == "published" and len(rows) == 2:
            rows = [rows[0], *rows]
        torch.testing.assert_close(answer[:, 1], betas[rows].mean(0))


def test_a_single_response_is_the_first(write_nsd, tmp_path):
    layout = write_nsd(DESIGN)
    how = {"normalisation": AsPublished(), "cache_dir": tmp_path / "cache", "repetitions": "single"}
    test_set = load_test_set(layout, 1, **how)
    first = [int(np.flatnonzero(DESIGN.ravel() == image)[0]) for image in (0, 1, 2, 4)]
    averaged = average_repetitions(test_set.voxels, test_set.weights)
    np.testing.assert_array_equal(averaged, read_betas(layout, 1, np.arange(15))[first])


@pytest.mark.parametrize("repetitions", ["published", "corrected", "single"])
def test_voxels_are_averaged_before_the_model_or_outputs_after_it(write_nsd, tmp_path, repetitions):
    layout, how = write_nsd(DESIGN), {"normalisation": AsPublished(), "repetitions": repetitions}
    outputs, voxels = (
        load_test_set(layout, 1, cache_dir=tmp_path / "cache", averaging=averaging, **how)
        for averaging in ("outputs", "voxels")
    )
    assert [part.shape for part in outputs.queries()] == [(4, 3, 4), (4, 3)]
    queries, weights = voxels.queries()
    assert torch.equal(weights, torch.ones(4, 1))
    torch.testing.assert_close(queries[:, 0], average_repetitions(outputs.voxels, outputs.weights))
    first = first_repetitions(voxels.num_repetitions, 1, 3)
    torch.testing.assert_close(voxels.queries(first)[0][:, 0], average_repetitions(outputs.voxels, first))


def test_older_split_lacks_the_last_sessions(write_nsd, tmp_path):
    test_set = load_test_set(
        write_nsd(DESIGN), 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache", split="test"
    )
    assert test_set.stimulus_ids.tolist() == [0, 1, 2, 4]
    assert test_set.num_repetitions.tolist() == [2, 2, 1, 1]


def test_normalisation_is_applied(write_nsd, tmp_path):
    layout = write_nsd(DESIGN)
    normalisation = ZScoreTrainSessions(np.full(4, 2, np.float32), np.full(4, 4, np.float32))
    published, scaled = (
        load_test_set(layout, 1, normalisation=choice, cache_dir=tmp_path / "cache")
        for choice in (AsPublished(), normalisation)
    )
    torch.testing.assert_close(scaled.voxels, (published.voxels - 2) / 4)


def test_more_repetitions_than_given_are_refused(write_nsd, tmp_path):
    layout = write_nsd(np.array([[1, 1, 1, 1, 9]]))
    how = {"normalisation": AsPublished(), "cache_dir": tmp_path / "cache"}
    refusal = r"0\.tar has too many repetitions of an image \(got: 4; expected: 1 to 3, data\.max_repetitions\)"
    with pytest.raises(UserError, match=rf"{refusal}\. Fix: data\.max_repetitions=4"):
        load_test_set(layout, 1, max_repetitions=3, **how)
    assert load_test_set(layout, 1, **how).voxels.shape == (1, 4, 4), "as many as there are"


@pytest.mark.parametrize("repetitions", ["published", "corrected", "single"])
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 3))
def test_any_number_of_slots(repetitions: str, shown: list[int], more: int) -> None:
    """Weights sum to one, corrected ones average what was recorded, and every slot shows its image."""
    ids, counts = np.unique(shown, return_counts=True)
    slots = int(counts.max()) + more
    rows, weights = fill_repetitions(np.array(shown), slots), REPETITION_WEIGHTS[repetitions](slots)[counts]
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    for id_, of_image, weight, count in zip(ids, rows, weights, counts, strict=True):
        recorded = np.flatnonzero(np.array(shown) == id_)
        assert set(of_image.tolist()) == set(recorded.tolist())
        of_trial = np.bincount(of_image, weight, len(shown))[recorded]
        if repetitions == "corrected":
            np.testing.assert_allclose(of_trial, 1 / count, rtol=1e-6)
        if repetitions == "single":
            assert of_trial.tolist() == [1, *[0] * (count - 1)]


def test_split_without_trials_is_refused(write_nsd, tmp_path):
    layout = write_nsd(DESIGN[:1])  # the older split excludes the only session
    with pytest.raises(UserError, match=r"test/0\.tar contains no test trial\. Fix: another data\.test_split"):
        load_test_set(layout, 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache", split="test")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_first_repetitions_equals_a_loop(write_nsd, tmp_path, count):
    layout = write_nsd(DESIGN)
    test_set = load_test_set(layout, 1, normalisation=AsPublished(), cache_dir=tmp_path / "cache")
    weights = first_repetitions(test_set.num_repetitions, count, 3)
    averaged = average_repetitions(test_set.voxels, weights)
    stimuli = DESIGN.ravel()  # betas rows are in temporal order
    betas = read_betas(layout, 1, np.arange(len(stimuli)))
    for image, found in zip(test_set.stimulus_ids.tolist(), averaged.numpy(), strict=True):
        responses = betas[np.flatnonzero(stimuli == image)[:count]]
        np.testing.assert_allclose(found, responses.mean(0), atol=1e-6)
