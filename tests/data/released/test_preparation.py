"""The writer of the working layout from a dataset's files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore as peer_zscore

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.regions import read_ncsnr, read_regions
from mindeye_pl.data.layout.stimuli import Stimuli
from mindeye_pl.data.released import preparation
from mindeye_pl.data.released.preparation import Preparation, Recorded, noise_ceiling_to_ncsnr, prepare, zscore
from mindeye_pl.errors import UserError
from tests.data.released.planted import Brain, images
from tests.data.released.read_back import Known, assert_prepared


class Small(Preparation):
    """Two sessions of eight and four trials of six images."""

    lengths = (8, 4)

    def files(self) -> list[Path]:
        return []

    def images(self) -> Iterator[np.ndarray]:
        for pixels in images(6, side=16):
            yield np.pad(pixels.transpose(2, 0, 1), ((0, 0), (0, 0), (3, 3)))

    def shown(self, subject: int) -> np.ndarray:
        return np.random.default_rng(subject).permutation(np.repeat(np.arange(6), 2))

    def trials(self, subject: int) -> Recorded:
        ids = self.shown(subject)
        return Recorded(ids, ids < 2, np.repeat([1, 2], [8, 4]))

    def recorded(self, subject: int) -> np.ndarray:
        return Brain(9, seed=subject).responses(images(6, side=16)[self.shown(subject)])

    def betas(self, subject: int) -> Iterator[np.ndarray]:
        yield from np.split(self.recorded(subject), np.cumsum(self.lengths))[: len(self.lengths)]

    def regions(self, subject: int) -> dict[str, np.ndarray]:
        return {"odd": np.arange(9) % 2 == 1}

    def ncsnr(self, subject: int) -> np.ndarray:
        return np.full(9, subject / 10)


def test_prepared_twice_in_one_folder_it_is_the_same(tmp_path: Path) -> None:
    """As after a kill."""
    small = Small(tmp_path, [1, 2], 16)
    for _ in range(2):
        facts = prepare(small, tmp_path / "made")
    assert facts["subj02"] == {"trials": 12, "sessions": 2, "voxels": 9, "test images": 2, "training images": 4}
    layout = DataLayout(tmp_path / "made")
    for subject in (1, 2):
        ids = small.shown(subject)
        shown, sessions = images(6, side=16)[ids], np.repeat([1, 2], [8, 4])
        assert_prepared(layout.root, subject, Known(shown, sessions, ids < 2, small.recorded(subject)))
        assert read_regions(layout, subject)["odd"].sum() == 4
        np.testing.assert_allclose(read_ncsnr(layout, subject), subject / 10, rtol=1e-6)
    assert not layout.splits.exists()


def test_images_of_another_size_are_resized(tmp_path: Path) -> None:
    prepare(Small(tmp_path, [1], 8), tmp_path)
    small = Stimuli(DataLayout(tmp_path).stimuli).read(np.arange(6)).transpose(0, 2, 3, 1)
    squares = images(6, side=8) / 255
    assert np.abs(small - squares).mean() < 0.1
    assert np.corrcoef(small.ravel(), squares.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("lengths", "says"),
    [((8,), r"sessions are missing \(got: 1; expected: 2"), ((7, 5), r"7 responses in session 1; expected: 8")],
)
def test_responses_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch, lengths: tuple[int, ...], says: str
) -> None:
    monkeypatch.setattr(Small, "lengths", lengths)
    with pytest.raises(UserError, match=says):
        prepare(Small(tmp_path, [1], 16), tmp_path / "made")


def test_zscores_agree_with_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_VOXELS_PER_BLOCK", 2)
    betas = np.random.default_rng(0).normal(3, 2, (20, 7)).astype(np.float32)
    scores, missing = zscore(betas)
    np.testing.assert_allclose(scores, peer_zscore(betas.astype(np.float64)), atol=1e-6)
    assert missing == 0
    betas[3, 0], betas[5, 1], betas[:, 2] = np.nan, np.inf, 0.1
    scores, missing = zscore(betas)
    assert missing == 3
    assert not scores[:, :3].any()
    np.testing.assert_allclose(scores[:, 3:], peer_zscore(betas[:, 3:].astype(np.float64)), atol=1e-6)


def test_noise_ceilings_are_those_of_the_ratio() -> None:
    ratio = np.array([0, 0.2, 1, 3])
    for repetitions in (1, 12):
        percent = 100 * ratio**2 / (ratio**2 + 1 / repetitions)
        np.testing.assert_allclose(noise_ceiling_to_ncsnr(percent, repetitions), ratio, rtol=1e-5, atol=1e-6)
    found = noise_ceiling_to_ncsnr(np.array([np.nan, 100, -5]), 1)
    assert np.isfinite(found).all()
    assert found[0] == found[2] == 0
