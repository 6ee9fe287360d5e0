"""A dataset written from arrays is read back, and contradictory arrays are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.layout.trials import count_sessions, load_test_trials, load_training_trials
from mindeye_pl.data.layout.writer import write_images, write_subject
from mindeye_pl.errors import UserError


def image_files(folder: Path, *sides: int) -> list[Path]:
    files = [folder / f"{index}.png" for index in range(len(sides))]
    for index, (path, side) in enumerate(zip(files, sides, strict=True)):
        Image.new("RGB", (side, side), (51 * index, 0, 255)).save(path)
    return files


def test_images_and_trials_are_read_back(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    write_images(layout, image_files(tmp_path, 4, 4, 4))
    betas = np.arange(7 * 5, dtype=np.float32).reshape(7, 5)
    ids = np.array([0, 1, 2, 0, 1, 2, 0])
    write_subject(layout, 3, betas=betas, stimulus_ids=ids, is_test=ids == 2, sessions=np.array([1, 1, 1, 1, 2, 2, 2]))
    images = Stimuli(layout.stimuli).read(np.array([1]))
    assert images.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(images[0, :, 0, 0], [0.2, 0, 1], atol=1e-3)
    assert count_sessions(layout, 3) == 2
    training, cache = load_training_trials(layout, 3, "all", tmp_path / "cache"), tmp_path / "cache"
    assert training.stimulus_ids.tolist() == [0, 1, 0, 1, 0]
    assert training.sessions.tolist() == [1, 1, 1, 2, 2], "the last session has three trials"
    test = load_test_trials(layout, 3, "new_test", cache)
    assert test.beta_rows.tolist() == [2, 5]
    np.testing.assert_array_equal(read_betas(layout, 3, test.beta_rows), betas[[2, 5]])


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1\.png has another size"):
        write_images(DataLayout(tmp_path), image_files(tmp_path, 4, 8))


def test_contradictory_arrays_are_refused(tmp_path: Path) -> None:
    layout, betas, ids = DataLayout(tmp_path), np.zeros((4, 2)), np.array([0, 1, 0, 1])
    is_test, sessions = np.array([True, False, False, False]), np.ones(4, int)
    with pytest.raises(UserError, match=r"both trained on and tested .*image 0"):
        write_subject(layout, 1, betas=betas, stimulus_ids=ids, is_test=is_test, sessions=sessions)
    with pytest.raises(UserError, match="arrays of different lengths"):
        write_subject(layout, 1, betas=betas[:3], stimulus_ids=ids, is_test=ids == 0, sessions=sessions)
    with pytest.raises(UserError, match=r"sessions out of order \(got: \[1, 3\]"):
        write_subject(layout, 1, betas=betas, stimulus_ids=ids, is_test=ids == 0, sessions=np.array([1, 1, 3, 3]))
    with pytest.raises(UserError, match="sessions out of order"):
        write_subject(layout, 1, betas=betas, stimulus_ids=ids, is_test=ids == 0, sessions=np.array([1, 2, 1, 2]))
