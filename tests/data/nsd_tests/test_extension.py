"""Further sessions of NSD become test splits; NSD's own trials stay as they are."""

from pathlib import Path

import numpy as np
import pytest

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.layout.trials import load_test_trials, load_training_trials
from mindeye_pl.data.nsd_tests.extension import extend
from mindeye_pl.data.nsd_tests.imagery import IMAGERY, RUNS, VISION, Imagery
from mindeye_pl.data.nsd_tests.synthetic import SPLIT, Synthetic
from mindeye_pl.errors import UserError
from tests.data.nsd_tests import small_sessions as small
from tests.data.released.planted import agreement, within_session

pytest.importorskip("nibabel")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    folder = tmp_path / "released"
    folder.mkdir()
    return folder


@pytest.fixture
def nsd(tmp_path: Path) -> DataLayout:
    return small.write_nsd(tmp_path / "nsd", tmp_path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".hdf5"])
def test_synthetic_is_read_back(nsd: DataLayout, released: Path, tmp_path: Path, suffix: str) -> None:
    small.write_synthetic(released, suffix)
    facts = extend(nsd, small.SUBJECTS, [Synthetic(released)], tmp_path / "made")
    layout, cache, order = DataLayout(tmp_path / "made"), tmp_path / "cache", small.synthetic_order()
    assert facts["subj02"] == {"trials of NSD": 72, SPLIT: len(order)}
    assert layout.test_splits(1) == ["new_test", SPLIT]
    for subject in small.SUBJECTS:
        trials = load_test_trials(layout, subject, SPLIT, cache)
        assert trials.beta_rows.tolist() == list(range(72, 72 + len(order)))
        saw = small.synthetic_images(subject)[order - 1][:, :, 16:48]
        pixels = Stimuli(layout.stimuli).read(trials.stimulus_ids).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(pixels, saw / 255, atol=0.05)  # stored linear values near black are coarse
        betas = read_betas(layout, subject, trials.beta_rows)
        recorded = np.rint(small.brain(subject).responses(saw) * 300)
        np.testing.assert_allclose(betas, within_session(recorded), atol=1e-5)
        assert agreement(betas, small.brain(subject), saw) > 0.8
    ids = [set(load_test_trials(layout, subject, SPLIT, cache).stimulus_ids) for subject in small.SUBJECTS]
    assert len(ids[0] & ids[1]) == small.NUM_SHARED_SYNTHETIC, "colours are each subject's own"


def test_trials_of_nsd_stay_as_they_are(nsd: DataLayout, released: Path, tmp_path: Path) -> None:
    small.write_synthetic(released)
    extend(nsd, [2], [Synthetic(released)], tmp_path / "made")
    layout, cache = DataLayout(tmp_path / "made"), tmp_path / "cache"
    assert layout.subjects() == [2]
    both = [load_training_trials(one, 2, "all", cache) for one in (nsd, layout)]
    for name in ("stimulus_ids", "beta_rows", "sessions"):
        np.testing.assert_array_equal(*(getattr(trials, name) for trials in both))
    rows = np.arange(72)
    np.testing.assert_array_equal(read_betas(nsd, 2, rows), read_betas(layout, 2, rows))
    np.testing.assert_array_equal(*(Stimuli(one.stimuli).read(np.arange(24)) for one in (nsd, layout)))


def imagery_rows(runs: list[str]) -> dict[str, np.ndarray]:
    lengths = [len(small.imagery_conditions(run)) for run in RUNS]
    starts = np.cumsum([0, *lengths])
    return {run: np.arange(starts[i], starts[i + 1]) for i, run in enumerate(RUNS) if run in runs}


@pytest.mark.parametrize("order", ["by_onset", "by_condition"])
def test_imagery_is_read_back_in_both_orders(nsd: DataLayout, released: Path, tmp_path: Path, order, capsys) -> None:
    small.write_imagery(released, by_condition=order == "by_condition")
    extend(nsd, [1], [Imagery(released, order)], tmp_path / "made")
    printed = capsys.readouterr().out
    assert "correlation of responses to one seen image" in printed
    assert "fits these responses better" not in printed
    layout, cache = DataLayout(tmp_path / "made"), tmp_path / "cache"
    for split, runs in ((VISION, ["visA", "visB"]), (IMAGERY, ["imgA_1", "imgB_1", "imgA_2", "imgB_2"])):
        trials = load_test_trials(layout, 1, split, cache)
        rows = np.concatenate(list(imagery_rows(runs).values()))
        np.testing.assert_array_equal(trials.beta_rows, 72 + rows)
        conditions = [small.imagery_conditions(run) for run in runs]
        if order == "by_condition":
            conditions = [np.sort(one) for one in conditions]
        saw = [small.imagery_image(run, one) for run, each in zip(runs, conditions, strict=True) for one in each]
        pixels = Stimuli(layout.stimuli).read(trials.stimulus_ids).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(pixels, np.stack(saw) / 255, atol=1e-3)
        assert agreement(read_betas(layout, 1, trials.beta_rows), small.brain(1), np.stack(saw)) > 0.8


def test_a_wrong_order_is_noticed(nsd: DataLayout, released: Path, tmp_path: Path, capsys) -> None:
    small.write_imagery(released, by_condition=True)
    extend(nsd, [1], [Imagery(released)], tmp_path / "made")
    assert "data.order_in_runs=by_condition fits these responses better" in capsys.readouterr().out


def test_files_that_do_not_fit_are_refused(nsd: DataLayout, released: Path, tmp_path: Path) -> None:
    small.write_synthetic(released)
    path = Synthetic(released).betas_file(1)
    small.write_betas(path, 1, small.brain(1).responses(np.zeros((5, 32, 32, 3))))
    with pytest.raises(UserError, match=r"does not fit NSD's files of subject 1 .*\(5, "):
        extend(nsd, [1], [Synthetic(released)], tmp_path / "made")
    Synthetic(released).mask(2).unlink()
    with pytest.raises(UserError, match=r"nsdgeneral.nii.gz is missing"):
        extend(nsd, [2], [Synthetic(released)], tmp_path / "other")
